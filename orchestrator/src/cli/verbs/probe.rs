//! The arguments of `baton probe` and `baton sla`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use failover::ids::ServiceId;

use super::duration;

/// `baton probe`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton probe clinic --every 10ms --journal probe.jsonl
  baton probe clinic --reconcile probe.jsonl -o json
  baton probe clinic --every 1s --folder journal/

Writes to the table baton_probe.writes of the database `postgres`, as the role `baton_probe`, with
the certificate operator/probe.crt. Ctrl-C ends the run.

With --folder it is made to run for years (`baton init` writes a unit file for that): a file a day,
in UTC; a day that is over is summed up, and its file and its rows in the table are let go after
--keep. `baton sla` reads the folder.")]
pub struct Probe {
    /// The service
    pub service: ServiceId,
    /// How often a row is written
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = duration)]
    pub every: Duration,
    /// How long [default: until Ctrl-C]
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// Where to note what was acknowledged
    #[arg(long, value_name = "FILE", required_unless_present_any = ["reconcile", "folder"])]
    pub journal: Option<PathBuf>,
    /// Note it in this folder, for as long as it runs: a file a day
    #[arg(long, value_name = "DIR", conflicts_with = "journal")]
    pub folder: Option<PathBuf>,
    /// How long the files and rows of days that are summed up are kept
    #[arg(long, value_name = "DURATION", default_value = "168h", value_parser = duration)]
    #[arg(requires = "folder")]
    pub keep: Duration,
    /// Hold a journal against the table; exit status 1 when something acknowledged is missing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["journal", "folder", "seconds"])]
    pub reconcile: Option<PathBuf>,
    /// Ask these servers instead of those in the topology file
    #[arg(long, value_name = "IP:PORT")]
    pub name_server: Vec<SocketAddr>,
    /// Connect here, past DNS
    #[arg(long, value_name = "IP:PORT", conflicts_with = "name_server")]
    pub address: Option<SocketAddr>,
    /// The probe's certificate [default: probe.crt beside the configuration]
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Its key [default: probe.key beside the configuration]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// `baton sla`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton sla clinic --journal journal/
  baton sla clinic --journal arezzo/journal --journal falkenstein/journal --year 2026
  baton sla clinic --journal journal/ --month 2026-11 -o json
  baton report -o json > transitions.json
  baton sla clinic --journal journal/ --transitions transitions.json --topology topology.toml

Service hours, holidays and the objective are those of `[sla]` in the topology (unless declared:
Monday to Saturday 07 to 21 in Rome, 99.95 %). With several writers the service was down where none
of those that ran was answered. Time in which none ran counts neither way.

Exit statuses: 0 the objective is kept, 7 it is missed, 6 nothing was measured.")]
pub struct Sla {
    /// The service
    pub service: ServiceId,
    /// A journal of a probe writer, or the folder that it keeps; several may be named
    #[arg(long, value_name = "FILE|DIR", required = true)]
    pub journal: Vec<PathBuf>,
    /// This year [default: the present one]
    #[arg(long, value_name = "YYYY", value_parser = clap::value_parser!(i16).range(1970..=9000))]
    pub year: Option<i16>,
    /// Only this month
    #[arg(long, value_name = "YYYY-MM", conflicts_with = "year", value_parser = month)]
    pub month: Option<(i16, u8)>,
    /// The changes of primary, as `baton report -o json` told them [default: ask the cluster]
    #[arg(long, value_name = "FILE", requires = "topology")]
    pub transitions: Option<PathBuf>,
    /// The topology file [default: what the cluster has]
    #[arg(long, value_name = "FILE")]
    pub topology: Option<PathBuf>,
}

fn month(text: &str) -> Result<(i16, u8), String> {
    let read = || {
        let (year, month) = text.split_once('-').filter(|(_, month)| month.len() == 2)?;
        let (year, month) = (year.parse().ok()?, month.parse().ok()?);
        ((1970..=9000).contains(&year) && (1..=12).contains(&month)).then_some((year, month))
    };
    read().ok_or_else(|| "write it as 2026-11".to_owned())
}
