//! Against real servers: a primary, a copy of it, sealing and promotion.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should not")]

mod support;

use failover::comply::Action;
use failover::report::Server;
use failover::{Epoch, Generation};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;
use support::{World, id, play, wait_for};
use wire::clock::now;

#[test]
fn initialise_clone_seal_promote_follow() {
    play("initialise_clone_seal_promote_follow", async {
        let world = World::new(&["a", "b", "c"]);
        let (a, b) = world.pair().await;
        let c = world.second("c", &a).await;
        assert!(a.sql("create table t (n int)").await.is_none());
        a.sql("insert into t select generate_series(1, 1000)").await;
        // The one to be promoted last: whoever is sealed later may stand further.
        for site in [&c, &b] {
            site.act(Action::Seal { epoch: Epoch(1) }).await;
            assert!(site.instance.local().sealed);
        }
        let sealed = b.instance.report().sealed_at.expect("sealed");
        a.act(Action::Fence { reason: "test".into() }).await;
        world.lead(&b, 2, &["c"], 2);
        world.follow(&c, 2, "b");
        b.act(Action::Accept { epoch: Epoch(2) }).await;
        let begun = now();
        b.act(Action::Promote).await;
        println!("promote: {:?}", now().since(begun));
        let begun = now();
        c.act(Action::Follow { upstream: id("b") }).await;
        println!("follow: {:?}", now().since(begun));
        b.until_proven(Epoch(2)).await;
        println!("follow to proven: {:?}", now().since(begun));
        b.act(Action::Enforce { generation: Generation(2) }).await;
        b.until("enforced", |local| local.enforced == Some(Generation(2))).await;
        let Server::Writable { position, .. } = b.instance.report().server else {
            panic!("not writable")
        };
        assert!(position.contains(&sealed), "{position:?} {sealed:?}");
        assert_eq!(b.sql("select count(*) from t").await.as_deref(), Some("1000"));
    });
}

/// Nobody can be rewound from a new primary before its checkpoint, and the agent that promoted it
/// may be gone before it asked for one.
#[test]
fn a_checkpoint_is_asked_for_whoever_promoted() {
    play("a_checkpoint_is_asked_for_whoever_promoted", async {
        let world = World::new(&["a", "b"]);
        let (a, b) = world.pair().await;
        a.act(Action::Fence { reason: "test".into() }).await;
        let text = "select pid::text from pg_stat_activity where backend_type = 'checkpointer'";
        let writer = Pid::from_raw(b.sql(text).await.unwrap().parse().unwrap());
        // PostgreSQL's own one, which takes its time, is held up.
        kill(writer, Signal::SIGSTOP).unwrap();
        b.sql("select pg_promote(false)::text").await;
        let asks = "select 'yes' from pg_stat_activity where query = 'checkpoint'";
        b.until_sql(asks, "yes").await;
        // One that fails is asked for again.
        let cancel = "select pid::text || pg_cancel_backend(pid)::text from pg_stat_activity \
                      where query = 'checkpoint'";
        let cancelled = b.sql(cancel).await.unwrap().replace("true", "");
        b.until_sql(&format!("{asks} and pid <> {cancelled}"), "yes").await;
        kill(writer, Signal::SIGCONT).unwrap();
        wait_for("a checkpoint", || {
            let facts = b.instance.state().facts.clone();
            facts.is_some_and(|facts| !facts.recovery && !facts.lacks_checkpoint())
        })
        .await;
    });
}

/// Streams of `b`. A survey of it, which is told to be a standby still, logs in by another name.
const RECEIVES: &str = "select count(*) from pg_stat_replication where application_name = 'b'";

#[test]
fn i06_a_sealed_standby_stays_sealed_through_a_restart() {
    play("i06_a_sealed_standby_stays_sealed_through_a_restart", async {
        let world = World::new(&["a", "b"]);
        let (a, b) = world.pair().await;
        let writing = a.instance.access.connect().await.unwrap();
        writing.execute("create table t (n int)", Duration::from_secs(5)).await.unwrap();
        let load = tokio::spawn(async move {
            while writing
                .execute("insert into t select generate_series(1, 500)", Duration::from_secs(3))
                .await
                .is_ok()
            {}
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(a.sql(RECEIVES).await.as_deref(), Some("1"));
        let begun = now();
        b.act(Action::Seal { epoch: Epoch(1) }).await;
        println!("seal under load: {:?}", now().since(begun));
        let first = b.instance.report().sealed_at.expect("sealed");
        // Nobody can release a commit any more: the load stands still.
        load.await.unwrap();
        b.act(Action::Fence { reason: "restart".into() }).await;
        assert!(b.try_act(Action::StartStandby { upstream: Some(id("a")) }).await.is_err());
        assert!(b.try_act(Action::Follow { upstream: id("a") }).await.is_err());
        b.act(Action::StartStandby { upstream: None }).await;
        b.until("up", |local| matches!(local.server, Server::Recovery { .. })).await;
        b.act(Action::Seal { epoch: Epoch(1) }).await;
        assert_eq!(b.instance.report().sealed_at, Some(first));
        assert_eq!(b.sql("select count(*) from pg_stat_wal_receiver").await.as_deref(), Some("0"));
        assert_eq!(a.sql(RECEIVES).await.as_deref(), Some("0"));
        // Even with the old conninfo back, the key is gone.
        let conf = b.instance.layout.baton_conf();
        let text = std::fs::read_to_string(&conf).unwrap();
        let config = &b.instance.config;
        let peer = world.peers.get(&id("a")).unwrap().postgres;
        let old = agent::settings::conninfo(config, &b.instance.layout, peer, Epoch(1));
        let old = old.replace('\'', "''");
        std::fs::write(&conf, format!("{text}primary_conninfo = '{old}'\n")).unwrap();
        b.instance.reload().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(a.sql(RECEIVES).await.as_deref(), Some("0"));
        wait_for("still in recovery", || {
            matches!(b.instance.local().server, Server::Recovery { .. })
        })
        .await;
    });
}
