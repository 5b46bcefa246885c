//! `baton drill`: a disaster rehearsed, by the same law and on the same way as a real one.

pub mod html;
mod told;
mod trend;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use failover::drill::Kind;
use failover::ids::{DrillId, InstanceId, ServiceId};
use failover::{Request, drill::Drill};
use orchestrator::answers::{
    Bundle, CalendarTold, DeclaredTopology, DrillPlan, DrillTold, Drills, Transitions,
};

use crate::client::{Cluster, Failure};
use crate::screen::{print, remark};
use crate::verbs::{Format, Globals, Reason};
use crate::what_if::encoded;

/// `baton drill`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton drill plan switchover clinic
  baton drill schedule
  baton drill run readiness clinic --reason \"monthly\"
  baton drill run switchover clinic --to roubaix-1 --dwell 10m --reason \"quarterly\"
  baton drill run isolate clinic --at-most 30s --reason \"before the audit\"
  baton drill abort 3 --reason \"a storm is coming\"
  baton drill report
  baton drill report 3 --format html --out drill-3.html

A drill looks at everything that readiness looks at and does nothing unless all of it is good. There
is one at a time. Whatever it moves it moves by an ordinary switchover, and it moves it back; what
`isolate` cuts off is lost by the ordinary failover, and heals by itself, with nobody to tell it.
What is held by itself, protected hours and blackouts are declared in the topology file, `[drills]`.

Exit statuses of `run`: 0 passed, 1 failed, given up or overtaken, 4 refused, 5 still open.")]
pub struct Arguments {
    #[command(subcommand)]
    pub verb: DrillVerb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum DrillVerb {
    /// Every drill there was, newest last
    List,
    /// What a drill would do, and whether it may: nothing is changed. Exit status 4: it may not; 6:
    /// something that it rests on is not known
    Plan(Wanted),
    /// Begin a drill and watch it
    Run(Run),
    /// The calendar: what is held by itself, when next, what was missed, and when none may be held
    Schedule,
    /// Give a drill up: what it moved is returned
    Abort(Abort),
    /// One drill: stages, changes of primary, findings, how it ended; without a number, the trend
    Report(Report),
}

/// The kinds of drills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindName {
    /// Could each site be lost now? Nothing is moved
    Readiness,
    /// A name that no client uses is moved and back; every name server must follow
    Dns,
    /// The primary goes to another site and, after a dwell, back
    Switchover,
    /// The primary's agent cuts it off, and heals it by itself; whoever takes over does so as in a
    /// disaster. After the dwell the primary goes back
    Isolate,
    /// A standby's agent makes a copy beside it, has it lead, write and die, and brings it back as
    /// a former primary is brought back. Nobody moves, no client notices
    RestorePath,
}

impl KindName {
    const fn kind(self) -> Kind {
        match self {
            Self::Readiness => Kind::Readiness,
            Self::Dns => Kind::Dns,
            Self::Switchover => Kind::Switchover,
            Self::Isolate => Kind::Isolate,
            Self::RestorePath => Kind::RestorePath,
        }
    }
}

/// Which drill.
#[derive(Clone, Debug, Args)]
pub struct Wanted {
    /// What is rehearsed
    #[arg(value_enum)]
    pub kind: KindName,
    /// The service
    pub service: ServiceId,
    /// Who is to take over [default: the best candidate at another site]
    #[arg(long, value_name = "INSTANCE")]
    pub to: Option<InstanceId>,
    /// How long the service is to run there, 24 hours at the most
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = length)]
    pub dwell: Duration,
    /// `isolate` only: how long the primary is cut off, 2 minutes at the most [default: 4 times
    /// `suspect_after` and 10 s]
    #[arg(long, value_name = "DURATION", value_parser = length)]
    pub at_most: Option<Duration>,
    /// Also in hours that are protected from drills
    #[arg(long)]
    pub in_protected_hours: bool,
}

/// `baton drill run`
#[derive(Debug, Args)]
#[command(after_help = "\
Ctrl-C ends the watching, never the drill: `baton drill abort` does.")]
pub struct Run {
    #[command(flatten)]
    pub wanted: Wanted,
    #[command(flatten)]
    pub reason: Reason,
    /// Return as soon as the cluster has begun it
    #[arg(long)]
    pub no_wait: bool,
    /// Give up watching when the dwell and this much more have passed (exit status 5)
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = length)]
    pub wait_timeout: Duration,
}

/// `baton drill abort`
#[derive(Debug, Args)]
pub struct Abort {
    /// Its number
    pub id: u64,
    #[command(flatten)]
    pub reason: Reason,
}

/// `baton drill report`
#[derive(Debug, Args)]
#[command(after_help = "\
`json` and `html` are evidence: the drill, its changes of primary and their audit records, signed by
the voter that made them. `baton verify FILE` refuses them after one changed byte.")]
pub struct Report {
    /// Its number; without one, how long every change of primary took, and when each site was last
    /// proven to take over
    pub id: Option<u64>,
    /// For people, or signed evidence for programs or for paper
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "id")]
    pub format: Format,
    /// Where to write the evidence [default: standard output]
    #[arg(long, value_name = "FILE", requires = "id")]
    pub out: Option<PathBuf>,
}

fn length(text: &str) -> Result<Duration, String> {
    wire::config::duration::parse(text)
}

impl Wanted {
    fn request(self, reason: String) -> Request {
        let Self { kind, service, to, dwell, at_most, in_protected_hours: despite_hours } = self;
        let kind = kind.kind();
        Request::Drill { kind, service, to, dwell, at_most, despite_hours, reason }
    }
}

pub async fn run(globals: &Globals, arguments: Arguments) -> Result<u8, Failure> {
    let cluster = Cluster::of(globals)?;
    match arguments.verb {
        DrillVerb::List => {
            let all: Drills = cluster.get("/v1/drills").await?;
            print(globals.output, &all.drills, &told::listed(&all.drills))?;
            Ok(wire::exit::OK)
        }
        DrillVerb::Schedule => {
            let calendar: CalendarTold = cluster.get("/v1/calendar").await?;
            print(globals.output, &calendar, &told::calendar(&calendar))?;
            Ok(wire::exit::OK)
        }
        DrillVerb::Plan(wanted) => plan(globals, &cluster, wanted).await,
        DrillVerb::Run(arguments) => begin(globals, &cluster, arguments).await,
        DrillVerb::Abort(Abort { id, reason }) => {
            let reason = reason.given()?;
            let request = Request::AbortDrill { drill: DrillId(id), reason };
            let accepted = cluster.request(&request).await?;
            let text = format!("{}\nwatch it: baton drill report {id}", accepted.text);
            print(globals.output, &accepted, &text)?;
            Ok(wire::exit::OK)
        }
        DrillVerb::Report(arguments) => report(globals, &cluster, &arguments).await,
    }
}

async fn plan(globals: &Globals, cluster: &Cluster, wanted: Wanted) -> Result<u8, Failure> {
    let request = wanted.request("a look at the plan".to_owned());
    let json = serde_json::to_string(&request)
        .map_err(|error| Failure::failed(format!("cannot be asked: {error}")))?;
    let path = format!("/v1/drill-plan?request={}", encoded(&json));
    let answer: DrillPlan = cluster.get(&path).await?;
    print(globals.output, &answer, &told::plan(&answer))?;
    let may = answer.refused.is_empty() && answer.against.is_empty();
    Ok(match (may, answer.unknown.is_empty()) {
        (false, _) => wire::exit::REFUSED,
        (true, false) => wire::exit::UNKNOWN,
        (true, true) => wire::exit::OK,
    })
}

async fn begin(globals: &Globals, cluster: &Cluster, arguments: Run) -> Result<u8, Failure> {
    let Run { wanted, reason, no_wait, wait_timeout } = arguments;
    let limit = wanted.dwell.saturating_add(wait_timeout);
    let accepted = cluster.request(&wanted.request(reason.given()?)).await?;
    match accepted.drill {
        Some(id) if !no_wait => {
            remark(globals.output, &accepted.text);
            watch::watch(globals, cluster, id, limit).await
        }
        Some(_) | None => {
            let id = accepted.drill.map_or_else(String::new, |id| id.to_string());
            let text = format!("{}\nwatch it: baton drill report {id}", accepted.text);
            print(globals.output, &accepted, &text)?;
            Ok(wire::exit::OK)
        }
    }
}

async fn report(globals: &Globals, cluster: &Cluster, asked: &Report) -> Result<u8, Failure> {
    let Some(id) = asked.id else {
        let declared: DeclaredTopology = cluster.get("/v1/topology").await?;
        let Transitions { transitions } = cluster.get("/v1/transitions").await?;
        let found = trend::trend(&declared.topology, &transitions, wire::clock::wall());
        print(globals.output, &found, &trend::text(&found))?;
        return Ok(wire::exit::OK);
    };
    if asked.format == Format::Text {
        let answer: DrillTold = cluster.get(&format!("/v1/drills/{id}")).await?;
        print(globals.output, &answer, &told::report(&answer))?;
        return Ok(wire::exit::OK);
    }
    let Bundle { bundle } = cluster.get(&format!("/v1/evidence/drills/{id}")).await?;
    crate::report::hand_out(globals, (asked.format, asked.out.as_deref()), bundle, None)
}

/// The exit status of a drill that is over, or the failure that it is.
fn ended(globals: &Globals, told: &DrillTold) -> Result<u8, Failure> {
    let Drill { id, outcome, .. } = &told.drill;
    let why = outcome.reason();
    if why.is_none() || globals.output == crate::screen::Output::Json {
        print(globals.output, told, &told::closing(told))?;
    }
    let Some(why) = why else { return Ok(wire::exit::OK) };
    let error = format!("drill {id} {}: {why}", outcome.told());
    Err(Failure::new(wire::exit::FAILED, error, &format!("all of it: baton drill report {id}")))
}
