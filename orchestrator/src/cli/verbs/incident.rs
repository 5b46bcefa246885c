//! The arguments of `baton incident`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use failover::time::Timestamp;

/// `baton incident`
#[derive(Debug, Args)]
pub struct Incident {
    #[command(subcommand)]
    pub verb: IncidentVerb,
}

/// What to do about an incident.
#[derive(Debug, Subcommand)]
pub enum IncidentVerb {
    /// One archive of everything there is to know: states, records, evidence, logs, one timeline,
    /// and a post-mortem to be filled in
    Collect(Collect),
}

/// `baton incident collect`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton incident collect
  baton incident collect --since 6h --out incident.tar.gz
  baton incident collect --since 2026-11-22T03:00:00Z --probe probe.jsonl
  baton incident collect --log arezzo=orchestrator.log --log arezzo-1=postgres.log

Whatever cannot be had is named in the archive, and the rest is collected. Agents are asked for
their PostgreSQL's log; logs of daemons are taken from this machine's journal, and from files: name
whose clock a file was written by, a voter, instance or name server.

Secrets are left out: only what is on a list goes in, of PostgreSQL's log only what the server says
of itself, and passwords, keys, tokens and connection strings are taken out by their form. Read it
before you hand it on all the same. The archive can be read by its owner only.

Exit statuses: 0 all of it, 1 something could not be had (the archive is written), 2 nothing was
written.")]
pub struct Collect {
    /// From when on: so long ago, or a time as 2026-11-22T03:00:00Z
    #[arg(long, value_name = "DURATION|TIME", default_value = "2h", value_parser = since)]
    pub since: Since,
    /// Where to write [default: incident-CLUSTER-TIME.tar.gz]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// A log of a daemon or of PostgreSQL, and who wrote it
    #[arg(long, value_name = "[WHO=]FILE")]
    pub log: Vec<PathBuf>,
    /// A probe writer's journal of that time
    #[arg(long, value_name = "FILE")]
    pub probe: Option<PathBuf>,
}

/// Where a window begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = super::duration(text) {
        return Ok(Since::Ago(ago));
    }
    let at: Result<jiff::Timestamp, _> = text.parse();
    at.map(|at| Since::At(Timestamp(at.as_millisecond())))
        .map_err(|_| "write it as 2h, or as 2026-11-22T03:00:00Z".to_owned())
}
