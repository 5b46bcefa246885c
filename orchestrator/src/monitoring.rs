//! What a voter tells to whoever monitors it: see `docs/metrics.md`.
//!
//! The loop gives a copy of the numbers when it is asked for one, and does nothing otherwise; what
//! follows from them is worked out and written down beside it.

use std::sync::Arc;
use std::time::Duration;

use failover::Timestamp;
use tokio::sync::oneshot;
use wire::monitoring::{Daemon, Exposition};

use crate::replica::Sight;
use crate::routes::{Inbound, Routes};
use crate::tally::Tally;

mod table;
mod tell;

pub use table::METRICS;

/// How long the loop may take to look at itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the loop gives to whoever monitors.
#[derive(Debug)]
pub struct Look {
    /// How the voter stands.
    pub sight: Sight,
    /// What was counted.
    pub tally: Tally,
}

/// Asks the loop for a copy of what it knows.
///
/// # Errors
/// Why it gives none.
pub(crate) async fn look(routes: &Routes) -> Result<Box<Look>, String> {
    let (sender, receiver) = oneshot::channel();
    if !routes.submit(Inbound::Look(sender)) {
        return Err("this voter has too much to do".into());
    }
    match tokio::time::timeout(PATIENCE, receiver).await {
        Ok(Ok(look)) => Ok(look),
        Ok(Err(_)) => Err("this voter is ending".into()),
        Err(_) => Err("this voter's loop did not answer: does its disk?".into()),
    }
}

/// A voter as it is asked.
pub struct Monitored {
    /// The way to its loop.
    pub routes: Arc<Routes>,
    /// When its certificate ends.
    pub certificate_ends: Timestamp,
}

impl Daemon for Monitored {
    fn alive(&self) -> Result<(), String> {
        match &self.routes.standing.borrow().stopped {
            Some(reason) => Err(format!("this voter does not act: {reason}")),
            None => Ok(()),
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.alive()?;
        match self.routes.standing.borrow().leader {
            Some(_) => Ok(()),
            None => Err("no leader is known to this voter".into()),
        }
    }

    async fn metrics(&self) -> Result<Exposition, String> {
        let look = look(&self.routes).await?;
        let ends = self.certificate_ends;
        let told = tokio::task::spawn_blocking(move || {
            let mut told = Exposition::new(METRICS);
            told.daemon("orchestrator", env!("CARGO_PKG_VERSION"), ends);
            tell::everything(&mut told, *look);
            told
        });
        told.await.map_err(|error| error.to_string())
    }
}
