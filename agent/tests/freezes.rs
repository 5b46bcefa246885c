//! The old primary's site stands still while another takes its place, and then goes on: nothing is
//! acknowledged any more, and readers are answered no later than the bound allows.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should not")]

mod support;

use agent::guard::Launch;
use agent::guard::client::{Guard, Start};
use agent::layout::Layout;
use agent::processes;
use agent::sql::Access;
use failover::{Epoch, Moment, Role};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::pair::Pair;
use support::process::{Agent, guard_of, postmaster_of, writable};
use support::{World, id, play, program, wait_for};
use wire::clock::now;

/// What is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frozen {
    Agent,
    Guard,
    AgentAndGuard,
    Postgres,
    Everything,
}

impl Frozen {
    fn postgres(self) -> bool {
        matches!(self, Self::Postgres | Self::Everything)
    }
}

fn send(pid: u32, signal: Signal) {
    // One that has ended by itself is as good.
    let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal);
}

fn send_all(pids: &[u32], signal: Signal) {
    for pid in pids {
        send(*pid, signal);
    }
}

/// The processes, PostgreSQL's first: they go on first, which is the worst case.
fn victims(world: &World, agent: &Agent, frozen: Frozen) -> Vec<u32> {
    let postmaster = postmaster_of(world, "a").unwrap();
    let (agent, guard) = (agent.child.id(), guard_of(world, "a"));
    let mut all: Vec<u32> = processes::children(postmaster);
    all.push(postmaster);
    match frozen {
        Frozen::Agent => vec![agent],
        Frozen::Guard => vec![guard],
        Frozen::AgentAndGuard => vec![agent, guard],
        Frozen::Postgres => all,
        Frozen::Everything => {
            all.extend([agent, guard]);
            all
        }
    }
}

/// What a client on one session saw: for each answer when it was asked for and when it came.
type Seen = Arc<Mutex<Vec<(Moment, Moment, i64)>>>;

/// A session that goes on until its first error.
async fn session(access: &Access, write: bool) -> (Seen, tokio::task::JoinHandle<()>) {
    let seen = Seen::default();
    let connection = access.connect().await.unwrap();
    let kept = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        for n in 0..i64::MAX {
            let asked = now();
            let client = connection.client();
            let done = if write {
                client.execute("insert into t values ($1)", &[&n]).await.map(drop)
            } else {
                client.query_one("select count(*) from t", &[]).await.map(drop)
            };
            if done.is_err() {
                return;
            }
            kept.lock().unwrap().push((asked, now(), n));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    (seen, task)
}

fn last(seen: &Seen) -> Moment {
    seen.lock().unwrap().last().map_or(Moment(0), |(_, answered, _)| *answered)
}

async fn number(access: &Access, query: &str) -> Option<String> {
    let connection = access.connect().await.ok()?;
    connection.text(query, Duration::from_secs(10)).await.ok().flatten()
}

fn standby(upstream: &str) -> Role {
    Role::Standby { upstream: id(upstream) }
}

/// How far a session's last answer lies after a moment.
fn after(moment: Moment, seen: &Seen) -> Duration {
    last(seen).since(moment)
}

/// How long after a moment each answer came that did, until another moment.
fn answered(seen: &Seen, from: Moment, to: Moment) -> Vec<Duration> {
    let seen = seen.lock().unwrap();
    let times = seen.iter().map(|(_, answered, _)| *answered);
    times.filter(|at| *at > from && *at <= to).map(|at| at.since(from)).collect()
}

async fn freeze(frozen: Frozen) {
    let (pair, device) = Pair::watched().await;
    let Pair { world, at_a, at_b, a, b: _b } = pair;
    let (to_a, to_b) = (world.access("a"), world.access("b"));
    let made = to_a.connect().await.unwrap();
    made.execute("create table t (n bigint)", Duration::from_secs(10)).await.unwrap();
    let (reads, reader) = session(&to_a, false).await;
    let (acknowledged, writer) = session(&to_a, true).await;
    wait_for("under way", || acknowledged.lock().unwrap().len() > 50).await;

    wait_for("the device is fed", || !fed(&device).1).await;
    let stopped = victims(&world, &a, frozen);
    send_all(&stopped, Signal::SIGSTOP);
    let frozen_at = now();
    at_a.show(world.assignment("a", 1, Role::Fenced, &["b"], 1), None);
    at_b.show(world.assignment("b", 1, Role::Sealed, &[], 0), None);
    wait_for("sealed", || at_b.last().is_some_and(|r| r.sealed_at.is_some())).await;
    let sealed_at = now();
    let unfed = fed(&device);
    // The law waits this long before anybody else is promoted.
    tokio::time::sleep(world.timing.suspect_after.saturating_sub(now().since(frozen_at))).await;
    let before_promotion = after(frozen_at, &reads);
    let role = Role::Primary { initialise: false, prepare: false };
    let mut alone = world.assignment("b", 2, role, &["a"], 2);
    alone.enforce.required = 0;
    at_b.show(alone, Some(Epoch(2)));
    wait_for("promoted", || writable(&at_b) == Some(true)).await;
    number(&to_b, "insert into t values (-1)").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let fed_while_frozen = fed(&device);

    at_a.show(world.assignment("a", 2, standby("b"), &[], 0), None);
    let resumed_at = now();
    send_all(&stopped, Signal::SIGCONT);
    let ended = async { tokio::join!(reader, writer) };
    let (reader, writer) =
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("both sessions end");
    reader.and(writer).unwrap();
    wait_for("streams from the new primary", || {
        let receiver = at_a.last().and_then(|report| report.receiver);
        receiver.is_some_and(|receiver| receiver.streaming)
    })
    .await;
    let late = answered(&reads, resumed_at, Moment(u64::MAX));
    println!(
        "{frozen:?}: last read {:?} after the freeze; {} reads after it went on, the last {:?} \
         after; last acknowledgement {:?} after the freeze, sealed at {:?}",
        before_promotion,
        late.len(),
        late.last(),
        after(frozen_at, &acknowledged),
        sealed_at.since(frozen_at),
    );
    // I-03: the standby flushes nothing once it is sealed. What it flushed before may be told late,
    // when the frozen walsender reads it: of one session that is one commit.
    let told_late = acknowledged.lock().unwrap().iter().filter(|it| it.1 > sealed_at).count();
    assert!(told_late <= 1, "{told_late} acknowledged after the seal");
    let told = acknowledged.lock().unwrap().len();
    let kept = number(&to_b, "select count(*) from t where n >= 0").await.unwrap();
    assert!(kept.parse::<usize>().unwrap() >= told, "I-01: {kept} of {told}");
    // What runs on is fenced by whoever of agent and guard is left, before anybody is promoted.
    let bound = world.timing.fence_after + world.timing.fence_time;
    if frozen == Frozen::AgentAndGuard {
        // Nobody is left to end it but the watchdog: it is not fed, and it is not switched off.
        assert!(fed_while_frozen.0 <= unfed.0 + 1, "{unfed:?} {fed_while_frozen:?}");
        assert!(!fed_while_frozen.1, "the device was switched off");
    } else {
        assert!(before_promotion < bound, "{before_promotion:?}");
    }
    // What went on is ended before most of it can answer; how soon is the scheduler's.
    assert!(late.last().is_none_or(|late| *late < world.timing.fence_time), "{late:?}");
    // What was answered before it stood still may be heard after that.
    let heard = answered(&reads, frozen_at, resumed_at).len();
    assert!(!frozen.postgres() || heard <= 1, "{heard} reads of a frozen server");
}

/// How often the stand-in for the watchdog was fed, and whether it was switched off last.
fn fed(device: &Path) -> (usize, bool) {
    let bytes = std::fs::read(device).unwrap();
    (bytes.split(|byte| *byte == 0).count() - 1, bytes.last() == Some(&b'V'))
}

#[test]
fn i03_i02_a_frozen_agent() {
    play("i03_i02_a_frozen_agent", freeze(Frozen::Agent));
}

#[test]
fn i03_i02_a_frozen_guard() {
    play("i03_i02_a_frozen_guard", freeze(Frozen::Guard));
}

#[test]
fn i03_a_frozen_agent_and_guard_are_left_to_the_watchdog() {
    play("i03_a_frozen_agent_and_guard_are_left_to_the_watchdog", freeze(Frozen::AgentAndGuard));
}

#[test]
fn i03_i02_a_frozen_postgresql() {
    play("i03_i02_a_frozen_postgresql", freeze(Frozen::Postgres));
}

#[test]
fn i03_i02_a_whole_site_frozen_and_resumed() {
    play("i03_i02_a_whole_site_frozen_and_resumed", freeze(Frozen::Everything));
}

/// Stopped, it keeps no deadline: waited for, what it guards would be fenced by nobody.
#[test]
fn i03_a_guard_that_is_stopped_is_ended_with_what_it_guards() {
    play("i03_a_guard_that_is_stopped_is_ended_with_what_it_guards", async {
        let world = World::new(&["a"]);
        let config = world.config("a");
        let layout = Layout::create(&config.data, &config.run).unwrap();
        std::fs::create_dir_all(&layout.data).unwrap();
        let start = Start { program: &program(), layout: &layout, watchdog: None };
        let (notices, _first) = tokio::sync::mpsc::unbounded_channel();
        let (guard, _) = Guard::attach(&start, notices).await.unwrap();
        let launch = Launch {
            argv: vec!["sleep".into(), "60".into()],
            env: vec![],
            cwd: layout.data.clone(),
            log: layout.log(),
        };
        guard.start(launch).await.unwrap();
        let guarded = guard.status().await.unwrap().pid.unwrap();
        let stopped = processes::stat(guarded).unwrap().parent;
        send(stopped, Signal::SIGSTOP);
        let begun = now();
        let (notices, mut second) = tokio::sync::mpsc::unbounded_channel();
        let (anew, status) = Guard::attach(&start, notices).await.unwrap();
        println!("attached anew after {:?}", now().since(begun));
        assert!(!processes::is_alive(stopped) && !processes::is_alive(guarded));
        assert_eq!(status.pid, None);
        assert!(second.try_recv().is_err(), "whoever ended it is not told that it is lost");
        anew.end().await;
    });
}

/// Its agent died after it started it and before it connected, and no agent comes after it.
#[test]
fn a_guard_that_nobody_comes_to_leaves() {
    play("a_guard_that_nobody_comes_to_leaves", async {
        let folder = tempfile::tempdir().unwrap();
        let mut guard = tokio::process::Command::new(program())
            .arg("guard")
            .arg("--socket")
            .arg(folder.path().join("guard.sock"))
            .arg("--lock")
            .arg(folder.path().join("guard.lock"))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let ended = tokio::time::timeout(Duration::from_mins(1), guard.wait()).await;
        assert!(ended.expect("it leaves").unwrap().success());
    });
}

/// I-03: fed while the deadline holds, off when nothing is served, left on by whatever ends the
/// guard by force.
#[test]
fn i03_the_watchdog_follows_the_deadline() {
    play("i03_the_watchdog_follows_the_deadline", async {
        let world = World::new(&["a"]);
        let config = world.config("a");
        let layout = Layout::create(&config.data, &config.run).unwrap();
        let device = world.folder.path().join("watchdog");
        std::fs::write(&device, "").unwrap();
        let start = Start { program: &program(), layout: &layout, watchdog: Some(device.clone()) };
        let (notices, mut ended) = tokio::sync::mpsc::unbounded_channel();
        let (guard, _) = Guard::attach(&start, notices).await.unwrap();
        let launch = || Launch {
            argv: vec!["sleep".into(), "60".into()],
            env: vec![],
            cwd: "/".into(),
            log: layout.log(),
        };
        guard.start(launch()).await.unwrap();
        wait_for("off", || fed(&device).1).await;
        let before = fed(&device).0;
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(fed(&device).0, before, "no deadline, no watchdog");
        guard.refresh(Some(now().after(Duration::from_mins(1)))).await.unwrap();
        wait_for("fed", || fed(&device).0 >= before + 3 && !fed(&device).1).await;
        guard.refresh(Some(now().after(Duration::from_millis(100)))).await.unwrap();
        assert!(ended.recv().await.is_some());
        wait_for("off: nothing runs any more", || fed(&device).1).await;
        guard.start(launch()).await.unwrap();
        guard.refresh(Some(now().after(Duration::from_mins(1)))).await.unwrap();
        wait_for("fed", || !fed(&device).1).await;
        let status = guard.status().await.unwrap();
        let parent = processes::stat(status.pid.unwrap()).unwrap().parent;
        send(parent, Signal::SIGKILL);
        wait_for("gone", || !processes::is_alive(parent)).await;
        assert!(!fed(&device).1, "left on: the machine would be reset");
        send(status.pid.unwrap(), Signal::SIGKILL);
    });
}
