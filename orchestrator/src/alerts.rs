//! Somebody is told: what is wrong is looked for beside the loop, put on record by the leader, and
//! told to every configured channel until it has arrived.
//!
//! Nothing is decided from an alert, and no decision waits for one: this runs on a thread of its
//! own, from a copy of what the voter's loop knows. What outlives a leader is in the replicated
//! state ([`failover::alert`]): so the next one tells nobody twice. A voter without a leader cannot
//! write there, and tells on its own that there is none.

mod channels;
mod judge;
mod send;
mod teller;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use failover::alert::{AlertChange, AlertKey, Severity, Standing};
use failover::{Moment, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use wire::clock;

use crate::answers::{Alerts, ChannelTest};
use crate::monitoring;
use crate::replica::{Query, ReadinessQuestion, Reply};
use crate::routes::{Question, Routes};

pub use channels::{Channel, Kind};
use judge::{Amiss, Wrong};
use teller::Teller;

/// How often it is looked what is wrong.
const EVERY: Duration = Duration::from_secs(2);
/// How long what is critical must be wrong before it is an alert: what repairs itself within a
/// failover's time wakes nobody.
const CRITICAL_AFTER: Duration = Duration::from_secs(10);
/// How long anything else.
const WARNING_AFTER: Duration = Duration::from_mins(1);
/// How long it must be well before an alert is over.
const OVER_AFTER: Duration = Duration::from_secs(30);
/// How long those who could not be told that an alert is over are tried.
const TRIED: Duration = Duration::from_hours(1);

/// Somebody wants to see whether what is told arrives: by one channel, or by all; and where the
/// answer goes.
pub type Test = (Option<String>, oneshot::Sender<Vec<ChannelTest>>);

/// Who watches, and whom it tells.
pub struct Watcher {
    /// The way to the voter's loop.
    pub routes: Arc<Routes>,
    /// The cluster's name.
    pub cluster: String,
    /// Whom it tells.
    pub channels: Vec<Channel>,
    /// Who wants to see whether that arrives.
    pub tests: mpsc::Receiver<Test>,
}

/// What is seen over time.
#[derive(Debug, Default)]
struct Seen {
    /// Since when each thing has been wrong.
    since: BTreeMap<AlertKey, Moment>,
    /// When each thing was last wrong.
    last: BTreeMap<AlertKey, Moment>,
    /// What comes and goes once.
    recorded: BTreeSet<AlertKey>,
}

impl Watcher {
    /// Watches until the process ends. Without a channel nothing is an alert.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start(self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let watch = move || runtime.block_on(self.watch());
        std::thread::Builder::new().name("alerts".into()).spawn(watch).map(drop)
    }

    async fn watch(mut self) {
        if self.channels.len() == 1 {
            tracing::warn!(
                "what is critical is told one way only: configure a second [[channel]] of another \
                 kind"
            );
        }
        let tellers: Vec<Arc<Teller>> = std::mem::take(&mut self.channels)
            .into_iter()
            .map(|channel| Arc::new(Teller::new(self.routes.clone(), &self.cluster, channel)))
            .collect();
        // Each by itself: a slow one holds nobody up.
        for teller in &tellers {
            tokio::spawn(teller.clone().tell());
        }
        let mut seen = Seen::default();
        let mut due = tokio::time::interval(EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = due.tick() => {}
                test = self.tests.recv() => {
                    let Some((only, answer)) = test else { return };
                    let tellers = tellers.clone();
                    tokio::spawn(async move {
                        let _asker_is_gone = answer.send(test_all(&tellers, only.as_deref()).await);
                    });
                    continue;
                }
            }
            let leads = self.routes.standing.borrow().leads;
            if leads && !tellers.is_empty() {
                self.look(&mut seen).await;
            } else {
                seen = Seen::default();
            }
        }
    }

    /// Looks what is wrong, and puts on record what follows.
    async fn look(&self, seen: &mut Seen) -> Option<()> {
        let mut sight = monitoring::look(&self.routes).await.ok()?.sight;
        let known = known(&self.routes).await?;
        let readiness = sight.readiness.take();
        let readiness = readiness.as_ref().map(ReadinessQuestion::everything);
        let wrong = judge::wrong(&sight, &readiness.unwrap_or_default());
        for (key, change) in seen.changes(&wrong, &known, clock::now(), clock::wall()) {
            record(&self.routes, key, change).await;
        }
        Some(())
    }
}

async fn test_all(tellers: &[Arc<Teller>], only: Option<&str>) -> Vec<ChannelTest> {
    let mut results = Vec::new();
    for teller in tellers.iter().filter(|it| only.is_none_or(|only| only == it.channel.name)) {
        results.push(teller.test().await);
    }
    results
}

/// The alerts on record.
async fn known(routes: &Routes) -> Option<BTreeMap<AlertKey, Standing>> {
    let reply = routes.ask_here(Question::Query(Query::Alerts)).await;
    let Reply::Found(value) = reply else { return None };
    let told: Alerts = serde_json::from_value(value).ok()?;
    Some(told.alerts)
}

async fn record(routes: &Routes, key: AlertKey, change: AlertChange) {
    let reply = routes.ask_here(Question::Alert { key, change }).await;
    if !matches!(reply, Reply::Accepted(_) | Reply::Refused { .. }) {
        tracing::debug!("an alert is not on record yet: {reply:?}");
    }
}

impl Seen {
    /// What is to be put on record: what has been wrong for long enough, and what has been well
    /// for long enough.
    fn changes(
        &mut self,
        wrong: &Wrong,
        known: &BTreeMap<AlertKey, Standing>,
        now: Moment,
        wall: Timestamp,
    ) -> Vec<(AlertKey, AlertChange)> {
        self.since.retain(|key, _| wrong.contains_key(key));
        for (key, amiss) in wrong {
            self.since.entry(key.clone()).or_insert(now);
            self.last.insert(key.clone(), now);
            if amiss.recorded {
                self.recorded.insert(key.clone());
            }
        }
        // What a leader before saw was wrong until this one looked.
        for key in known.keys() {
            self.last.entry(key.clone()).or_insert(now);
        }
        let mut changes = Vec::new();
        for (key, Amiss { alert, recorded }) in wrong {
            let after = match alert.severity {
                _ if *recorded => Duration::ZERO,
                Severity::Critical => CRITICAL_AFTER,
                Severity::Warning => WARNING_AFTER,
            };
            let stood = self.since.get(key).is_some_and(|at| now.since(*at) >= after);
            let stands = known.get(key).filter(|it| it.over.is_none());
            if stood && stands.is_none_or(|it| it.alert.severity != alert.severity) {
                let alert = alert.clone().bounded();
                changes.push((key.clone(), AlertChange::Raised { alert }));
            }
        }
        for (key, it) in known {
            let after = if self.recorded.contains(key) { Duration::ZERO } else { OVER_AFTER };
            let well = !wrong.contains_key(key)
                && self.last.get(key).is_none_or(|at| now.since(*at) >= after);
            let tried = it.over.map(|at| wall.0.saturating_sub(at.0));
            if well && it.over.is_none() {
                changes.push((key.clone(), AlertChange::Over));
            } else if tried.is_some_and(|ms| u128::try_from(ms).unwrap_or(0) > TRIED.as_millis()) {
                changes.push((key.clone(), AlertChange::Forgotten));
            }
        }
        self.recorded.retain(|key| wrong.contains_key(key) || known.contains_key(key));
        self.last.retain(|key, _| wrong.contains_key(key) || known.contains_key(key));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failover::alert::Alert;

    fn amiss(severity: Severity, recorded: bool) -> Wrong {
        let (summary, remedy) = ("x".into(), "y".into());
        let alert = Alert { severity, service: None, summary, remedy };
        Wrong::from([(key(), Amiss { alert, recorded })])
    }

    fn key() -> AlertKey {
        AlertKey::new("clinic", "no-lease").expect("a key")
    }

    fn seconds(seconds: u64) -> Moment {
        Moment(1_000_000_000 + seconds * 1_000_000)
    }

    fn at(seen: &mut Seen, wrong: &Wrong, known: &Known, second: u64) -> Vec<AlertChange> {
        let changes = seen.changes(wrong, known, seconds(second), Timestamp(0));
        changes.into_iter().map(|(_, change)| change).collect()
    }

    type Known = BTreeMap<AlertKey, Standing>;

    fn standing(severity: Severity) -> Known {
        let alert = amiss(severity, false).remove(&key()).expect("it is there").alert;
        let told = BTreeMap::new();
        let since = Timestamp(0);
        Known::from([(key(), Standing { alert, since, over: None, acknowledged: None, told })])
    }

    #[test]
    fn what_repairs_itself_is_no_alert() {
        let (mut seen, known) = (Seen::default(), Known::new());
        let critical = amiss(Severity::Critical, false);
        assert_eq!(at(&mut seen, &critical, &known, 0), []);
        assert_eq!(at(&mut seen, &critical, &known, 9), []);
        assert_eq!(at(&mut seen, &Wrong::new(), &known, 10), []);
        assert_eq!(at(&mut seen, &critical, &known, 11), [], "it counts anew");
        let raised = at(&mut seen, &critical, &known, 21);
        assert!(matches!(raised[..], [AlertChange::Raised { .. }]), "{raised:?}");
        let recorded = amiss(Severity::Warning, true);
        let raised = at(&mut Seen::default(), &recorded, &known, 0);
        assert!(matches!(raised[..], [AlertChange::Raised { .. }]), "{raised:?}");
    }

    #[test]
    fn what_flaps_stays_an_alert() {
        let (mut seen, known) = (Seen::default(), standing(Severity::Critical));
        let critical = amiss(Severity::Critical, false);
        assert_eq!(at(&mut seen, &Wrong::new(), &known, 0), [], "a new leader looks first");
        assert_eq!(at(&mut seen, &critical, &known, 20), []);
        assert_eq!(at(&mut seen, &Wrong::new(), &known, 49), []);
        assert_eq!(at(&mut seen, &Wrong::new(), &known, 50), [AlertChange::Over]);
    }

    #[test]
    fn what_gets_worse_is_raised_again() {
        let (mut seen, known) = (Seen::default(), standing(Severity::Warning));
        let critical = amiss(Severity::Critical, true);
        let raised = at(&mut seen, &critical, &known, 0);
        assert!(matches!(raised[..], [AlertChange::Raised { .. }]), "{raised:?}");
        assert_eq!(at(&mut seen, &critical, &standing(Severity::Critical), 1), []);
    }
}
