//! `baton probe` as clap reads it.

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

Writes to the table baton_probe.writes of the database `postgres`, as the role `baton_probe`, with
the certificate operator/probe.crt. Ctrl-C ends the run.")]
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
    #[arg(long, value_name = "FILE", required_unless_present = "reconcile")]
    pub journal: Option<PathBuf>,
    /// Hold a journal against the table; exit status 1 when something acknowledged is missing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["journal", "seconds"])]
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
