//! The second factor of whoever changes something: on the command line, or asked on the terminal.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use axum::http::{HeaderName, HeaderValue};
use orchestrator::codes::HEADER;

use crate::client::Failure;
use crate::screen::ask;

/// Six digits.
#[derive(Clone)]
pub struct Code(HeaderValue);

/// A secret, if only for half a minute.
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code")
    }
}

impl FromStr for Code {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Authenticators show them in two groups.
        let digits: String = text.split_whitespace().collect();
        let code = HeaderValue::from_str(&digits)
            .ok()
            .filter(|_| digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_digit()));
        code.map(Self).ok_or_else(|| "give the six digits that the authenticator shows".to_owned())
    }
}

impl Code {
    /// What whoever sits at the terminal types; nothing where nobody does.
    pub fn typed() -> Result<Option<Self>, Failure> {
        if !std::io::stdin().is_terminal() {
            return Ok(None);
        }
        let said = ask("Code of your authenticator:")?;
        let code = said.parse().map_err(|error| Failure::config(error, "nothing was changed"))?;
        Ok(Some(code))
    }

    /// As it goes with a request.
    pub fn header(&self) -> (HeaderName, HeaderValue) {
        (HeaderName::from_static(HEADER), self.0.clone())
    }
}
