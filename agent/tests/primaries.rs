//! Against real servers: what makes a primary trustworthy.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should not")]

mod support;

use failover::comply::Action;
use failover::report::{Down, Server};
use failover::{Epoch, Generation};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::{Site, World, id, play, wait_for};
use wire::clock::now;

fn end_of(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// How a client with a certificate reaches a site.
fn client(world: &World, certificate: &str, site: &Site, user: &str) -> String {
    let folder = world.folder.path().join(certificate);
    format!(
        "host=127.0.0.1 port={} user={user} dbname=postgres sslmode=verify-full connect_timeout=5 \
         sslrootcert={dir}/ca.crt sslcert={dir}/tls.crt sslkey={dir}/tls.key",
        site.instance.config.postgres.listen.port(),
        dir = folder.display()
    )
}

fn issue_probe(world: &World) {
    let folder = world.folder.path().join("probe");
    std::fs::create_dir_all(&folder).unwrap();
    let leaf = wire::ca::Leaf {
        common_name: "baton_probe".into(),
        uri: "baton://test/probe/probe".into(),
        addresses: Vec::new(),
        names: Vec::new(),
    };
    world.issue(&folder, &leaf);
}

#[test]
fn i13_born_fenced_and_i11_admitted_only_after_proof() {
    play("i13_born_fenced_and_i11_admitted_only_after_proof", async {
        let mut world = World::new(&["a", "b"]);
        world.lease_for(Duration::from_secs(30));
        let (a, _b) = world.pair().await;
        issue_probe(&world);
        let conninfo = client(&world, "probe", &a, "baton_probe");
        let ask = async || a.instance.programs.ask(&conninfo, "select 1").await;
        assert!(ask().await.is_err());
        // Without a lease nobody is let in; the standbys' acknowledgement is one.
        a.instance.state().committed = None;
        assert!(a.try_act(Action::Admit).await.is_err());
        wait_for("a pulse", || a.instance.state().committed.is_some()).await;
        a.admit().await;
        assert_eq!(ask().await.unwrap(), "1");
        let begun = now();
        a.act(Action::Fence { reason: "test".into() }).await;
        println!("fence: {:?}", now().since(begun));
        assert_eq!(a.instance.local().server, Server::Down(Down::Fenced));
        a.act(Action::StartPrimary).await;
        a.until("writable", |local| matches!(local.server, Server::Writable { .. })).await;
        assert!(!a.instance.local().configured.admits);
        assert_eq!(a.instance.local().proven, None);
        assert!(ask().await.is_err());
    });
}

#[test]
fn i08_a_marker_waits_for_its_standby() {
    play("i08_a_marker_waits_for_its_standby", async {
        let world = World::new(&["a", "b"]);
        let a = world.first("a", &[]).await;
        // With nobody named, the proof of the rule is a commit that waits.
        a.until("enforced", |local| local.enforced == Some(Generation(1))).await;
        assert_eq!(a.instance.local().proven, None);
        let waits = "select count(*) > 0 from pg_stat_activity where wait_event = 'SyncRep'";
        assert_eq!(a.sql(waits).await.as_deref(), Some("t"));
        let b = world.second("b", &a).await;
        world.lead(&a, 1, &["b"], 2);
        a.act(Action::Enforce { generation: Generation(2) }).await;
        a.until_proven(Epoch(1)).await;
        a.until("enforced", |local| local.enforced == Some(Generation(2))).await;
        assert!(b.instance.report().receiver.is_some());
        // The proof may be through before the next probe has listed who streams.
        let streams = || a.instance.report().streams;
        wait_for("seen", || streams().first().is_some_and(|s| s.instance == id("b"))).await;
    });
}

#[test]
fn i07_a_rule_that_is_overruled_is_restored() {
    play("i07_a_rule_that_is_overruled_is_restored", async {
        let world = World::new(&["a", "b"]);
        let (a, _b) = world.pair().await;
        let connection = a.instance.access.connect().await.unwrap();
        let bound = Duration::from_secs(5);
        connection.execute("alter system set synchronous_standby_names = ''", bound).await.unwrap();
        connection.execute("select pg_reload_conf()", bound).await.unwrap();
        wait_for("noticed", || a.instance.state().notes.contains_key("rule-overruled")).await;
        a.until_sql("show synchronous_standby_names", "ANY 1 (\"b\")").await;
    });
}

#[test]
fn i09_an_impostor_is_ended() {
    play("i09_an_impostor_is_ended", async {
        let world = World::new(&["a", "b", "c"]);
        let (a, _b) = world.pair().await;
        let _c = world.config("c");
        a.until_role("c").await;
        let receiver = a.instance.programs.path("pg_receivewal");
        let folder = world.folder.path().join("stolen");
        std::fs::create_dir_all(&folder).unwrap();
        let conninfo = client(&world, "c", &a, "baton-c").replace("dbname=postgres", "");
        let start = |name: &str| {
            Command::new(&receiver)
                .args(["--synchronous", "--no-loop", "-D"])
                .arg(&folder)
                .args(["-d", &format!("{conninfo} application_name={name}")])
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        };
        for name in ["b", "baton-nobody"] {
            let mut impostor = start(name);
            let begun = now();
            wait_for("the impostor's end", || impostor.try_wait().unwrap().is_some()).await;
            println!("{name} ended after {:?}", now().since(begun));
            end_of(&mut impostor);
            wait_for("the note", || a.instance.state().notes.contains_key("impostor")).await;
            // In the moment before its end it may have released a commit.
            wait_for("the doubt", || a.instance.report().doubt.is_some()).await;
            a.instance.state().notes.remove("impostor");
        }
        let names: Vec<String> =
            a.instance.report().streams.iter().map(|s| s.instance.to_string()).collect();
        assert_eq!(names, ["b"]);
    });
}

/// I-10, F-16: what makes sessions begin below the rule is found; and what a candidate needs is
/// measured before it is needed.
#[test]
fn i10_what_lowers_durability_is_listed() {
    play("i10_what_lowers_durability_is_listed", async {
        let world = World::new(&["a", "b"]);
        let (a, b) = world.pair().await;
        let checks = |site: &Site| site.instance.report().checks;
        wait_for("measured", || checks(&a).exposures.is_some() && checks(&b).floor.is_some()).await;
        let clear = checks(&a).exposures.unwrap();
        assert!(clear.is_clear(), "{clear:?}");
        for statement in [
            "create role careless",
            "create role well",
            "create database other",
            "alter role careless set synchronous_commit = off",
            "alter role well set synchronous_commit = remote_apply",
            "alter database other set log_min_messages = 'fatal'",
            "create unlogged table cache (n int)",
            "create function quick() returns void language sql \
             set synchronous_commit = local as 'select'",
        ] {
            a.begin(statement).await.task.await.unwrap();
        }
        a.instance.measure.notify_one();
        let found = || -> Vec<String> {
            let named = checks(&a).exposures.map(|found| found.named).unwrap_or_default();
            named.iter().map(|e| format!("{}: {}", e.name, e.detail)).collect()
        };
        // A round that had begun before has seen some of it.
        let whole = || found().len() >= 4;
        wait_for("found", whole).await;
        assert_eq!(
            found(),
            [
                "every role in database other: log_min_messages=fatal",
                "role careless: synchronous_commit=off",
                "postgres.quick(): synchronous_commit=local",
                "postgres.cache: is not replicated, and empty after a failover",
            ]
        );
        for site in [&a, &b] {
            let checks = checks(site);
            println!("{checks:?}");
            let rewind = checks.rewind.unwrap();
            assert!(rewind.hints && rewind.full_pages && rewind.granted);
            assert!(checks.wal_free > Some(0) && checks.wal_need >= Some(2 << 30));
            assert_eq!(checks.floor.unwrap().max_connections, 100);
        }
        a.sql("select pg_create_physical_replication_slot('left', true)").await;
        a.sql("revoke execute on function pg_read_binary_file(text) from \"baton-b\"").await;
        a.instance.measure.notify_one();
        wait_for("the slot", || checks(&a).slots.iter().any(|s| s.name == "left" && !s.active))
            .await;
        wait_for("the revoked grant", || !checks(&a).rewind.unwrap().granted).await;
    });
}

#[test]
fn i12_a_cancelled_wait_is_recorded() {
    play("i12_a_cancelled_wait_is_recorded", async {
        let world = World::new(&["a", "b"]);
        let (a, b) = world.pair().await;
        let bound = Duration::from_secs(20);
        a.sql("create table t (n int)").await;
        b.act(Action::Fence { reason: "test".into() }).await;
        let writer = a.instance.access.connect().await.unwrap();
        let pid = writer.text("select pg_backend_pid()", bound).await.unwrap().unwrap();
        let write = tokio::spawn(async move {
            let outcome = writer.execute("insert into t values (1)", bound).await;
            (outcome.is_ok(), writer.warnings())
        });
        let waits = format!("select wait_event from pg_stat_activity where pid = {pid}");
        a.until_sql(&waits, "SyncRep").await;
        a.sql(&format!("select pg_cancel_backend({pid})")).await;
        let (acknowledged, warnings) = write.await.unwrap();
        assert!(acknowledged && warnings == 1);
        wait_for("the doubt", || a.instance.report().doubt.is_some()).await;
        let doubt = a.instance.report().doubt.unwrap();
        let kept = std::fs::read_to_string(a.instance.layout.pledge()).unwrap();
        assert!(kept.contains(&doubt.lsn.to_string()), "{kept}");
        let end: failover::Lsn =
            a.sql("select pg_current_wal_flush_lsn()").await.unwrap().parse().unwrap();
        assert!(doubt.lsn <= end && doubt.lsn.0 > 0);
    });
}

#[test]
fn a_clean_stop_tells_its_end() {
    play("a_clean_stop_tells_its_end", async {
        let world = World::new(&["a", "b"]);
        let (a, b) = world.pair().await;
        a.sql("create table t as select generate_series(1, 10000)").await;
        a.act(Action::Prepare { epoch: Epoch(1) }).await;
        assert_eq!(a.instance.local().prepared, Some(Epoch(1)));
        let begun = now();
        a.act(Action::StopCleanly).await;
        println!("clean stop: {:?}", now().since(begun));
        let Server::Down(Down::Clean(end)) = a.instance.local().server else { panic!("unclean") };
        b.act(Action::Seal { epoch: Epoch(1) }).await;
        let sealed = b.instance.report().sealed_at.unwrap();
        assert_eq!(sealed, end);
        // Switched over, it follows without a rewind.
        world.lead(&b, 2, &["a"], 2);
        b.act(Action::Accept { epoch: Epoch(2) }).await;
        b.act(Action::Promote).await;
        world.follow(&a, 2, "b");
        let begun = now();
        a.act(Action::Rewind { upstream: support::id("b") }).await;
        a.act(Action::StartStandby { upstream: Some(support::id("b")) }).await;
        a.until_streaming().await;
        println!("follows again: {:?}", now().since(begun));
        assert!(!a.instance.layout.run.join("lost-tail/1").exists());
        b.until_proven(Epoch(2)).await;
    });
}
