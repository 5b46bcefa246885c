//! The second beat: reports out, assignments in. Any voter will do; a follower passes reports on,
//! and says where the leader is.

use crate::instance::Instance;
use crate::state::gist;
use crate::survey::Told;
use crate::{identity, isolate};
use failover::report::{Answer, Echo, Report};
use failover::{Assignment, Moment};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use wire::clock::{self, now};
use wire::http::{Client, HttpError};
use wire::role::Kind;

/// Reports under way at once; one to a silent voter must not hold the next one up.
const AT_ONCE: usize = 4;
/// A report that has waited this long may be at a voter that is silent: the next goes elsewhere.
const PATIENCE: Duration = Duration::from_millis(100);
/// For this long a voter that failed is asked last.
const FAILED: Duration = Duration::from_secs(3);
/// A voter answers a long poll after at most 20 s.
const LONG_POLL: Duration = Duration::from_secs(25);

/// The voters; preferred is the leader, as far as the one that answered last knows.
pub struct Voters {
    clients: Vec<Client>,
    preferred: AtomicUsize,
    /// Which start of the agent this is: grows from one to the next.
    run: AtomicU64,
    sequence: AtomicU64,
    /// What the leader that answered last said.
    echo: Mutex<Option<Echo>>,
    /// It drops reports until it hears that again.
    unheard: AtomicBool,
    /// When each report that is under way was begun.
    under_way: Mutex<Vec<Moment>>,
    /// When a report to each voter last failed.
    failed: Mutex<Vec<Option<Moment>>>,
}

impl Voters {
    /// One client each, with the agent's certificate.
    ///
    /// # Errors
    /// The certificate cannot be used.
    pub fn new(instance: &Instance) -> io::Result<Self> {
        let files = identity::installed(&instance.layout);
        let identity = wire::tls::Identity::load(&files).map_err(io::Error::other)?;
        let clients: Result<Vec<Client>, HttpError> = instance
            .config
            .voters
            .iter()
            .map(|address| Client::new(&identity, Kind::Voter, *address))
            .collect();
        let clients = clients.map_err(io::Error::other)?;
        let failed = Mutex::new(vec![None; clients.len()]);
        Ok(Self {
            clients,
            preferred: AtomicUsize::new(0),
            run: AtomicU64::new(clock::wall_micros()),
            sequence: AtomicU64::new(0),
            echo: Mutex::default(),
            unheard: AtomicBool::new(false),
            under_way: Mutex::default(),
            failed,
        })
    }

    fn at(&self, index: usize) -> Option<&Client> {
        self.clients.get(index % self.clients.len().max(1))
    }

    fn index_of(&self, address: SocketAddr) -> Option<usize> {
        self.clients.iter().position(|client| client.address() == address)
    }

    /// Every voter, in the order in which a report that begins now tries them: the preferred first,
    /// unless a report waits for it already; those that failed lately behind the others.
    fn order(&self, begun: Moment) -> Vec<usize> {
        let waits = self.reports().iter().any(|since| begun.since(*since) >= PATIENCE);
        let first = self.preferred.load(Ordering::SeqCst).wrapping_add(usize::from(waits));
        let count = self.clients.len().max(1);
        let mut order: Vec<usize> =
            (0..self.clients.len()).map(|step| first.wrapping_add(step) % count).collect();
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = |at: &Moment| begun.since(*at) < FAILED;
        order.sort_by_key(|index| {
            failed.get(*index).copied().flatten().is_some_and(|at| lately(&at))
        });
        order
    }

    fn note(&self, index: usize, failed: Option<Moment>) {
        let mut known = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(index) {
            *known = failed;
        }
    }

    fn reports(&self) -> MutexGuard<'_, Vec<Moment>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run of which the leader knows is over. One with a greater number, or with this one's and
    /// more reports than this one has made, began before the wall clock was put back: this one
    /// counts on from there.
    fn outlast(&self, run: u64, sequence: u64) {
        let own = self.run.load(Ordering::SeqCst);
        let made = self.sequence.load(Ordering::SeqCst);
        if run > own || (run == own && sequence >= made) {
            tracing::info!(run, "the wall clock went back since the agent's run before");
            self.run.fetch_max(run.saturating_add(1), Ordering::SeqCst);
        }
    }

    /// What a leader said and which voter it is, unless something newer was heard: answers overtake
    /// one another. `true`: it is one that has not heard this agent yet.
    fn note_leader(&self, said: Option<Echo>, leader: usize) -> bool {
        let mut known = self.echo.lock().unwrap_or_else(PoisonError::into_inner);
        if said < *known {
            return false;
        }
        let later = said.map(|echo| echo.term) > known.map(|echo| echo.term);
        *known = said;
        self.preferred.store(leader, Ordering::SeqCst);
        self.unheard.fetch_or(later, Ordering::SeqCst);
        later
    }

    /// Asks one voter, and takes in what it answers: which one, and whether it did.
    async fn ask(
        self: Arc<Self>,
        instance: Arc<Instance>,
        index: usize,
        report: Report,
        patience: Duration,
    ) -> (usize, bool) {
        let Some(client) = self.at(index) else { return (index, false) };
        let within = instance.timing().suspect_after.max(patience);
        let sent = now();
        match client.post_patiently::<_, Answer>("/v1/report", &report, patience, within).await {
            Ok(answer) => {
                self.outlast(answer.run, answer.sequence);
                let leader = answer.leader.and_then(|address| self.index_of(address));
                if self.note_leader(answer.echo, leader.unwrap_or(index)) {
                    instance.speak.notify_one();
                }
                take(&instance, answer, sent);
                (index, true)
            }
            Err(error) => {
                tracing::debug!(voter = %client.address(), %error, "report not answered");
                (index, false)
            }
        }
    }

    /// The preferred voter did not do: the next one is.
    fn rotate(&self, from: usize) {
        let next = from.wrapping_add(1) % self.clients.len().max(1);
        let _ = self.preferred.compare_exchange(from, next, Ordering::SeqCst, Ordering::SeqCst);
    }
}

/// Reports once a heartbeat, and at once when the gist changes.
pub async fn report(instance: Arc<Instance>, voters: Arc<Voters>) {
    let mut said: Option<Report> = None;
    let mut told = Told::default();
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    let mut due = now();
    loop {
        // Nobody closes them.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        while tasks.try_join_next().is_some() {}
        isolate::over(&instance).await;
        let mut report = instance.report();
        let essence = gist(&report);
        let news = said.as_ref() != Some(&essence);
        let due_now = now() >= due || voters.unheard.swap(false, Ordering::SeqCst);
        if news || due_now {
            said = Some(essence);
            report.survey = told.due(&instance);
            due = now().after(instance.timing().heartbeat);
            let (instance, voters) = (Arc::clone(&instance), Arc::clone(&voters));
            tasks.spawn(async move { send(&instance, &voters, report, slot).await });
        }
        let rest = due.since(now()).max(Duration::from_millis(1));
        tokio::select! {
            () = instance.speak.notified() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

/// Tries every voter once. Whoever does not answer in time holds nothing up, and is heard all the
/// same when his answer comes: on a slow way every answer is late.
async fn send(
    instance: &Arc<Instance>,
    voters: &Arc<Voters>,
    mut report: Report,
    slot: OwnedSemaphorePermit,
) {
    let patience = instance.timing().heartbeat.max(Duration::from_millis(200));
    let begun = now();
    // One number however often it is sent: said late, it must not pass for newer than the next.
    report.run = voters.run.load(Ordering::SeqCst);
    report.echo = *voters.echo.lock().unwrap_or_else(PoisonError::into_inner);
    report.sequence = voters.sequence.fetch_add(1, Ordering::SeqCst);
    let mut asked = JoinSet::new();
    let mut answered = false;
    voters.reports().push(begun);
    for index in voters.order(begun) {
        if instance.isolated().is_some() {
            break;
        }
        let instance = Arc::clone(instance);
        asked.spawn(Arc::clone(voters).ask(instance, index, report.clone(), patience));
        let heard = tokio::time::timeout(patience, first(&mut asked, index)).await;
        let heard = heard.unwrap_or_default();
        voters.note(heard.unwrap_or(index), heard.is_none().then(now));
        answered = heard.is_some();
        if answered {
            break;
        }
        voters.rotate(index);
    }
    if answered {
        instance.tally.report_answered();
    } else {
        instance.tally.report_unanswered();
    }
    {
        let mut reports = voters.reports();
        if let Some(place) = reports.iter().position(|since| *since == begun) {
            reports.swap_remove(place);
        }
    }
    drop(slot);
    while asked.join_next().await.is_some() {}
}

/// Who answered, before the one that was asked last has failed.
async fn first(asked: &mut JoinSet<(usize, bool)>, last: usize) -> Option<usize> {
    while let Some(ended) = asked.join_next().await {
        match ended {
            Ok((index, true)) => return Some(index),
            Ok((index, false)) if index == last => return None,
            Ok(_) | Err(_) => {}
        }
    }
    None
}

/// What was under way when it cut itself off is not heard.
fn take(instance: &Instance, answer: Answer, sent: Moment) {
    if instance.isolated().is_some() {
        return;
    }
    instance.hear(answer.assignment);
    if let Some(epoch) = answer.lease {
        instance.lease(epoch, sent);
    }
}

/// Waits at a voter for the next assignment, again and again. `offset` 0 waits at the preferred
/// voter, 1 at the one after it: the loss of one must not cost the push.
pub async fn poll(instance: Arc<Instance>, voters: Arc<Voters>, offset: usize) {
    let mut skip = 0usize;
    loop {
        isolate::over(&instance).await;
        let index = voters.preferred.load(Ordering::SeqCst).wrapping_add(offset + skip);
        let Some(client) = voters.at(index) else { return };
        let path = {
            let state = instance.state();
            let revision = state.assignment.as_ref().map_or(0, |a| a.revision.0);
            format!("/v1/assignment/{}?after={revision}", instance.config.instance)
        };
        let begun = now();
        match client.get::<Assignment>(&path, LONG_POLL).await {
            Ok(assignment) => {
                let news = instance.isolated().is_none() && instance.hear(assignment);
                skip = 0;
                if !news && now().since(begun) < Duration::from_millis(50) {
                    // It answers at once with nothing new: it is behind, or does not know better.
                    tokio::time::sleep(instance.timing().heartbeat).await;
                }
            }
            Err(error) => {
                tracing::debug!(voter = %client.address(), %error, "no assignment");
                skip = skip.wrapping_add(1);
                tokio::time::sleep(instance.timing().heartbeat / 2).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(run: u64, sequence: u64) -> Voters {
        Voters {
            clients: vec![],
            preferred: AtomicUsize::new(0),
            run: AtomicU64::new(run),
            sequence: AtomicU64::new(sequence),
            echo: Mutex::default(),
            unheard: AtomicBool::new(false),
            under_way: Mutex::default(),
            failed: Mutex::default(),
        }
    }

    fn after(own: (u64, u64), heard: (u64, u64)) -> u64 {
        let voters = voters(own.0, own.1);
        voters.outlast(heard.0, heard.1);
        voters.run.load(Ordering::SeqCst)
    }

    #[test]
    fn a_run_counts_on_from_one_that_the_leader_heard() {
        assert_eq!(after((7, 3), (6, 90)), 7, "the one before");
        assert_eq!(after((7, 3), (7, 2)), 7, "its own newest");
        assert_eq!(after((7, 3), (9, 0)), 10, "the wall clock went back");
        assert_eq!(after((7, 3), (7, 3)), 8, "another by the same number");
        assert_eq!(after((0, 1), (0, 90)), 1, "both began before 1970");
    }
}
