//! The arguments of `baton report` and `baton verify`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `baton report`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton report
  baton report 7 --journal probe.jsonl
  baton report 7 --format html --out transition-7.html
  baton report 7 --format json --out transition-7.json
  baton report 7 --format html --out transition-7.html --probe probe.jsonl

`json` and `html` are evidence: signed by the voter that made them, with the audit records of the
change. `baton verify FILE` refuses them after one changed byte. What a probe writer's journal says
stands beside that and is told as the writer's word: no voter signs it.")]
pub struct Report {
    /// Its number; without one, all are listed
    pub id: Option<u64>,
    /// A probe writer's journal of that time: the report then says what clients felt
    #[arg(long, visible_alias = "probe", value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// For people, or signed evidence for programs or for paper
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "id")]
    pub format: Format,
    /// Where to write the evidence [default: standard output]
    #[arg(long, value_name = "FILE", requires = "id")]
    pub out: Option<PathBuf>,
}

/// The forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// A signed bundle
    Json,
    /// One self-contained page with the signed bundle in it
    Html,
}

/// `baton verify`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton verify transition-7.html
  baton verify transition-7.json --key 3b6a27bc…

Exit status 0: every byte is as it was signed, and what it tells is in the audit records that it
carries. 1: it is not, and why.")]
pub struct Verify {
    /// What `baton report ID` or `baton drill report ID` wrote as `--format json` or `html`
    pub file: PathBuf,
    /// The key that must have signed it, as `baton audit list --kind key` names it
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
}
