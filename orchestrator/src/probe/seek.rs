//! Finding the primary again, fast.
//!
//! The name is asked for every 15 ms while there is no connection. Every new address is tried at
//! once, beside the attempts that still run: a black hole costs nothing once the name has moved.
//! An address that stayed silent is left alone for a while; one that refused is tried again at
//! the next turn.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use failover::Moment;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use wire::clock::now;

use super::resolver::{Place, Resolver};
use super::session::{Access, Session, SessionError};

/// The pause between two looks at the name.
const TURN: Duration = Duration::from_millis(15);

/// One question may take this long.
const QUESTION: Duration = Duration::from_millis(500);

/// A silent address is left alone for this long.
const LEAVE_ALONE: Duration = Duration::from_millis(250);

/// Where to look for the primary.
#[derive(Clone, Debug)]
pub enum Where {
    /// Through a name.
    Name {
        /// The whole name.
        name: String,
        /// Whom to ask.
        resolver: Resolver,
    },
    /// At a fixed address, past DNS.
    Address(SocketAddr),
}

/// What was noticed on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// The name gives another address than before.
    Resolved(SocketAddr),
    /// A connection came to nothing.
    Failed(SocketAddr, String),
    /// The name cannot be resolved.
    Unresolved(String),
}

/// A search for the primary.
#[derive(Clone)]
pub struct Seeker {
    /// How to connect.
    pub access: Access,
    /// Where to look.
    pub at: Where,
    /// Messages of the server.
    pub notices: mpsc::UnboundedSender<(SocketAddr, String)>,
    /// What was noticed.
    pub noticed: mpsc::UnboundedSender<Noticed>,
}

impl Seeker {
    /// Looks until a writable server is found. `avoid` is tried only from a certain moment on: a
    /// connection to it is open, and may yet answer.
    pub async fn seek(mut self, avoid: Option<(SocketAddr, Moment)>) -> Arc<Session> {
        let mut turns = interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut search = Search::default();
        let mut question: JoinSet<Result<Place, String>> = JoinSet::new();
        loop {
            tokio::select! {
                _ = turns.tick(), if question.is_empty() => { question.spawn(self.question()); }
                Some(Ok(answer)) = question.join_next() => {
                    let Some(address) = self.heard(answer, &mut search) else { continue };
                    let wait = |(a, from): (SocketAddr, Moment)| a == address && now() < from;
                    if !avoid.is_some_and(wait) {
                        self.attempt(address, &mut search);
                    }
                }
                Some(Ok((address, opened))) = search.attempts.join_next() => {
                    search.running.remove(&address);
                    match opened {
                        Ok(session) => return session,
                        Err(error) => self.failed(address, &error, &mut search),
                    }
                }
            }
        }
    }

    fn question(&self) -> impl Future<Output = Result<Place, String>> + 'static + use<> {
        let at = self.at.clone();
        async move {
            match at {
                Where::Name { name, resolver } => {
                    resolver.place(&name, QUESTION).await.map_err(|error| error.to_string())
                }
                Where::Address(address) => Ok(Place { address, ttl: Duration::ZERO, by: address }),
            }
        }
    }

    fn heard(&mut self, answer: Result<Place, String>, search: &mut Search) -> Option<SocketAddr> {
        match answer {
            Ok(place) => {
                if search.last != Some(place.address) {
                    search.last = Some(place.address);
                    self.tell(Noticed::Resolved(place.address));
                }
                Some(place.address)
            }
            Err(reason) => {
                if search.unresolved.as_ref() != Some(&reason) {
                    self.tell(Noticed::Unresolved(reason.clone()));
                    search.unresolved = Some(reason);
                }
                None
            }
        }
    }

    fn attempt(&self, address: SocketAddr, search: &mut Search) {
        let rests = search.resting.get(&address).is_some_and(|until| now() < *until);
        if rests || !search.running.insert(address) {
            return;
        }
        let (access, notices) = (self.access.clone(), self.notices.clone());
        search
            .attempts
            .spawn(async move { (address, Session::open(&access, address, notices).await) });
    }

    fn failed(&mut self, address: SocketAddr, error: &SessionError, search: &mut Search) {
        if matches!(error, SessionError::Silent(_)) {
            search.resting.insert(address, now().after(LEAVE_ALONE));
        }
        // Another server may know better.
        if let Where::Name { resolver, .. } = &mut self.at {
            resolver.rotate();
        }
        let text = error.to_string();
        if search.said.insert((address, text.clone())) {
            self.tell(Noticed::Failed(address, text));
        }
    }

    fn tell(&self, noticed: Noticed) {
        // The writer has ended: then nobody wants to know.
        drop(self.noticed.send(noticed));
    }
}

/// What one search remembers.
#[derive(Default)]
struct Search {
    last: Option<SocketAddr>,
    unresolved: Option<String>,
    running: BTreeSet<SocketAddr>,
    resting: BTreeMap<SocketAddr, Moment>,
    said: BTreeSet<(SocketAddr, String)>,
    attempts: JoinSet<(SocketAddr, Result<Arc<Session>, SessionError>)>,
}
