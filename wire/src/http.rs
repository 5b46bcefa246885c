//! HTTP over mutual TLS, both directions. JSON, so that a person can read it during an incident.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod client;
mod server;

pub use crate::listen::{BindError, tcp as bind};
pub use client::Client;
pub use server::{TurnedAway, serve, serve_and_tell};

/// Body of every error answer (`application/json`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Problem {
    /// One sentence: what is wrong.
    pub error: String,
    /// What to do about it; may be empty.
    #[serde(default)]
    pub remedy: String,
    /// The findings behind a refusal, as the law gives them.
    #[serde(default)]
    pub findings: Vec<serde_json::Value>,
}

impl Problem {
    /// A problem of one sentence.
    pub fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), ..Self::default() }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

/// Why a request has no answer to give.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection was made: nothing was sent.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// The machine answered and nothing listens there (the opposite of silence).
        refused: bool,
        /// Where to.
        address: SocketAddr,
        /// What the kernel said.
        reason: String,
    },
    /// No answer in time; whether the request took effect is not known.
    #[error("no answer from {address} within {after:?}")]
    Timeout {
        /// Who was asked.
        address: SocketAddr,
        /// How long we waited.
        after: Duration,
    },
    /// The connection broke before the answer; whether the request took effect is not known.
    #[error("connection to {address} lost: {reason}")]
    Lost {
        /// Who was asked.
        address: SocketAddr,
        /// What broke.
        reason: String,
    },
    /// One side did not accept the other's certificate.
    #[error("TLS: {0}")]
    Tls(String),
    /// The server answered with an error.
    #[error("{}", problem.error)]
    Status {
        /// HTTP status, 300 to 599.
        code: u16,
        /// What the server said.
        problem: Problem,
    },
    /// A body could not be written or read.
    #[error("body: {0}")]
    Body(String),
}
