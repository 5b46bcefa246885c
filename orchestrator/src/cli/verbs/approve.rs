//! `baton approve` as clap reads it.

use clap::Args;

use super::Reason;

/// `baton approve`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton approve
  baton approve 5d0c3ab91f2e --reason \"saw the plan, roubaix is gone\"
  baton approve 5d0c3ab91f2e --withdraw --reason \"the wrong site\"

What lowers durability or destroys needs a second person: one asks, another of the role approver
or admin says yes to exactly that plan, in the time that `[people] approval_expires` gives. It is
judged anew at that moment; if it is another plan by then, nothing happens. Whoever asked may take
it back until then.")]
pub struct Approve {
    /// The hash of the plan, or how it begins: 8 signs or more [default: list what waits]
    pub plan: Option<String>,
    /// Take back what you asked for yourself
    #[arg(long, requires = "plan")]
    pub withdraw: bool,
    #[command(flatten)]
    pub reason: Reason,
}

/// Whether a second person is waited for.
#[derive(Clone, Debug, Args)]
pub struct Second {
    /// Where a second person is needed, do not wait for them (exit status 5): the same command
    /// again goes on
    #[arg(long)]
    pub no_wait: bool,
}
