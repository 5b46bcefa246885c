//! Follows the voters. Every voter is asked at the same time and holds its answer back until there
//! is something new: so a change comes by whichever voter is first, and a dead or silent one
//! delays nothing. At rest that is one small request per voter every 20 s.

use crate::accept::Verdict;
use crate::current::{Current, OfferError};
use crate::keep::keep;
use crate::tally::Tally;
use failover::ids::NameServerId;
use failover::zone::Zone;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;
use wire::http::{Client, HttpError};

/// A voter holds an answer back for 20 s; one that says nothing for longer is not there.
const HELD: Duration = Duration::from_secs(25);
/// How soon a voter is asked again after a failure, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How soon after an answer that brought nothing: it should have been held back.
const PAUSE: Duration = Duration::from_millis(100);

/// Follows all `voters` as name server `name`, and counts how that goes. Never ends by itself.
pub async fn follow(
    name: NameServerId,
    voters: Vec<Client>,
    (current, tally): (Arc<Current>, Arc<Tally>),
) {
    let mut tasks = JoinSet::new();
    for voter in voters {
        tally.follows(voter.address(), false);
        let (current, tally) = (Arc::clone(&current), Arc::clone(&tally));
        let follower = Follower { name: name.clone(), voter, current, tally };
        tasks.spawn(keep("following a voter", move || follower.clone().run()));
    }
    while tasks.join_next().await.is_some() {}
}

#[derive(Clone)]
struct Follower {
    name: NameServerId,
    voter: Client,
    current: Arc<Current>,
    tally: Arc<Tally>,
}

/// How a voter stands; only changes are logged.
#[derive(PartialEq)]
enum Standing {
    Unknown,
    Good,
    Trouble(String),
}

impl Follower {
    async fn run(self) {
        let mut standing = Standing::Unknown;
        let mut retry = RETRY.0;
        loop {
            let wait = match self.ask().await {
                Ok(zone) => {
                    retry = RETRY.0;
                    self.tally.follows(self.voter.address(), true);
                    self.offer(zone, &mut standing).await
                }
                Err(error) => {
                    self.tally.follows(self.voter.address(), false);
                    self.tell(&mut standing, Standing::Trouble(error.to_string()));
                    let wait = retry;
                    retry = (retry * 2).min(RETRY.1);
                    Some(wait)
                }
            };
            if let Some(wait) = wait {
                sleep(wait).await;
            }
        }
    }

    /// Asks for a zone after the one that is served. Saying which that is is half the purpose: the
    /// leader learns from it how far a change has come.
    async fn ask(&self) -> Result<Zone, HttpError> {
        let version = self.current.version();
        let path = format!("/v1/zone?after={version}&server={}&have={version}", self.name);
        self.voter.get(&path, HELD).await
    }

    /// `None`: ask again at once.
    async fn offer(&self, zone: Zone, standing: &mut Standing) -> Option<Duration> {
        let version = zone.version;
        match self.current.offer(zone).await {
            Ok(Verdict::Newer) => {
                self.tally.confirmed();
                tracing::info!(version, voter = %self.voter.address(), "serves a newer zone");
                self.tell(standing, Standing::Good);
                None
            }
            Ok(Verdict::Same) => {
                self.tally.confirmed();
                self.tell(standing, Standing::Good);
                Some(PAUSE)
            }
            Err(error) => {
                self.tally.refused();
                let lasting = matches!(error, OfferError::Store(_));
                self.tell(standing, Standing::Trouble(error.to_string()));
                // A full disk is looked at again soon; a zone that is refused will be refused.
                Some(if lasting { PAUSE } else { RETRY.1 })
            }
        }
    }

    fn tell(&self, before: &mut Standing, now: Standing) {
        if *before == now {
            return;
        }
        let voter = self.voter.address();
        match &now {
            Standing::Unknown => {}
            Standing::Good => tracing::info!(%voter, "follows"),
            Standing::Trouble(reason) => tracing::warn!(%voter, %reason, "cannot follow"),
        }
        *before = now;
    }
}
