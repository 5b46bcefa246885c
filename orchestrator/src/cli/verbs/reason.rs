//! Why something is asked for: on the command line, or asked on the terminal.

use std::io::IsTerminal;

use clap::Args;

use crate::client::Failure;
use crate::screen::ask;

/// `--reason`
#[derive(Clone, Debug, Args)]
pub struct Reason {
    /// Why, for the record [default: asked on the terminal]
    #[arg(long = "reason", value_name = "TEXT")]
    given: Option<String>,
}

impl Reason {
    /// What was given, or what whoever sits at the terminal says.
    pub fn given(self) -> Result<String, Failure> {
        let said = match self.given {
            Some(reason) => reason,
            None if std::io::stdin().is_terminal() => ask("Why, for the record:")?,
            None => String::new(),
        };
        if said.trim().is_empty() {
            return Err(Failure::config(
                "no reason is given: nothing was changed",
                "say why, for the record: --reason TEXT",
            ));
        }
        Ok(said.trim().to_owned())
    }
}
