//! Against real servers: commits that PostgreSQL acknowledges without the rule, and what keeps them
//! from being lost in silence.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should not")]

mod support;

use agent::pledge::Promises;
use agent::processes;
use agent::run::Beat;
use failover::comply::Action;
use failover::report::Server;
use failover::{Epoch, Generation, Lsn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::Arc;
use std::time::Duration;
use support::{Site, World, id, play, wait_for};
use wire::clock::now;

const END: &str = "select pg_current_wal_flush_lsn()";

async fn end(site: &Site) -> Lsn {
    site.sql(END).await.unwrap().parse().unwrap()
}

async fn down(site: &Site) {
    site.act(Action::Fence { reason: "test".into() }).await;
}

async fn up(site: &Site) {
    site.act(Action::StartStandby { upstream: Some(id("a")) }).await;
}

/// F-10, several at once: one position that covers all of them.
#[test]
fn i12_many_cancelled_waits_are_covered_by_one_doubt() {
    play("i12_many_cancelled_waits_are_covered_by_one_doubt", async {
        let world = World::new(&["a", "b"]);
        let (a, b) = world.pair().await;
        a.sql("create table t (n int)").await;
        down(&b).await;
        let mut waiting = Vec::new();
        for n in 0..5 {
            waiting.push(a.begin_waiting(&format!("insert into t values ({n})")).await);
        }
        let written = end(&a).await;
        for commit in &waiting[1..] {
            a.sql(&format!("select pg_cancel_backend({})", commit.pid)).await;
        }
        // Ended with its session, nobody is told: but others can see it (F-17).
        a.sql(&format!("select pg_terminate_backend({})", waiting[0].pid)).await;
        let mut acknowledged = 0;
        for commit in waiting {
            let (success, warnings) = commit.task.await.unwrap();
            acknowledged += usize::from(success);
            assert!(!success || warnings == 1);
        }
        assert_eq!(acknowledged, 4);
        wait_for("the doubt", || {
            let report = a.instance.report();
            !report.checks.exposed && report.doubt.is_some_and(|doubt| doubt.lsn >= written)
        })
        .await;
        assert_eq!(a.sql("select count(*) from t").await.as_deref(), Some("5"));
        // Whoever monitors sees them, too; the log's last lines may be read after the first.
        wait_for("all are counted", || a.instance.tally.waits_cancelled() >= 4).await;
    });
}

/// F-11: `statement_timeout` ends the wait of a commit inside a procedure.
#[test]
fn i12_a_commit_inside_a_procedure_is_doubted() {
    play("i12_a_commit_inside_a_procedure_is_doubted", async {
        let world = World::new(&["a", "b"]);
        let (a, b) = world.pair().await;
        a.sql("create table t (n int)").await;
        let procedure = "create procedure p() language plpgsql as \
                         $$ begin insert into t values (1); commit; end $$";
        a.sql(procedure).await;
        down(&b).await;
        let client = a.instance.access.connect().await.unwrap();
        let bound = Duration::from_secs(20);
        client.execute("set statement_timeout = '500ms'", bound).await.unwrap();
        println!("call: {:?}", client.execute("call p()", bound).await);
        wait_for("the doubt", || a.instance.report().doubt.is_some()).await;
        let doubt = a.instance.report().doubt.unwrap();
        assert!(doubt.lsn > Lsn(0) && doubt.lsn <= end(&a).await);
    });
}

/// F-10 while no agent runs: the next one reads what was written meanwhile.
#[test]
fn i12_a_wait_cancelled_while_no_agent_ran_is_found_by_the_next() {
    play("i12_a_wait_cancelled_while_no_agent_ran_is_found_by_the_next", async {
        let world = World::new(&["a", "b"]);
        let (a, b) = world.pair().await;
        a.sql("create table t (n int)").await;
        down(&b).await;
        let commit = a.begin_waiting("insert into t values (1)").await;
        let (access, layout) = (a.instance.access.clone(), a.instance.layout.clone());
        a.end_agent().await;
        let connection = access.connect().await.unwrap();
        let cancel = format!("select pg_cancel_backend({})", commit.pid);
        connection.execute(&cancel, Duration::from_secs(5)).await.unwrap();
        assert_eq!(commit.task.await.unwrap(), (true, 1));
        assert_eq!(Promises::load(&layout.pledge()).unwrap().get().doubt, None);
        let a = world.site("a").await;
        wait_for("the log is read", || {
            let report = a.instance.report();
            report.checks.exposed || report.doubt.is_some()
        })
        .await;
        world.lead(&a, 1, &["b"], 1);
        up(&b).await;
        a.act(Action::Prove { epoch: Epoch(1) }).await;
        a.act(Action::Enforce { generation: Generation(1) }).await;
        wait_for("the doubt", || {
            let report = a.instance.report();
            report.doubt.is_some() && !report.checks.exposed
        })
        .await;
    });
}

/// SC-36, F-12: what waited when the primary died is visible after its restart, and nobody sees it
/// before the standbys have it.
#[test]
fn i11_i02_rows_that_waited_are_shown_to_nobody_before_they_are_flushed() {
    play("i11_i02_rows_that_waited_are_shown_to_nobody_before_they_are_flushed", async {
        let world = World::new(&["a", "b"]);
        let (a, b) = world.pair().await;
        a.sql("create table t (n int)").await;
        down(&b).await;
        for n in 0..3 {
            drop(a.begin_waiting(&format!("insert into t values ({n})")).await);
        }
        down(&a).await;
        // From here the whole agent acts, as it does in production.
        a.instance.state().leased = Some(now());
        let instance = Arc::clone(&a.instance);
        let beat = tokio::spawn(async move {
            let mut beat = Beat::new(instance);
            loop {
                beat.next().await;
            }
        });
        let leased = Arc::clone(&a.instance);
        let lease = tokio::spawn(async move {
            loop {
                leased.lease(Epoch(1), now());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        a.until("writable", |local| matches!(local.server, Server::Writable { .. })).await;
        a.until_sql("select count(*) from t", "3").await;
        let begun = now();
        while now().since(begun) < Duration::from_secs(3) {
            let local = a.instance.local();
            assert!(!local.configured.admits && local.proven.is_none(), "{local:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        up(&b).await;
        a.until("admitted", |local| local.configured.admits).await;
        let seen = b.sql("select pg_last_wal_receive_lsn()").await.unwrap();
        println!("admitted with {seen} at the standby");
        b.until_sql("select count(*) from t", "3").await;
        beat.abort();
        lease.abort();
    });
}

/// SC-37, F-13: noticed, restored within a second, and in doubt until it is proven again.
/// A machine that stands still for a moment does so once.
async fn overruled(how: &str, statements: &[&str], file: Option<&str>) {
    for _ in 0..3 {
        if restored_after(how, statements, file).await < Duration::from_secs(1) {
            return;
        }
    }
    panic!("{how}: never within a second");
}

async fn restored_after(how: &str, statements: &[&str], file: Option<&str>) -> Duration {
    let world = World::new(&["a", "b"]);
    let (a, b) = world.pair().await;
    a.sql("create table t (n int)").await;
    down(&b).await;
    let commit = a.begin_waiting("insert into t values (1)").await;
    let written = end(&a).await;
    if let Some(line) = file {
        let conf = a.instance.layout.baton_conf();
        let text = std::fs::read_to_string(&conf).unwrap();
        std::fs::write(&conf, format!("{text}{line}\n")).unwrap();
    }
    let connection = a.instance.access.connect().await.unwrap();
    for statement in statements {
        connection.execute(statement, Duration::from_secs(5)).await.unwrap();
    }
    let begun = now();
    connection.execute("select pg_reload_conf()", Duration::from_secs(5)).await.unwrap();
    wait_for("noticed", || a.instance.report().checks.exposed).await;
    println!("{how}: noticed after {:?}", now().since(begun));
    let show = "select current_setting('synchronous_standby_names') || ' ' \
                || current_setting('synchronous_commit')";
    a.until_sql(show, "ANY 1 (\"b\") on").await;
    let took = now().since(begun);
    println!("{how}: restored after {took:?}");
    println!("{how}: the waiter: {:?}", commit.task.is_finished());
    // Its end is not known before commits are seen waiting again and the standby is back.
    a.act(Action::Enforce { generation: Generation(1) }).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(a.instance.report().checks.exposed);
    up(&b).await;
    // One that sees the rule overruled late asks for another proof: so does the law, of us.
    let begun = now();
    while a.instance.report().checks.exposed {
        assert!(now().since(begun) < Duration::from_mins(1), "{how}: never closed");
        a.act(Action::Enforce { generation: Generation(1) }).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    a.until("enforced", |local| local.enforced == Some(Generation(1))).await;
    assert!(a.instance.report().doubt.unwrap().lsn >= written);
    assert_eq!(a.instance.local().enforced, Some(Generation(1)));
    a.until_sql(show, "ANY 1 (\"b\") on").await;
    took
}

#[test]
fn i08_i12_an_emptied_list_is_restored_within_a_second() {
    play("i08_i12_an_emptied_list_is_restored_within_a_second", async {
        overruled("alter system", &["alter system set synchronous_standby_names = ''"], None).await;
    });
}

#[test]
fn i08_i12_a_list_emptied_in_our_own_file_is_restored_within_a_second() {
    play("i08_i12_a_list_emptied_in_our_own_file_is_restored_within_a_second", async {
        overruled("our file", &[], Some("synchronous_standby_names = ''")).await;
    });
}

#[test]
fn i10_i12_a_lowered_commit_level_is_restored_within_a_second() {
    play("i10_i12_a_lowered_commit_level_is_restored_within_a_second", async {
        overruled("commit level", &["alter system set synchronous_commit = 'local'"], None).await;
    });
}

/// What takes no effect is no doubt.
#[test]
fn i08_a_reset_of_what_is_not_set_changes_nothing() {
    play("i08_a_reset_of_what_is_not_set_changes_nothing", async {
        let world = World::new(&["a", "b"]);
        let (a, _b) = world.pair().await;
        a.sql("alter system reset synchronous_standby_names").await;
        a.sql("select pg_reload_conf()").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let report = a.instance.report();
        assert!(!report.checks.exposed && report.doubt.is_none());
        assert_eq!(a.instance.local().enforced, Some(Generation(1)));
        let refused = a.begin("set synchronous_standby_names = ''").await.task.await.unwrap();
        assert!(!refused.0, "no session can set it for itself");
    });
}

fn checkpointer(site: &Site) -> Pid {
    let children = processes::children(site.pid().unwrap());
    let found = children.into_iter().find(|pid| processes::title(*pid).contains("checkpointer"));
    Pid::from_raw(i32::try_from(found.unwrap()).unwrap())
}

/// SC-39, F-15: the view says that the standby counts, its flush is there, and commits do not wait.
#[test]
fn i07_a_rule_is_proven_only_by_a_commit_that_is_seen_waiting() {
    play("i07_a_rule_is_proven_only_by_a_commit_that_is_seen_waiting", async {
        let world = World::new(&["a", "b"]);
        let (mut a, _b) = world.pair().await;
        a.sql("create table t (n int)").await;
        // Nobody is there to see the list emptied, and then the checkpointer stands still.
        a.tasks.shutdown().await;
        a.sql("alter system set synchronous_standby_names = ''").await;
        a.sql("select pg_reload_conf()").await;
        a.until_sql("show synchronous_standby_names", "").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let checkpointer = checkpointer(&a);
        kill(checkpointer, Signal::SIGSTOP).unwrap();
        world.lead(&a, 1, &["b"], 2);
        a.act(Action::Enforce { generation: Generation(2) }).await;
        assert!(a.instance.report().checks.exposed);
        let count = "select count(*) from pg_stat_replication where state = 'streaming'";
        a.until_sql(count, "1").await;
        let begun = now();
        a.begin("insert into t values (1)").await.task.await.unwrap();
        println!("a commit under the placeholder returned after {:?}", now().since(begun));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(a.instance.local().enforced, None, "not while commits do not wait");
        kill(checkpointer, Signal::SIGCONT).unwrap();
        let begun = now();
        a.until("enforced", |local| local.enforced == Some(Generation(2))).await;
        println!("proven {:?} after the checkpointer went on", now().since(begun));
        a.until_sql("show synchronous_standby_names", "ANY 1 (\"b\")").await;
    });
}
