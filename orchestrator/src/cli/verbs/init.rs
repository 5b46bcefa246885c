//! `baton init` as clap reads it.

use std::path::PathBuf;

use clap::Args;
use orchestrator::init::{Person, PersonName};

/// `baton init`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton init topology.toml --out cluster/
  scp -r cluster/arezzo/. root@arezzo:/var/lib/baton/
  baton init topology.toml --out cluster/ --update --person bob:approver --person eve:viewer
  baton init topology.toml --out cluster/ --update --totp alice --totp bob

The folder `ca` signs for the whole cluster: keep it off the machines.")]
pub struct Init {
    /// The topology file
    pub topology: PathBuf,
    /// Where to write: an empty or new folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Add what is new to a folder written earlier; keys and files that are there stay
    #[arg(long, visible_alias = "add-voter")]
    pub update: bool,
    /// The name in the first admin's certificate; it is in the history of all you do
    #[arg(long, value_name = "NAME", env = "USER", default_value = "operator")]
    pub operator: String,
    /// A further person's certificate, in the folder people/NAME-ROLE: viewer (looks), operator
    /// (acts, as far as nothing is lost by it), approver (looks, and approves what another asked
    /// for) or admin; may be repeated
    #[arg(long, value_name = "NAME:ROLE")]
    pub person: Vec<Person>,
    /// A secret for a person's authenticator (time-based codes, RFC 6238), for every voter and, in
    /// the folder totp, to be handed over; wanted where the topology says `[people] totp = true`;
    /// may be repeated
    #[arg(long, value_name = "NAME")]
    pub totp: Vec<PersonName>,
    /// Where a site's folder will lie on its machines (for the unit files)
    #[arg(long, value_name = "DIR", default_value = "/var/lib/baton")]
    pub home: PathBuf,
    /// Where the programs will lie on the machines (for the unit files)
    #[arg(long, value_name = "DIR", default_value = "/usr/local/bin")]
    pub programs: PathBuf,
}
