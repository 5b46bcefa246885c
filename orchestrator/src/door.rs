//! Whoever comes to the HTTP API is on record: who came, and who was refused before what he wanted
//! reached the leader (I-34). What the leader refuses, it records itself.
//!
//! A flood of refused requests becomes few records: alike ones are counted here, and both here and
//! at the leader what may become an entry of the log is rationed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use failover::Moment;
use failover::event::{Note, NoteKind};
use failover::hook::SUBJECT;
use failover::ids::{InstanceId, ServiceId};
use failover::report::Report;
use tokio::sync::watch;
use wire::clock;
use wire::http::TurnedAway;
use wire::role::{Kind, Peer, Shown};

use crate::audit::{Heard, Ledger};
use crate::replica::Reply;
use crate::routes::{Question, Routes};

/// Alike ones are counted for this long.
const ALIKE: Duration = Duration::from_mins(10);
/// A certificate that was seen is on record again after this long.
const AGAIN: Duration = Duration::from_hours(12);
/// How many certificates are remembered.
const CERTIFICATES: usize = 4_096;
/// How many programs are told apart.
const HOOKS: usize = 1_024;
/// How often what was counted, or could not be told, is told.
const TELL: Duration = Duration::from_secs(2);

/// Why a request was refused: told to the record beside the answer.
#[derive(Clone, Debug)]
pub struct Reason(pub String);

/// What this process has not told the leader yet, and whom it has seen.
#[derive(Debug)]
pub struct Door {
    ledger: Mutex<Ledger>,
    seen: Mutex<BTreeMap<(String, String), Seen>>,
    /// What the agents that report here last said of each program.
    hooks: Mutex<BTreeMap<(InstanceId, String), String>>,
}

/// A certificate that was seen here.
#[derive(Debug)]
struct Seen {
    at: Moment,
    /// Turns true when that was told, or could not be.
    tried: watch::Receiver<bool>,
}

impl Default for Door {
    fn default() -> Self {
        let ledger = Mutex::new(Ledger::new(ALIKE));
        Self { ledger, seen: Mutex::default(), hooks: Mutex::default() }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How somebody is called in the record: an operator by his name, as in the history.
#[must_use]
pub fn called(peer: &Peer) -> String {
    match peer.kind {
        Kind::Operator(_) => peer.name.clone(),
        Kind::Voter | Kind::Agent | Kind::Dns => format!("{} {}", peer.kind, peer.name),
    }
}

/// A note of something that happened now, once.
#[must_use]
pub fn note(kind: NoteKind, service: Option<ServiceId>, text: String) -> Note {
    Note { kind, service, text, times: 1, since: clock::wall() }
}

impl Routes {
    /// Has something put on record. `true`: it is there; `false`: it will be told later.
    pub async fn put_on_record(&self, by: &str, note: Note) -> bool {
        let heard = held(&self.door.ledger).hear(by, note, clock::now());
        match heard {
            Heard::Now(note) => self.tell(by.to_owned(), note).await,
            Heard::Counted => false,
        }
    }

    async fn tell(&self, by: String, note: Box<Note>) -> bool {
        let question = Question::Noted { by: by.clone(), note: note.clone() };
        let told = matches!(self.ask(question).await, Reply::Found(_));
        if !told {
            held(&self.door.ledger).put_back(&by, *note);
        }
        told
    }

    /// Tells what waits, for as long as the process lives.
    pub async fn tell_notes(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TELL).await;
            self.tell_due().await;
        }
    }

    /// Puts on record with which key this voter signs evidence.
    pub async fn tell_key(self: Arc<Self>) {
        let Ok(key) = &self.own.key else { return };
        let text = format!("voter {} signs evidence with the key {}", self.name(), key.public());
        let by = format!("{} {}", Kind::Voter, self.name());
        self.put_on_record(&by, note(NoteKind::Key, None, text)).await;
    }

    /// Puts on record what became of the programs beside an instance, where that is news here.
    pub fn hooks(self: &Arc<Self>, peer: &Peer, report: &Report) {
        let mut known = held(&self.door.hooks);
        for told in &report.notes {
            let Some(name) = told.subject.strip_prefix(SUBJECT) else { continue };
            let key = (report.instance.clone(), told.subject.clone());
            let full = known.len() >= HOOKS && !known.contains_key(&key);
            if full || known.get(&key) == Some(&told.text) {
                continue;
            }
            known.insert(key, told.text.clone());
            let text = format!("{name} beside {}: {}", report.instance, told.text);
            let note = note(NoteKind::Hook, Some(report.service.clone()), text);
            let (routes, by) = (Arc::clone(self), called(peer));
            tokio::spawn(async move { routes.put_on_record(&by, note).await });
        }
    }

    async fn tell_due(&self) {
        loop {
            let due = held(&self.door.ledger).due(clock::now());
            let Some((by, note)) = due else { return };
            if !self.tell(by, Box::new(note)).await {
                return;
            }
        }
    }

    /// Somebody who got no further than the handshake.
    pub fn turned_away(self: &Arc<Self>, who: TurnedAway) {
        let by = format!("stranger at {}", who.remote.ip());
        let note = note(NoteKind::Refusal, None, who.reason);
        let routes = Arc::clone(self);
        tokio::spawn(async move { routes.put_on_record(&by, note).await });
    }

    /// Puts a certificate on record that was not seen here lately. What is returned turns true
    /// when that was tried.
    fn greet(self: &Arc<Self>, peer: &Peer, shown: &Shown) -> Option<watch::Receiver<bool>> {
        let now = clock::now();
        let key = (peer.to_string(), shown.fingerprint.clone());
        let mut seen = held(&self.door.seen);
        seen.retain(|_, seen| now.since(seen.at) < AGAIN);
        if let Some(seen) = seen.get(&key) {
            return Some(seen.tried.clone());
        }
        if seen.len() >= CERTIFICATES {
            return None;
        }
        let (done, tried) = watch::channel(false);
        seen.insert(key, Seen { at: now, tried: tried.clone() });
        let Shown { fingerprint, remote, until: _ } = shown;
        let text = format!(
            "{peer} at voter {}, from {}, certificate {fingerprint}",
            self.name(),
            remote.ip()
        );
        let login = note(NoteKind::Login, None, text);
        let (routes, by) = (Arc::clone(self), called(peer));
        tokio::spawn(async move {
            routes.put_on_record(&by, login).await;
            done.send_replace(true);
        });
        Some(tried)
    }

    /// Until it is on record who somebody is, or cannot be put there.
    async fn known(&self, greeted: Option<watch::Receiver<bool>>) {
        if let Some(mut tried) = greeted {
            let _its_task_is_gone = tried.wait_for(|tried| *tried).await;
        }
        self.tell_due().await;
    }
}

/// Stands before every route: records who comes, and whoever is refused behind it.
pub async fn guard(State(routes): State<Arc<Routes>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let shown = request.extensions().get::<Shown>().cloned();
    let what = format!("{} {}", request.method(), request.uri().path());
    let changes = request.method() == Method::POST && request.uri().path() == "/v1/requests";
    let Some(peer) = peer else { return next.run(request).await };
    let greeted = shown.and_then(|shown| routes.greet(&peer, &shown));
    if changes {
        // Who it is stands in the record before what he wants is done.
        routes.known(greeted).await;
    }
    let response = next.run(request).await;
    // 409 is the leader's word, and on its record; 404 asks for what is not there.
    let refused = matches!(
        response.status(),
        StatusCode::BAD_REQUEST
            | StatusCode::FORBIDDEN
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::PAYLOAD_TOO_LARGE
    );
    if refused {
        let reason = response.extensions().get::<Reason>();
        let reason = reason.map_or_else(|| response.status().to_string(), |r| r.0.clone());
        let by = called(&peer);
        let note = note(NoteKind::Refusal, None, format!("{what}: {reason}"));
        tokio::spawn(async move { routes.put_on_record(&by, note).await });
    }
    response
}
