//! The verbs and their arguments, as clap reads them.

mod approve;
mod audit;
mod code;
mod incident;
mod init;
mod probe;
mod reason;
mod report;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use failover::ids::{InstanceId, Lsn, ServiceId, SiteId, VoterId};

use crate::screen::Output;

pub use approve::{Approve, Second};
pub use audit::{Audit, AuditExport, AuditList, AuditVerb, AuditVerify};
pub use code::Code;
pub use incident::{Collect, Incident, IncidentVerb, Since};
pub use init::Init;
pub use probe::{Probe, Sla};
pub use reason::Reason;
pub use report::{Format, Report, Verify};

/// The exit statuses, as `baton help exit-codes` prints them.
pub const EXIT_CODES: &str = "\
Exit statuses:
  0  done as asked; with `status --check`: all is well
  1  something failed, or was rolled back, or is not as it should be: the message says what
  2  the command line or a file is wrong: nothing was changed
  3  no voter could be reached, or the cluster has no leader
  4  refused by the cluster, with every reason: nothing was changed
  5  in doubt: the request was sent and its outcome is not known yet
  6  unknown: what `readiness` needs is not known, or not any more; `sla`: nothing was measured
  7  missed: `sla` worked it out, and the objective was not kept";

const GROUPS: &str = "\
{about}

{usage-heading} {usage}

Set up:
  init        Write a ready folder for a topology: authority, certificates, configs, unit files
  plan        Show what applying a topology file would change
  apply       Make the cluster take over a topology file
  voters      List, add or remove voters
  completions What a shell completes after `baton`
  man         The manual pages

Look:
  status      Everything on one screen
  watch       The same as it changes, on the screen or line by line
  explain     Why a service does or does not fail over, and which sites could be lost now
  readiness   Could each site be lost now: who takes over, what is lost, how long it takes
  what-if     What would follow from a loss, a cut or a freeze, decided on a copy
  history     What happened, newest last
  report      One change of primary: phases, positions, who was rejected and why
  incident    One archive of everything there is to know of the last hours, without secrets
  verify      A signed report, held against every byte of it; needs no cluster
  audit       Who did, asked and was refused what: list, export, verify
  alerts      What somebody must know and who was told; `test` tells every channel
  dns         Ask every authoritative server and compare
  doctor      Configuration, certificates, clocks, timing law
  probe       Write rows through the service's name and measure what clients feel
  sla         Availability by month and year against the objective, each interruption's cause

Act:
  switchover  Move the primary, planned: nothing is lost, rolls back when it cannot be done
  failover    Declare the primary lost and fail over now
  forgo       Give up commits in doubt, by their exact range, so that a lost primary can be replaced
  drill       Rehearse a disaster: list, plan, run, schedule, abort, report
  ack         Take an alert on: nobody is reminded of it any more
  approve     Say yes to what another person asked for, or list what waits for that
  hold        Pause automation of a service
  resume      Let automation go on, and acknowledge the last automatic failover

  help        Explain a verb: `baton help switchover`; `baton help exit-codes`

Options:
{options}

{after-help}";

const EXAMPLES: &str = "\
Examples:
  baton init topology.toml --out cluster/
  baton --config cluster/operator/baton.toml apply topology.toml --reason \"the first\"
  baton status
  baton switchover clinic --to roubaix-1 --reason \"kernel update in arezzo\"
  baton report 7 --journal probe.jsonl

Exit statuses: 0 done, 1 failed, 2 wrong command or file, 3 unreachable, 4 refused, 5 in doubt,
6 unknown, 7 missed (baton help exit-codes).";

/// Geo-redundant failover for PostgreSQL, decided by a quorum of sites and told through DNS.
#[derive(Debug, Parser)]
#[command(
    name = "baton",
    version,
    help_template = GROUPS,
    after_help = EXAMPLES,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb takes.
#[derive(Clone, Debug, Args)]
pub struct Globals {
    /// The operator's configuration [default: ./baton.toml, ~/.config/baton/baton.toml,
    /// /etc/baton/baton.toml]
    #[arg(long, global = true, env = "BATON_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How answers are printed
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// How long to wait for one answer of the cluster
    #[arg(long, global = true, value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = duration)]
    pub timeout: Duration,
    /// The six digits that your authenticator shows, where the cluster wants them of whoever
    /// changes something [default: asked on the terminal]
    #[arg(long, global = true, env = "BATON_CODE", value_name = "DIGITS", hide_env_values = true)]
    pub code: Option<Code>,
}

fn duration(text: &str) -> Result<Duration, String> {
    wire::config::duration::parse(text)
}

fn voter_id(text: &str) -> Result<VoterId, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a voter's number is 1 or more".to_owned()),
        Ok(number) => Ok(VoterId(number)),
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a ready folder for a topology: authority, certificates, configs, unit files
    Init(Init),
    /// Show what applying a topology file would change
    Plan(Plan),
    /// Make the cluster take over a topology file
    Apply(Apply),
    /// Everything on one screen
    Status(Status),
    /// The same as it changes, on the screen or line by line
    Watch(crate::watch::Arguments),
    /// Why a service does or does not fail over, and which sites could be lost now
    Explain(Explain),
    /// Could each site be lost now: who takes over, what is lost, how long it takes
    Readiness(crate::readiness::Arguments),
    /// What would follow from a loss, a cut or a freeze, decided on a copy
    WhatIf(WhatIf),
    /// Move the primary, planned: nothing is lost, rolls back when it cannot be done
    Switchover(Switchover),
    /// Declare the primary lost and fail over now
    Failover(Failover),
    /// Rehearse a disaster: list, plan, run, schedule, abort, report
    Drill(crate::drill::Arguments),
    /// Pause automation of a service
    Hold(Reasoned),
    /// Let automation go on, and acknowledge the last automatic failover
    Resume(Reasoned),
    /// Give up commits in doubt, by their exact range, so that a lost primary can be replaced
    Forgo(Forgo),
    /// Say yes to what another person asked for, or list what waits for that
    Approve(Approve),
    /// What happened, newest last
    History(History),
    /// One change of primary: phases, positions, who was rejected and why
    Report(Report),
    /// After an incident: one archive of all there is to know, without secrets
    Incident(Incident),
    /// A signed report, held against every byte of it; needs no cluster
    Verify(Verify),
    /// Who did, asked and was refused what: list, export, verify
    Audit(Audit),
    /// What somebody must know and who was told; `test` tells every channel
    Alerts(crate::alerts::Arguments),
    /// Take an alert on: nobody is reminded of it any more
    Ack(crate::alerts::Ack),
    /// List, add or remove voters
    Voters(Voters),
    /// Ask every authoritative server and compare
    Dns(Dns),
    /// Configuration, certificates, clocks, timing law
    Doctor,
    /// Write rows through the service's name and measure what clients feel
    Probe(Probe),
    /// Availability by month and year against the objective, each interruption's cause
    Sla(Sla),
    /// What a shell completes after `baton`
    Completions(Completions),
    /// The manual pages
    Man(Man),
    /// The exit statuses
    #[command(hide = true, long_about = EXIT_CODES)]
    ExitCodes,
}

/// `baton completions`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton completions bash > /etc/bash_completion.d/baton
  baton completions zsh > /usr/local/share/zsh/site-functions/_baton
  baton completions fish > ~/.config/fish/completions/baton.fish")]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `baton man`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton man | man -l -
  baton man --out /usr/local/share/man/man1")]
pub struct Man {
    /// Write one page a verb into this folder, which must exist [default: print the first page]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `baton plan`
#[derive(Debug, Args)]
pub struct Plan {
    /// The topology file [default: `topology` of the configuration]
    pub topology: Option<PathBuf>,
}

/// `baton apply`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  baton apply topology.toml --reason \"a third site for clinic\"

The difference is shown first. The cluster takes the new topology only if nobody changed it since
(compare-and-set by version).")]
pub struct Apply {
    /// The topology file [default: `topology` of the configuration]
    pub topology: Option<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub second: Second,
}

/// `baton status`
#[derive(Debug, Args)]
pub struct Status {
    /// Exit with 1 unless all is well
    #[arg(long)]
    pub check: bool,
}

/// `baton explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// The service
    pub service: ServiceId,
}

/// `baton what-if`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton what-if lose arezzo
  baton what-if cut arezzo roubaix
  baton what-if freeze arezzo-1 -o json

The leader decides on a copy of its state, with instances that do at once what they are told.
Nothing is changed. Times are those of the law; what machines take for their steps comes on top.
Exit status 4: what was named does not exist.")]
pub struct WhatIf {
    #[command(subcommand)]
    pub verb: WhatIfVerb,
}

/// What might happen.
#[derive(Debug, Subcommand)]
pub enum WhatIfVerb {
    /// Everything at a site falls silent at once
    Lose {
        /// The site
        site: SiteId,
    },
    /// Nothing passes between two sites any more
    Cut {
        /// One site
        one: SiteId,
        /// The other
        other: SiteId,
    },
    /// An instance stops without ending: its agent and its PostgreSQL
    Freeze {
        /// The instance
        instance: InstanceId,
    },
}

/// How long to stay after a request.
#[derive(Clone, Debug, Args)]
pub struct Waiting {
    /// Wait for the outcome and show each step (the default)
    #[arg(long, overrides_with = "no_wait")]
    pub wait: bool,
    /// Return as soon as the cluster has decided
    #[arg(long)]
    pub no_wait: bool,
    /// Give up watching after this long (exit status 5); the transition goes on
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub wait_timeout: Duration,
}

/// `baton switchover`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton switchover clinic --to roubaix-1 --reason \"kernel update in arezzo\"
  baton switchover clinic --to roubaix-1 --reason \"kernel update\" --dry-run

Ctrl-C ends the watching, never the switchover.")]
pub struct Switchover {
    /// The service
    pub service: ServiceId,
    /// The new primary [default: the best candidate]
    #[arg(long, value_name = "INSTANCE")]
    pub to: Option<InstanceId>,
    #[command(flatten)]
    pub reason: Reason,
    /// Only show what would happen, and the hash of that plan
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `baton failover`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton failover clinic --reason \"fire at arezzo\"
  baton failover clinic --accept-loss --journal probe.jsonl --reason \"arezzo and bari burned\"

For when you know that the primary is lost and baton cannot. Enough standbys are sealed first: what
was acknowledged is not lost even if you are wrong. To move a healthy primary use `switchover`.

Where that is refused because everyone who must be asked is lost for good, --accept-loss says first
what would be lost, wants the number of bytes typed back, and needs a second person.")]
pub struct Failover {
    /// The service
    pub service: ServiceId,
    #[command(flatten)]
    pub reason: Reason,
    /// Only show what would happen, and the hash of that plan
    #[arg(long)]
    pub dry_run: bool,
    /// Give up what only lost instances hold
    #[arg(long)]
    pub accept_loss: bool,
    /// The loss in bytes as it was shown, or `unknown`; not asked for on the terminal then
    #[arg(long, value_name = "BYTES", requires = "accept_loss", value_parser = loss_bytes)]
    pub loss_bytes: Option<LossBytes>,
    /// A probe writer's journal: how many of its acknowledged writes would be lost
    #[arg(long, value_name = "FILE", requires = "accept_loss")]
    pub journal: Option<PathBuf>,
    #[command(flatten)]
    pub waiting: Waiting,
}

/// A number of bytes; `None`: nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossBytes(pub Option<u64>);

/// Reads what is typed for a loss.
pub fn loss_bytes(text: &str) -> Result<LossBytes, String> {
    if text == "unknown" {
        return Ok(LossBytes(None));
    }
    let number = text.parse().map_err(|_| "a number of bytes, or `unknown`".to_owned())?;
    Ok(LossBytes(Some(number)))
}

/// `baton hold`, `baton resume`
#[derive(Debug, Args)]
pub struct Reasoned {
    /// The service
    pub service: ServiceId,
    #[command(flatten)]
    pub reason: Reason,
}

/// `baton forgo`
#[derive(Debug, Args)]
pub struct Forgo {
    /// The service
    pub service: ServiceId,
    /// What is given up, as `baton explain` names it: 0/3000A10..0/3000B28
    #[arg(long, value_parser = range)]
    pub range: (Lsn, Lsn),
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub second: Second,
}

fn range(text: &str) -> Result<(Lsn, Lsn), String> {
    let (from, to) = text.split_once("..").ok_or("two positions with `..` between them")?;
    let read = |text: &str| text.parse::<Lsn>().map_err(|error| error.to_string());
    Ok((read(from)?, read(to)?))
}

/// `baton history`
#[derive(Debug, Args)]
pub struct History {
    /// Only this service
    #[arg(long)]
    pub service: Option<ServiceId>,
    /// How many of the newest entries
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
}

/// `baton voters`
#[derive(Debug, Args)]
pub struct Voters {
    #[command(subcommand)]
    pub verb: Option<VotersVerb>,
}

/// What to do with voters.
#[derive(Debug, Subcommand)]
pub enum VotersVerb {
    /// Show them
    List,
    /// Add one to the group; start it with `join = true` first
    Add {
        /// Its number: never used before
        #[arg(long, value_parser = voter_id)]
        id: VoterId,
        /// Its name: that of its certificate
        #[arg(long)]
        name: String,
        /// The site it stands in [default: its name]
        #[arg(long)]
        site: Option<String>,
        /// Where it listens
        #[arg(long, value_name = "IP:PORT")]
        address: SocketAddr,
        #[command(flatten)]
        reason: Reason,
    },
    /// Take one out of the group; its number is never used again
    Remove {
        /// Its number
        #[arg(value_parser = voter_id)]
        id: VoterId,
        #[command(flatten)]
        reason: Reason,
        #[command(flatten)]
        second: Second,
    },
}

/// `baton dns`
#[derive(Debug, Args)]
pub struct Dns {
    #[command(subcommand)]
    pub verb: DnsVerb,
}

/// What to do with name servers.
#[derive(Debug, Subcommand)]
pub enum DnsVerb {
    /// Ask each for the zone's serial and every service's names; exit status 1 when they differ
    Check {
        /// Ask these instead of the declared ones
        #[arg(long, value_name = "IP:PORT")]
        name_server: Vec<SocketAddr>,
    },
}
