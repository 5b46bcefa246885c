//! One channel, told of everything that it wants to know, until it has arrived.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use failover::alert::{Alert, AlertChange, AlertKey, Standing, Tell, Told};
use failover::{Moment, Timestamp};
use wire::clock;

use super::channels::{Channel, Kind};
use super::send::{self, News, State};
use super::{EVERY, judge, known, record};
use crate::answers::ChannelTest;
use crate::routes::Routes;

/// How long a voter is without a leader before it tells on its own.
const LEADERLESS: Duration = Duration::from_secs(30);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The longest reason for a failure that is put on record, in characters.
const WHY: usize = 200;

/// Whom one channel is told by.
pub(super) struct Teller {
    pub(super) channel: Channel,
    routes: Arc<Routes>,
    cluster: String,
}

/// How the channel does.
#[derive(Debug, Default)]
struct Line {
    /// When it may be tried again, and how long the pause before was.
    pause: Option<(Moment, Duration)>,
    /// When an Alertmanager was last told of each alert.
    refreshed: BTreeMap<AlertKey, Moment>,
    /// Since when this channel knows that this voter has no leader.
    leaderless: Option<Timestamp>,
}

impl Line {
    fn pauses(&self) -> bool {
        self.pause.is_some_and(|(until, _)| clock::now() < until)
    }

    fn failed(&mut self) {
        let pause = self.pause.map_or(EVERY, |(_, pause)| pause * 2).min(LONGEST_PAUSE);
        self.pause = Some((clock::now().after(pause), pause));
    }
}

impl Teller {
    pub(super) fn new(routes: Arc<Routes>, cluster: &str, channel: Channel) -> Self {
        Self { channel, routes, cluster: cluster.to_owned() }
    }

    /// Tells until the process ends.
    pub(super) async fn tell(self: Arc<Self>) {
        let mut line = Line::default();
        let mut led = clock::now();
        loop {
            tokio::time::sleep(EVERY).await;
            let standing = self.routes.standing.borrow().clone();
            if standing.leader.is_some() {
                led = clock::now();
            }
            if standing.leads {
                let alerts = known(&self.routes).await.unwrap_or_default();
                line.refreshed.retain(|key, _| alerts.contains_key(key));
                for (key, known) in &alerts {
                    self.tell_of(&mut line, key, known).await;
                }
            }
            let without = clock::now().since(led) > LEADERLESS;
            self.tell_leaderless(without, &mut line).await;
        }
    }

    /// Tells something that is no alert.
    pub(super) async fn test(&self) -> ChannelTest {
        let Channel { name, kind, least, .. } = &self.channel;
        let failed = match judge::nothing() {
            Some((key, alert)) => {
                let news = self.news(&key, &alert, clock::wall(), State::Test);
                send::tell(&self.channel, &news).await.err()
            }
            None => Some("there is nothing to tell".into()),
        };
        ChannelTest { channel: name.clone(), kind: *kind, least: *least, failed }
    }

    /// Tells of one alert, if that is due.
    async fn tell_of(&self, line: &mut Line, key: &AlertKey, known: &Standing) {
        let (channel, now, wall) = (&self.channel, clock::now(), clock::wall());
        let due = known.due(&channel.name, channel.least, channel.again, wall);
        let stands = known.over.is_none() && known.alert.severity >= channel.least;
        let stale = line.refreshed.get(key).is_none_or(|at| now.since(*at) >= send::BELIEVED / 5);
        let refresh = channel.kind == Kind::Alertmanager && stands && stale;
        let state = match (due, known.over) {
            (Some(Tell::Over), Some(at)) => State::Over(at),
            (Some(_), _) => State::Standing,
            (None, _) if refresh => State::Standing,
            (None, _) => return,
        };
        let news = self.news(key, &known.alert, known.since, state);
        let Some(sent) = self.send(line, &news).await else { return };
        let before = known.told.get(&channel.name).cloned().unwrap_or_default();
        let told = match sent {
            Ok(()) => {
                line.refreshed.insert(key.clone(), now);
                match state {
                    State::Over(_) => Told { over: Some(wall), failed: None, ..before.clone() },
                    State::Standing | State::Test => {
                        Told { standing: Some(wall), over: None, failed: None }
                    }
                }
            }
            Err(why) => Told { failed: Some(why.chars().take(WHY).collect()), ..before.clone() },
        };
        // What only keeps an Alertmanager's memory alive is nothing for the record, and a failure
        // is there once.
        let fails_again = told.failed.is_some() && told == before;
        if (due.is_some() || before.failed.is_some()) && !fails_again {
            let change = AlertChange::Told { channel: channel.name.clone(), told };
            record(&self.routes, key.clone(), change).await;
        }
    }

    fn news<'a>(
        &'a self,
        key: &'a AlertKey,
        alert: &'a Alert,
        since: Timestamp,
        state: State,
    ) -> News<'a> {
        let (cluster, voter) = (self.cluster.as_str(), self.routes.name());
        News { cluster, voter, key, alert, since, state, now: clock::wall() }
    }

    /// Nobody can put on record that nobody leads: this voter remembers by itself whom it told.
    async fn tell_leaderless(&self, without: bool, line: &mut Line) {
        let Some((key, alert)) = judge::leaderless(self.routes.name()) else { return };
        let wall = clock::wall();
        let state = match (without, line.leaderless) {
            (true, None) => State::Standing,
            (false, Some(_)) => State::Over(wall),
            (true, Some(_)) | (false, None) => return,
        };
        let news = self.news(&key, &alert, line.leaderless.unwrap_or(wall), state);
        if let Some(Ok(())) = self.send(line, &news).await {
            line.leaderless = without.then_some(wall);
        }
    }

    /// Tells, unless it pauses after a failure.
    async fn send(&self, line: &mut Line, news: &News<'_>) -> Option<Result<(), String>> {
        if line.pauses() {
            return None;
        }
        let sent = send::tell(&self.channel, news).await;
        if let Err(why) = &sent {
            tracing::warn!(channel = self.channel.name, alert = %news.key, "not told: {why}");
            line.failed();
        } else {
            line.pause = None;
        }
        Some(sent)
    }
}
