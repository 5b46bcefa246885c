//! What is looked at rarely, against real servers: how it is when all is well, and each thing
//! broken on purpose.
#![expect(clippy::unwrap_used, reason = "what cannot be made fails the test")]

mod support;

use failover::survey::{Login, Purpose, Survey};
use support::{Site, World, id, play, wait_for};

fn said(site: &Site) -> Survey {
    site.instance.state().survey.tell(wire::clock::now(), wire::clock::wall())
}

fn login(site: &Site, to: &str, purpose: Purpose) -> Option<Login> {
    let tried = |login: &Login| login.to == id(to) && login.purpose == purpose;
    said(site).logins.into_iter().find(tried)
}

/// Has both look again until `check` says that it is seen.
async fn until(what: &str, sites: [&Site; 2], check: impl Fn() -> bool) {
    for _ in 0..20 {
        for site in sites {
            site.instance.measure.notify_one();
        }
        for _ in 0..100 {
            if check() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    panic!("never: {what}\n{:#?}\n{:#?}", said(sites[0]), said(sites[1]));
}

async fn run(site: &Site, statements: &str) {
    let (done, _) = site.begin(statements).await.task.await.unwrap();
    assert!(done, "{statements}");
}

/// I-37: what is looked at says when, and each thing that is broken is seen within one round.
#[test]
fn i37_what_a_failover_rests_on_is_looked_at() {
    play("i37_what_a_failover_rests_on_is_looked_at", async {
        let mut world = World::new(&["a", "b"]);
        world.settings = vec![("max_prepared_transactions", "5")];
        let (a, b) = world.pair().await;
        let both = [&a, &b];
        let purposes = [Purpose::Replication, Purpose::Rewind];
        let fine = |site: &Site, to: &str| {
            let good = |login: Login| login.failure.is_none();
            purposes.iter().all(|purpose| login(site, to, *purpose).is_some_and(good))
        };
        until("logins in both directions", both, || fine(&a, "b") && fine(&b, "a")).await;
        for site in both {
            let survey = said(site);
            let days = survey.certificate_seconds.unwrap() / 86_400;
            assert!((800..=826).contains(&days), "{days} days");
            assert!(survey.measured_ms.unwrap() < 60_000 && !survey.paused);
            let software = survey.software.unwrap();
            assert!(software.collations.is_empty() && software.unseen.is_empty(), "{software:?}");
            let plpgsql = software.extensions.iter().find(|e| e.name == "plpgsql").unwrap();
            assert_eq!(plpgsql.available.as_ref(), Some(&plpgsql.installed));
        }
        assert_eq!(said(&a).prepared.unwrap().count, 0);

        // A login that is taken away, in one direction.
        run(&a, "alter role \"baton-b\" nologin").await;
        until("no login of b at a", both, || {
            let refused = |login: Login| login.failure.is_some_and(|f| f.contains("log in"));
            purposes.iter().all(|purpose| login(&b, "a", *purpose).is_some_and(refused))
        })
        .await;
        until("a may log in at b all the while", both, || fine(&a, "b")).await;
        run(&a, "alter role \"baton-b\" login").await;
        until("it may log in again", both, || fine(&b, "a")).await;
        // No login stays.
        a.until_sql("select count(*) from pg_stat_replication", "1").await;

        // Programs that a machine lacks, and a collation that was another.
        let ghost = "insert into pg_extension select 99999, 'ghost', 10, 11, false, '1.0'";
        let older = "update pg_collation set collversion = '0.1' where oid = \
                     (select min(oid) from pg_collation where collversion is not null)";
        run(&a, ghost).await;
        run(&a, older).await;
        until("the extension and the collation", both, || {
            both.iter().all(|site| {
                let Some(software) = said(site).software else { return false };
                let lacks = software.extensions.first().is_some_and(|e| e.available.is_none());
                let sorted = software.collations.first().is_some_and(|c| c.recorded == "0.1");
                lacks && sorted
            })
        })
        .await;

        run(&a, "create table t (n int)").await;
        run(&a, "begin; insert into t values (1); prepare transaction 'forgotten'").await;
        until("the prepared transaction", both, || {
            said(&a).prepared.is_some_and(|prepared| prepared.count == 1)
        })
        .await;

        b.sql("select pg_wal_replay_pause()").await;
        until("the pause", both, || said(&b).paused && !said(&a).paused).await;
        // What waited meanwhile is worked off, and how fast that went is known.
        for _ in 0..8 {
            run(&a, "insert into t select n from generate_series(1, 40000) n").await;
        }
        b.instance.look.notify_one();
        wait_for("a backlog", || {
            let state = b.instance.state();
            let facts = state.facts.clone().unwrap_or_default();
            facts.received.is_some_and(|received| received.bytes_since(facts.replayed) > 8 << 20)
        })
        .await;
        b.sql("select pg_wal_replay_resume()").await;
        wait_for("the rate", || said(&b).replays > Some(1 << 20)).await;
        println!("replays {} MiB/s", said(&b).replays.unwrap() >> 20);
    });
}
