//! Against real servers: the return of a former primary, and promotions that take their time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should not")]

mod support;

use failover::comply::{Action, Divergence};
use failover::report::Server;
use failover::{Epoch, Generation};
use std::time::Duration;
use support::{Site, World, id, play, wait_for};
use wire::clock::now;

/// `a` led epoch 1 and went on alone after `b` was sealed; `b` leads epoch 2.
async fn diverged(world: &World) -> (Site, Site) {
    let (a, b) = world.pair().await;
    a.sql("create table t as select generate_series(1, 1000) n").await;
    b.act(Action::Seal { epoch: Epoch(1) }).await;
    let alone = a.instance.access.connect().await.unwrap();
    for statement in [
        "set synchronous_commit = local",
        "create table lost as select 1 n",
        "with gone as (delete from t where n > 998) update t set n = -n where n <= 3",
    ] {
        alone.execute(statement, Duration::from_secs(5)).await.unwrap();
    }
    a.act(Action::Fence { reason: "test".into() }).await;
    world.lead(&b, 2, &["a"], 2);
    b.act(Action::Accept { epoch: Epoch(2) }).await;
    b.act(Action::Promote).await;
    world.follow(&a, 2, "b");
    assert_eq!(a.instance.local().divergence, Divergence::Suspected);
    (a, b)
}

#[test]
fn i14_the_lost_tail_is_kept_and_the_rewound_follows() {
    play("i14_the_lost_tail_is_kept_and_the_rewound_follows", async {
        let world = World::new(&["a", "b"]);
        let (a, b) = diverged(&world).await;
        let begun = now();
        a.act(Action::Rewind { upstream: id("b") }).await;
        println!("rewind: {:?}", now().since(begun));
        assert_eq!(a.instance.local().divergence, Divergence::None);
        a.act(Action::StartStandby { upstream: Some(id("b")) }).await;
        a.until_streaming().await;
        println!("rewound and streaming: {:?}", now().since(begun));
        let folder = a.instance.layout.run.join("lost-tail/1");
        let manifest = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        let kept = manifest["segments"].as_array().unwrap();
        assert!(!kept.is_empty());
        assert!(folder.join(kept[0].as_str().unwrap()).exists());
        // What it held, by table: one that both have by name, one that is gone by number.
        let summary = folder.join("summary.json");
        wait_for("the summary", || summary.exists()).await;
        a.instance.measure.notify_one();
        let note = || a.instance.state().notes.get("lost-tail").map(|note| note.text.clone());
        wait_for("its names", || note().is_some_and(|text| text.contains("committed"))).await;
        let note = note().unwrap();
        println!("{note}");
        assert!(note.contains("postgres.public.t +0 ~3 -2"), "{note}");
        assert!(note.contains("/5/") && note.contains(" +1 ~0 -0"), "{note}");
        b.until_proven(Epoch(2)).await;
        b.act(Action::Enforce { generation: Generation(2) }).await;
        b.until("enforced", |local| local.enforced == Some(Generation(2))).await;
        assert_eq!(a.sql("select to_regclass('lost') is null").await.as_deref(), Some("t"));
        assert_eq!(a.sql("select count(*) from t").await.as_deref(), Some("1000"));
    });
}

#[test]
fn what_somebody_else_started_is_ended_before_a_rewind() {
    play("what_somebody_else_started_is_ended_before_a_rewind", async {
        let world = World::new(&["a", "b"]);
        let (a, _b) = diverged(&world).await;
        let config = a.instance.layout.postgresql_conf();
        let mut stranger = std::process::Command::new(a.instance.programs.path("postgres"))
            .arg("-D")
            .arg(a.data())
            .arg("-c")
            .arg(format!("config_file={}", config.display()))
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let lock = a.data().join("postmaster.pid");
        // Its own lock file: the one of the server that was killed says `ready` too.
        let own = stranger.id().to_string();
        let ready = || {
            std::fs::read_to_string(&lock).is_ok_and(|text| {
                text.lines().next() == Some(own.as_str()) && text.contains("ready")
            })
        };
        wait_for("the stranger", ready).await;
        a.act(Action::Rewind { upstream: id("b") }).await;
        drop(stranger.wait());
        a.act(Action::StartStandby { upstream: Some(id("b")) }).await;
        a.until_streaming().await;
    });
}

#[test]
fn i15_a_failed_rewind_is_quarantined_and_copied_anew() {
    play("i15_a_failed_rewind_is_quarantined_and_copied_anew", async {
        let world = World::new(&["a", "b"]);
        let (a, b) = diverged(&world).await;
        // A file that cannot be written stops it half-way.
        let victim = a.data().join("pg_xact");
        let aside = a.data().join("pg_xact.gone");
        std::fs::rename(&victim, &aside).unwrap();
        std::fs::write(&victim, b"not a directory").unwrap();
        assert!(a.try_act(Action::Rewind { upstream: id("b") }).await.is_err());
        assert_eq!(a.instance.local().server, Server::Absent);
        assert_eq!(a.instance.local().divergence, Divergence::Beyond);
        assert!(a.instance.layout.beside("quarantine").join("PG_VERSION").exists());
        a.act(Action::Clone { upstream: id("b") }).await;
        assert_eq!(a.instance.local().divergence, Divergence::None);
        a.act(Action::StartStandby { upstream: Some(id("b")) }).await;
        a.until_streaming().await;
        b.until_proven(Epoch(2)).await;
    });
}

#[test]
fn i21_a_blocked_promotion_is_unknown_until_it_is_done() {
    play("i21_a_blocked_promotion_is_unknown_until_it_is_done", async {
        let world = World::new(&["a", "b"]);
        let (a, b) = world.pair().await;
        a.sql("create table t as select generate_series(1, 10) n").await;
        let bound = Duration::from_secs(5);
        let patient = b.instance.access.connect().await.unwrap();
        b.until_sql("select to_regclass('t') is not null", "t").await;
        // A client's session with a lock that replay must wait for, and no end to its patience.
        patient.execute("set max_standby_streaming_delay = -1", bound).await.unwrap_or(());
        a.sql("create role client").await;
        a.sql("grant all on t to client").await;
        a.sql("alter role client set statement_timeout = 0").await;
        b.until_sql("select to_regrole('client') is not null", "t").await;
        patient.execute("begin; set local role client; select * from t", bound).await.unwrap();
        a.sql("drop table t").await;
        a.act(Action::Fence { reason: "test".into() }).await;
        world.lead(&b, 2, &["a"], 2);
        b.act(Action::Accept { epoch: Epoch(2) }).await;
        let begun = now();
        while let Err(error) = b.try_act(Action::Promote).await {
            println!("unknown: {error}");
        }
        println!("promoted after {:?}", now().since(begun));
        b.until("writable", |local| matches!(local.server, Server::Writable { .. })).await;
        assert_eq!(b.sql("select to_regclass('t') is null").await.as_deref(), Some("t"));
    });
}

#[test]
fn i18_a_foreign_directory_is_refused_untouched() {
    play("i18_a_foreign_directory_is_refused_untouched", async {
        let world = World::new(&["a", "b"]);
        let a = world.first("a", &["b"]).await;
        a.act(Action::Fence { reason: "test".into() }).await;
        let data = a.data().to_owned();
        let b = world.config("b");
        std::fs::create_dir_all(&b.data).unwrap();
        let copied = std::process::Command::new("cp")
            .args(["-a", &format!("{}/.", data.display())])
            .arg(&b.data)
            .status()
            .unwrap();
        assert!(copied.success());
        let b = world.site("b").await;
        world.follow(&b, 1, "a");
        let Server::Refused(reason) = b.instance.local().server else { panic!("accepted") };
        assert!(reason.contains("not made by this agent"), "{reason}");
        assert!(b.try_act(Action::StartStandby { upstream: None }).await.is_err());
        assert!(!b.data().join("standby.signal").exists());
    });
}
