//! A former primary's way back, rehearsed beside a standby that goes on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should not")]

mod support;

use agent::processes;
use agent::sql::Access;
use failover::drill::Progress;
use failover::{Assignment, DrillId, Role};
use std::path::PathBuf;
use std::time::Duration;
use support::pair::Pair;
use support::{connected, id, play, wait_for};

const DRILL: DrillId = DrillId(9);
const BOUND: Duration = Duration::from_secs(30);

/// A primary and its standby, and the way into the primary.
struct Sites {
    to_a: Access,
    pair: Pair,
}

impl Sites {
    async fn new() -> Self {
        let pair = Pair::new().await;
        let sites = Self { to_a: pair.world.access("a"), pair };
        sites.execute("create table t (n bigint)").await;
        sites
    }

    async fn execute(&self, statement: &str) {
        connected(&self.to_a).await.unwrap().execute(statement, BOUND).await.unwrap();
    }

    async fn ask(&self, query: &str) -> Option<String> {
        connected(&self.to_a).await.unwrap().text(query, BOUND).await.unwrap()
    }

    fn orders(&self, rehearse: Option<DrillId>) {
        let follows = Role::Standby { upstream: id("a") };
        let assignment = self.pair.world.assignment("b", 1, follows, &[], 0);
        self.pair.at_b.show(Assignment { rehearse, ..assignment }, None);
    }

    fn said(&self) -> Option<Progress> {
        let said = self.pair.at_b.last()?.rehearsed?;
        assert_eq!(said.drill, DRILL);
        Some(said.stands)
    }

    /// Where the copy is: its data directory and what lies beside, its run directory.
    fn places(&self) -> [PathBuf; 3] {
        let config = self.pair.world.config("b");
        let name = |suffix: &str| config.data.with_file_name(format!("pgdata.rehearsal{suffix}"));
        [name(""), name(".new"), config.run.join("rehearsal")]
    }

    fn is_clean(&self) -> bool {
        let [data, ..] = self.places();
        processes::within(&data).is_empty() && self.places().iter().all(|path| !path.exists())
    }

    async fn until_copied(&self) {
        let [data, ..] = self.places();
        wait_for("the copy runs", || !processes::within(&data).is_empty()).await;
    }
}

/// I-09, I-36: the copy leads, dies, and is brought back; commits of the service wait for the
/// standby alone meanwhile, and nothing is left of it.
#[test]
fn i09_i36_a_copy_leads_dies_and_comes_back_and_nothing_is_left_of_it() {
    play("i09_i36_a_copy_leads_dies_and_comes_back_and_nothing_is_left_of_it", async {
        let sites = Sites::new().await;
        sites.orders(Some(DRILL));
        let mut rows = 0;
        while matches!(sites.said(), None | Some(Progress::UnderWay(_))) {
            sites.execute("insert into t values (1)").await;
            rows += 1;
            let names = "select count(*) from pg_stat_replication where sync_state <> 'async' \
                         and application_name <> 'b'";
            assert_eq!(sites.ask(names).await.as_deref(), Some("0"), "it counts for nothing");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match sites.said() {
            Some(Progress::Done(text)) => assert!(text.contains("caught up with a at"), "{text}"),
            other => panic!("{other:?}"),
        }
        let notes = sites.pair.at_a.last().unwrap().notes;
        assert!(!notes.iter().any(|note| note.subject == "impostor"), "nobody ended its stream");
        assert!(sites.is_clean(), "{:?}", sites.places());
        assert_eq!(sites.ask("select count(*) from t").await, Some(rows.to_string()));
        let written = "select to_regclass('public.baton_rehearsal') is null";
        assert_eq!(sites.ask(written).await.as_deref(), Some("t"));
        let streams =
            || sites.pair.at_b.last().is_some_and(|r| r.receiver.is_some_and(|r| r.streaming));
        wait_for("it still streams", streams).await;
        // Said once: the same order is not obeyed again.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(sites.is_clean());
    });
}

/// I-36: whoever does not want it any more ends it at once.
#[test]
fn i36_a_rehearsal_that_is_not_wanted_any_more_ends() {
    play("i36_a_rehearsal_that_is_not_wanted_any_more_ends", async {
        let sites = Sites::new().await;
        sites.orders(Some(DRILL));
        sites.until_copied().await;
        sites.orders(None);
        wait_for("it is gone", || sites.is_clean() && sites.said().is_none()).await;
    });
}

/// I-36: an agent that is killed in the middle of one leaves nothing to its next run.
#[test]
fn i36_an_agent_killed_while_it_rehearses_cleans_up() {
    play("i36_an_agent_killed_while_it_rehearses_cleans_up", async {
        let mut sites = Sites::new().await;
        sites.orders(Some(DRILL));
        sites.until_copied().await;
        sites.pair.b.kill();
        sites.orders(None);
        sites.pair.b.restart();
        wait_for("it is gone", || sites.is_clean()).await;
    });
}
