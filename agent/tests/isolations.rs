//! A primary that is told to be as one whose site is cut off, and its way back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should not")]

mod support;

use agent::processes;
use agent::sql::Access;
use failover::drill::Isolation;
use failover::report::{Down, Server};
use failover::{Assignment, DrillId, Epoch};
use std::time::Duration;
use support::pair::Pair;
use support::process::{postmaster_of, primary, writable};
use support::{play, wait_for};
use wire::clock::now;

const DRILL: DrillId = DrillId(7);
const BOUND: Duration = Duration::from_secs(5);

/// A primary and its standby, and the way into the primary.
struct Sites {
    to_a: Access,
    pair: Pair,
}

impl Sites {
    async fn new() -> Self {
        let pair = Pair::new().await;
        let sites = Self { to_a: pair.world.access("a"), pair };
        sites.execute("create table t (n bigint)").await.unwrap();
        sites
    }

    async fn execute(&self, statement: &str) -> Option<()> {
        let connecting = tokio::time::timeout(BOUND, self.to_a.connect());
        let connection = connecting.await.ok()?.ok()?;
        connection.execute(statement, BOUND).await.ok()
    }

    async fn count(&self) -> Option<String> {
        let connection = tokio::time::timeout(BOUND, self.to_a.connect()).await.ok()?.ok()?;
        connection.text("select count(*) from t", BOUND).await.ok().flatten()
    }

    fn orders(&self, at_most: Duration) {
        let assignment = self.pair.world.assignment("a", 1, primary(), &["b"], 1);
        let isolate = Some(Isolation { drill: DRILL, at_most });
        self.pair.at_a.show(Assignment { isolate, ..assignment }, Some(Epoch(1)));
    }

    /// With one row, and cut off; its postmaster.
    async fn cut_off(&self, at_most: Duration) -> u32 {
        self.execute("insert into t values (1)").await.unwrap();
        self.orders(at_most);
        self.until_frozen().await
    }

    fn heard(&self) -> usize {
        self.pair.at_a.shown.lock().unwrap().reports.len()
    }

    fn streams_to_b(&self) -> bool {
        let report = self.pair.at_b.last().unwrap();
        report.receiver.is_some_and(|receiver| {
            receiver.streaming && receiver.age < self.pair.world.timing.suspect_after
        })
    }

    /// PostgreSQL was stopped in its tracks.
    async fn until_frozen(&self) -> u32 {
        let postmaster = postmaster_of(&self.pair.world, "a").unwrap();
        let stops = || processes::stat(postmaster).is_none_or(|stat| stat.state == 'T');
        wait_for("frozen", stops).await;
        postmaster
    }

    async fn serves_again(&self, rows: &str) {
        wait_for("admitted again", || writable(&self.pair.at_a) == Some(true)).await;
        wait_for("it streams", || self.streams_to_b()).await;
        for _ in 0..100 {
            if self.execute("insert into t values (2)").await.is_some() {
                assert_eq!(self.count().await.as_deref(), Some(rows));
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it takes no writes");
    }
}

/// I-02, I-24, I-36: nothing comes from it and nothing reaches it; its lease runs out and it is
/// fenced; at the deadline it is back by itself, is not cut off again, and nothing is lost.
#[test]
fn i36_a_primary_that_is_cut_off_is_silent_fenced_and_back() {
    play("i36_a_primary_that_is_cut_off_is_silent_fenced_and_back", async {
        let sites = Sites::new().await;
        let timing = sites.pair.world.timing.clone();
        let at_most = timing.suspect_after * 3;
        let asked = now();
        let postmaster = sites.cut_off(at_most).await;
        let began = now();
        let port = sites.pair.world.config("a").listen;
        assert!(tokio::net::TcpStream::connect(port).await.is_ok(), "nothing refuses");
        tokio::time::sleep(timing.heartbeat).await;
        let heard = sites.heard();
        // What a client waits for does not come.
        assert_eq!(sites.execute("insert into t values (9)").await, None);
        wait_for("fenced", || !processes::is_alive(postmaster)).await;
        let bound = timing.fence_after + timing.fence_time;
        assert!(now().since(began) < bound + Duration::from_secs(3), "as every primary is");
        wait_for("no sign of it", || !sites.streams_to_b()).await;
        assert_eq!(sites.heard(), heard, "it says nothing");
        assert_eq!(postmaster_of(&sites.pair.world, "a"), None, "and starts nothing");
        wait_for("it is heard", || sites.heard() > heard).await;
        assert!(now().since(asked) >= at_most, "{:?}", now().since(asked));
        assert!(now().since(began) < at_most * 2, "{:?}", now().since(began));
        let report = sites.pair.at_a.shown.lock().unwrap().reports[heard].clone();
        assert_eq!(report.pledge.isolated, Some(DRILL));
        assert_eq!(report.server, Server::Down(Down::Fenced));
        sites.serves_again("2").await;
        // Once a drill, though it is still told so.
        let (heard, postmaster) = (sites.heard(), postmaster_of(&sites.pair.world, "a").unwrap());
        wait_for("it goes on reporting", || sites.heard() > heard + 2).await;
        assert!(processes::stat(postmaster).is_some_and(|stat| stat.state != 'T'));
    });
}

/// I-36: an agent that is started again is not cut off any more, and wakes what it had stopped.
#[test]
fn i36_an_agent_that_is_started_again_ends_it() {
    play("i36_an_agent_that_is_started_again_ends_it", async {
        let mut sites = Sites::new().await;
        let postmaster = sites.cut_off(Duration::from_mins(1)).await;
        sites.pair.a.kill();
        let heard = sites.heard();
        sites.pair.a.restart();
        wait_for("it is heard", || sites.heard() > heard).await;
        assert_eq!(sites.pair.at_a.last().unwrap().pledge.isolated, Some(DRILL));
        let same = processes::is_alive(postmaster);
        sites.serves_again("2").await;
        if same {
            assert_eq!(
                postmaster_of(&sites.pair.world, "a"),
                Some(postmaster),
                "it was only woken"
            );
        }
    });
}

/// I-03, I-36: one that is not started again leaves nothing frozen behind: its guard sees to that.
#[test]
fn i36_an_agent_that_dies_cut_off_leaves_nothing_behind() {
    play("i36_an_agent_that_dies_cut_off_leaves_nothing_behind", async {
        let mut sites = Sites::new().await;
        let postmaster = sites.cut_off(Duration::from_mins(1)).await;
        sites.pair.a.kill();
        wait_for("the guard has ended it", || !processes::is_alive(postmaster)).await;
        sites.pair.a.restart();
        sites.serves_again("2").await;
    });
}
