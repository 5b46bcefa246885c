//! Who looks at the page is told what is new: of the replicated state at once, of what is measured
//! once a second. While nobody looks, nothing is done.
//!
//! Everything a reader can take is bounded: how many there are, with and without a certificate
//! apart, and how long one may leave what it is sent unread. Documents are not queued: who is slow
//! is told the newest.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use failover::Moment;
use failover::ids::Revision;
use http_body_util::channel::{Channel, Sender};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use wire::clock;

use crate::answers::{DeclaredTopology, Known, Readiness, Transitions};
use crate::overview::{Addresses, Overview, SiteReady, verdicts};
use crate::replica::{Query, Reply};
use crate::routes::{Question, Routes};
use crate::sla;

/// How often what is measured is told.
const MEASURED: Duration = Duration::from_secs(1);
/// How often it is asked whether each site could be lost: a leader looks no oftener.
const READINESS: Duration = Duration::from_secs(10);
/// How often journals of probe writers are read.
const JOURNALS: Duration = Duration::from_mins(1);
/// Changes closer to each other are told together.
const SPACING: Duration = Duration::from_millis(50);
/// Readers of each kind at the same time.
const PLACES: usize = 32;
/// How long a reader may leave unread what it is sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// A reader is told that we are still there, when there is nothing else to tell.
const STILL_THERE: Duration = Duration::from_secs(5);
/// How long it is told on after the last reader.
const LINGER: Duration = Duration::from_secs(5);
/// How long a turn waits for the leader's word before it tells what was known before.
const FIRST_WORD: Duration = Duration::from_millis(200);
/// Whoever asks for what comes after it wants whatever there is.
const FIRST: Revision = Revision(0);

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Operators, with a certificate.
    Operators,
    /// Whoever reaches the page's port.
    Anyone,
}

/// A document as it is told.
#[derive(Debug)]
pub struct Told {
    /// The revision that it rests on.
    pub revision: Revision,
    /// The JSON of each part by its key.
    parts: BTreeMap<String, String>,
}

impl Told {
    /// The parts that `before` had not, or not so, as one JSON object.
    fn since(&self, before: Option<&Self>) -> String {
        let old = |key: &String| before.and_then(|before| before.parts.get(key));
        let new = self.parts.iter().filter(|(key, part)| old(key) != Some(part));
        let new: Vec<String> = new.map(|(key, part)| format!("\"{key}\":{part}")).collect();
        format!("{{{}}}", new.join(","))
    }

    /// The whole document.
    #[must_use]
    pub fn whole(&self) -> String {
        self.since(None)
    }
}

type Newest = watch::Sender<Option<Arc<Told>>>;

/// Everyone who looks.
#[derive(Debug)]
pub struct Feed {
    operators: (Newest, Arc<Semaphore>),
    anyone: (Newest, Arc<Semaphore>),
    wanted: Notify,
}

impl Default for Feed {
    fn default() -> Self {
        let of = || (Newest::default(), Arc::new(Semaphore::new(PLACES)));
        Self { operators: of(), anyone: of(), wanted: Notify::new() }
    }
}

/// A reader's place.
#[derive(Debug)]
pub struct Place {
    newest: watch::Receiver<Option<Arc<Told>>>,
    _held: OwnedSemaphorePermit,
}

impl Feed {
    /// A place for one more reader; `None`: all are taken.
    pub fn listen(&self, audience: Audience) -> Option<Place> {
        let (newest, places) = self.of(audience);
        let held = Arc::clone(places).try_acquire_owned().ok()?;
        let place = Place { newest: newest.subscribe(), _held: held };
        if place.newest.borrow().is_none() {
            self.wanted.notify_one();
        }
        Some(place)
    }

    fn of(&self, audience: Audience) -> &(Newest, Arc<Semaphore>) {
        match audience {
            Audience::Operators => &self.operators,
            Audience::Anyone => &self.anyone,
        }
    }

    fn is_wanted(&self) -> bool {
        self.operators.0.receiver_count() + self.anyone.0.receiver_count() > 0
    }

    fn tell(&self, overview: &Overview) {
        let revision = overview.known.status.revision;
        let write = |overview: &Overview, addresses| match overview.parts(addresses) {
            Ok(parts) => Some(Arc::new(Told { revision, parts })),
            Err(error) => {
                tracing::warn!("the page cannot be written: {error}");
                None
            }
        };
        // What nobody was there to be told would be old when the next reader comes.
        let (operators, anyone) = (&self.operators.0, &self.anyone.0);
        let looks = |newest: &Newest| newest.receiver_count() > 0;
        let told = looks(operators).then(|| write(overview, Addresses::Told)).flatten();
        operators.send_replace(told);
        let told = looks(anyone).then(|| write(&overview.for_anyone(), Addresses::Hidden));
        anyone.send_replace(told.flatten());
    }

    fn forget(&self) {
        self.operators.0.send_replace(None);
        self.anyone.0.send_replace(None);
    }
}

impl Place {
    /// The first document of a revision above `after`, or the newest there is when the time is up;
    /// `None`: there was none.
    pub async fn newest(mut self, after: Revision, within: Duration) -> Option<Arc<Told>> {
        let is_new = |told: &Option<Arc<Told>>| {
            told.as_ref().is_some_and(|told| told.revision > after || after == FIRST)
        };
        let waited = timeout(within, self.newest.wait_for(is_new)).await;
        let found = waited.ok().and_then(Result::ok).and_then(|told| told.clone());
        found.or_else(|| self.newest.borrow().clone())
    }

    /// What is new, from now on, as server-sent events.
    pub fn events(self) -> Body {
        let (sender, body) = Channel::<Bytes, Infallible>::new(1);
        tokio::spawn(self.stream(sender));
        Body::new(body)
    }

    async fn stream(mut self, mut sender: Sender<Bytes, Infallible>) {
        let mut last: Option<Arc<Told>> = None;
        loop {
            let now = self.newest.borrow_and_update().clone();
            let event = match now {
                Some(told) => {
                    let parts = told.since(last.as_deref());
                    let event = format!("id: {}\ndata: {parts}\n\n", told.revision);
                    last = Some(told);
                    event
                }
                None => ": nothing is known yet\n\n".to_owned(),
            };
            if !send(&mut sender, event).await {
                return;
            }
            loop {
                match timeout(STILL_THERE, self.newest.changed()).await {
                    Ok(Ok(())) => break,
                    Ok(Err(_)) => return,
                    Err(_) => {
                        if !send(&mut sender, ": still there\n\n".to_owned()).await {
                            return;
                        }
                    }
                }
            }
        }
    }
}

/// `false`: the reader is gone, or does not read.
async fn send(sender: &mut Sender<Bytes, Infallible>, text: String) -> bool {
    matches!(timeout(PATIENCE, sender.send_data(text.into())).await, Ok(Ok(())))
}

/// Tells everyone, for as long as the process lives.
pub async fn run(routes: Arc<Routes>) {
    loop {
        if !routes.feed.is_wanted() {
            routes.feed.wanted.notified().await;
        }
        let mut teller = Teller::new(routes.clone());
        let mut seen = Instant::now();
        // Readers that come and go at once find what is known to whoever does not forget.
        while seen.elapsed() < LINGER {
            teller.turn().await;
            if routes.feed.is_wanted() {
                seen = Instant::now();
            }
        }
        routes.feed.forget();
    }
}

/// What is asked for again and again: the newest answer with when it came, and the question that
/// is under way.
struct Kept<T> {
    newest: Option<(Moment, T)>,
    asking: Option<JoinHandle<Option<T>>>,
}

impl<T: Clone + Send + 'static> Kept<T> {
    const fn nothing() -> Self {
        Self { newest: None, asking: None }
    }

    /// Asks, unless that is under way or what is known is younger than this.
    fn ask(&mut self, every: Duration, question: impl Future<Output = Option<T>> + Send + 'static) {
        let fresh = |(at, _): &(Moment, T)| clock::now().since(*at) < every;
        if self.asking.is_none() && !self.newest.as_ref().is_some_and(fresh) {
            self.asking = Some(tokio::spawn(question));
        }
    }

    /// Waits for the answer, for ever where nothing is asked; whether it says anything. What was
    /// known before stays until something is.
    async fn answered(&mut self) -> bool {
        let Some(asking) = &mut self.asking else { return std::future::pending().await };
        let answer = asking.await.ok().flatten();
        self.asking = None;
        let Some(answer) = answer else { return false };
        self.newest = Some((clock::now(), answer));
        true
    }

    /// What is known, and how many milliseconds ago it was said.
    fn aged(&self) -> Option<(T, u64)> {
        let (at, known) = self.newest.as_ref()?;
        let age = clock::now().since(*at).as_millis();
        Some((known.clone(), u64::try_from(age).unwrap_or(u64::MAX)))
    }
}

/// Tells what this voter knows, with what it asked others for.
struct Teller {
    routes: Arc<Routes>,
    /// The leader's word, where this voter does not lead.
    heard: Kept<Known>,
    /// Whether each site could be lost, as the leader says.
    ready: Kept<Vec<SiteReady>>,
    /// How much of the promised time each service was there.
    sla: Kept<sla::Told>,
    /// Something was committed that is not told yet.
    news: bool,
}

impl Teller {
    fn new(routes: Arc<Routes>) -> Self {
        let (heard, ready, sla) = (Kept::nothing(), Kept::nothing(), Kept::nothing());
        Self { routes, heard, ready, sla, news: false }
    }

    /// Tells what is known now, at once and again when the leader has answered; then waits for
    /// news.
    async fn turn(&mut self) {
        let mut changes = self.routes.projection.clone();
        let mut standing = self.routes.standing.clone();
        changes.mark_unchanged();
        let leads = standing.borrow_and_update().leads;
        let began = Instant::now();
        if leads {
            self.heard.newest = None;
        } else {
            self.heard.ask(Duration::ZERO, ask(self.routes.clone(), Query::Overview));
        }
        self.ready.ask(READINESS, readiness(self.routes.clone()));
        if self.routes.own.sla.is_some() {
            self.sla.ask(JOURNALS, journals(self.routes.clone()));
        }
        // What is committed is told at once; what is measured can wait for who measures.
        if !std::mem::take(&mut self.news) && self.heard.asking.is_some() {
            let _told_later_if_late = timeout(FIRST_WORD, self.heard.answered()).await;
        }
        self.tell().await;
        let mut due = began + MEASURED;
        loop {
            let says = tokio::select! {
                says = self.heard.answered() => says,
                says = self.ready.answered() => says,
                says = self.sla.answered() => says,
                changed = changes.changed() => {
                    if changed.is_ok() {
                        self.news = true;
                        due = due.min(began + SPACING);
                    }
                    false
                }
                _ = standing.changed() => {
                    due = due.min(began + SPACING);
                    false
                }
                // Somebody new is told at once.
                () = self.routes.feed.wanted.notified() => {
                    due = due.min(began + SPACING);
                    false
                }
                () = sleep_until(due) => return,
            };
            if says {
                self.tell().await;
            }
        }
    }

    async fn tell(&self) {
        // A voter whose disk hangs knows nothing new: readers see how old what they have is.
        let Some(own) = self.routes.know().await else { return };
        let (told, ready, sla) = (self.heard.aged(), self.ready.aged(), self.sla.aged());
        let routes = self.routes.clone();
        // Writing it down takes longer than the loop should wait.
        let telling = tokio::task::spawn_blocking(move || {
            let told = told.as_ref().map(|(known, age)| (known, *age));
            routes.feed.tell(&Overview::of(*own, told).with_readiness(ready).with_sla(sla));
        });
        if let Err(error) = telling.await {
            tracing::warn!("the page was not told: {error}");
        }
    }
}

/// Whether each site could be lost, as the leader answers.
async fn readiness(routes: Arc<Routes>) -> Option<Vec<SiteReady>> {
    let answer: Readiness = ask(routes, Query::Readiness { of: None }).await?;
    Some(verdicts(&answer))
}

/// What the journals beside this voter say; nothing while no leader says what is declared.
async fn journals(routes: Arc<Routes>) -> Option<sla::Told> {
    let settings = routes.own.sla.clone()?;
    let Transitions { transitions } = ask(routes.clone(), Query::Transitions).await?;
    let DeclaredTopology { topology, .. } = ask(routes, Query::Topology).await?;
    let read = move || sla::Told::of(&settings, &topology, &transitions, clock::wall());
    tokio::task::spawn_blocking(read).await.ok()
}

async fn ask<T: DeserializeOwned>(routes: Arc<Routes>, query: Query) -> Option<T> {
    let reply = routes.ask(Question::Query(query)).await;
    let Reply::Found(value) = reply else { return None };
    serde_json::from_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(n: u64) -> Arc<Told> {
        let parts = [("n".to_owned(), n.to_string()), ("same".to_owned(), "[]".to_owned())];
        Arc::new(Told { revision: Revision(n), parts: parts.into() })
    }

    #[test]
    fn only_what_differs_is_told_again() {
        let (one, two) = (told(1), told(2));
        assert_eq!(one.whole(), "{\"n\":1,\"same\":[]}");
        assert_eq!(two.since(Some(&one)), "{\"n\":2}");
    }

    /// I-27: a place is not held for ever by somebody who reads nothing.
    #[tokio::test]
    async fn i27_who_does_not_read_loses_his_place() {
        let feed = Feed::default();
        let place = feed.listen(Audience::Anyone).expect("there is one");
        let _never_read = place.events();
        assert_eq!(feed.anyone.1.available_permits(), PLACES - 1);
        let freed = async {
            for n in 1.. {
                feed.anyone.0.send_replace(Some(told(n)));
                if feed.anyone.1.available_permits() == PLACES {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE * 6, freed).await.expect("the place is given back");
        let places: Vec<_> = (0..PLACES).map(|_| feed.listen(Audience::Anyone)).collect();
        assert!(places.iter().all(Option::is_some) && feed.listen(Audience::Anyone).is_none());
        assert!(feed.listen(Audience::Operators).is_some(), "operators have their own");
    }
}
