//! The arguments of `baton audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use failover::ids::ServiceId;
use orchestrator::audit::Head;

/// `baton audit`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton audit list --kind command --by anna
  baton audit export --out audit.jsonl
  baton audit verify audit.jsonl
  baton audit verify audit.jsonl --head 412:9f86…0a08 (all 64 digits of the hash)
  baton audit verify

Every decision, command, question, refusal and login is a record with a SHA-256 over itself and
all before it. `verify FILE` needs no cluster; without a file every voter's record is read and held
against the others'.")]
pub struct Audit {
    #[command(subcommand)]
    pub verb: AuditVerb,
}

/// What to do with the record.
#[derive(Debug, Subcommand)]
pub enum AuditVerb {
    /// The newest records, newest last
    List(AuditList),
    /// Everything as JSON lines, each as the voters have it, and a last line that names the end
    Export(AuditExport),
    /// Hold a file, or without one every voter's record, against its hashes; exit status 1 and the
    /// first bad line when it does not stand
    Verify(AuditVerify),
}

/// `baton audit list`
#[derive(Debug, Args)]
pub struct AuditList {
    /// Only this kind
    #[arg(long, value_enum)]
    pub kind: Option<RecordKind>,
    /// Only what this person, or `baton` itself, did
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Only about this service
    #[arg(long)]
    pub service: Option<ServiceId>,
    /// How many of the newest
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
}

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordKind {
    /// The record begins
    Began,
    /// Decided by baton
    Decision,
    /// Asked for by a person, and done
    Command,
    /// A person asked why, or what would follow
    Question,
    /// Somebody was refused something
    Refusal,
    /// A program beside an instance was run
    Hook,
    /// A certificate was shown
    Login,
    /// A voter said with which key it signs evidence
    Key,
}

impl RecordKind {
    /// As the record says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Began => "began",
            Self::Decision => "decision",
            Self::Command => "command",
            Self::Question => "question",
            Self::Refusal => "refusal",
            Self::Hook => "hook",
            Self::Login => "login",
            Self::Key => "key",
        }
    }
}

/// `baton audit export`
#[derive(Debug, Args)]
pub struct AuditExport {
    /// Where to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// From this record on
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub from: u64,
}

/// `baton audit verify`
#[derive(Debug, Args)]
pub struct AuditVerify {
    /// An export; without one, every voter is asked
    pub file: Option<PathBuf>,
    /// How the file must end, as `baton audit verify` or the remark of an export says it
    #[arg(long, value_name = "NUMBER:HASH", requires = "file")]
    pub head: Option<Head>,
}
