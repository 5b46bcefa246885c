//! Whole agents as processes, with a voter that the test plays.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should not")]

mod support;

use agent::processes;
use failover::report::{Down, Server};
use failover::{Epoch, Generation, Role};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;
use support::pair::Pair;
use support::process::{Agent, guard_of, postmaster_of, primary, writable};
use support::voter::Voter;
use support::{World, play, wait_for};
use wire::clock::now;

fn postmaster(world: &World) -> Option<u32> {
    postmaster_of(world, "a")
}

fn guard(world: &World) -> u32 {
    guard_of(world, "a")
}

fn leisurely() -> World {
    let mut world = World::new(&["a", "b"]);
    world.fence_at_leisure();
    world
}

/// A single agent whose voter makes it a primary that needs no standby, admitted on a lease.
async fn admitted(world: &World) -> (Voter, Agent) {
    let voter = Voter::start(world).await;
    let agent = Agent::start(world, "a", &voter);
    let mut assignment = world.assignment("a", 1, primary(), &["b"], 1);
    assignment.enforce.required = 0;
    voter.show(assignment, Some(Epoch(1)));
    let begun = now();
    wait_for("admitted", || writable(&voter) == Some(true)).await;
    println!("from nothing to admitted: {:?}", now().since(begun));
    (voter, agent)
}

#[test]
fn i26_an_agent_killed_and_restarted_in_time_changes_nothing() {
    play("i26_an_agent_killed_and_restarted_in_time_changes_nothing", async {
        let world = leisurely();
        let (voter, mut agent) = admitted(&world).await;
        let pid = postmaster(&world).unwrap();
        let run = voter.last().unwrap().run;
        agent.kill();
        agent.restart();
        wait_for("the new agent's report", || voter.last().is_some_and(|report| report.run != run))
            .await;
        wait_for("admitted", || writable(&voter) == Some(true)).await;
        // Longer than the lease that the killed one had.
        tokio::time::sleep(world.timing.fence_after + world.timing.fence_time).await;
        assert_eq!(postmaster(&world), Some(pid));
        assert_eq!(writable(&voter), Some(true));
    });
}

#[test]
fn i26_an_answer_that_comes_late_is_heard() {
    play("i26_an_answer_that_comes_late_is_heard", async {
        let world = World::new(&["a", "b"]);
        let voter = Voter::start(&world).await;
        // The agent asks the next one, were there one, after a heartbeat.
        voter.shown.lock().unwrap().slow = world.timing.heartbeat * 2;
        let _agent = Agent::start(&world, "a", &voter);
        voter.show(world.assignment("a", 1, primary(), &["b"], 1), None);
        let said_back = || voter.last().is_some_and(|report| report.echo.is_some());
        wait_for("a report that says back what it was told", said_back).await;
    });
}

#[test]
fn i03_a_dead_agent_leaves_postgresql_until_the_deadline() {
    play("i03_a_dead_agent_leaves_postgresql_until_the_deadline", async {
        let world = leisurely();
        let (voter, mut agent) = admitted(&world).await;
        let pid = postmaster(&world).unwrap();
        let begun = now();
        agent.kill();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(processes::is_alive(pid));
        wait_for("killed", || !processes::is_alive(pid)).await;
        let took = now().since(begun);
        println!("killed {took:?} after the agent");
        assert!(took < world.timing.fence_after + world.timing.fence_time);
        agent.restart();
        wait_for("down", || {
            matches!(voter.last().unwrap().server, Server::Down(_) | Server::Starting)
        })
        .await;
        wait_for("admitted again", || writable(&voter) == Some(true)).await;
    });
}

#[test]
fn i03_without_a_lease_it_fences_and_a_stopped_agent_is_fenced() {
    play("i03_without_a_lease_it_fences_and_a_stopped_agent_is_fenced", async {
        let world = leisurely();
        let (voter, agent) = admitted(&world).await;
        let pid = postmaster(&world).unwrap();
        voter.shown.lock().unwrap().lease = None;
        let begun = now();
        wait_for("fenced", || !processes::is_alive(pid)).await;
        println!("fenced {:?} after the last lease", now().since(begun));
        voter.shown.lock().unwrap().lease = Some(Epoch(1));
        wait_for("admitted again", || {
            writable(&voter) == Some(true) && postmaster(&world).is_some_and(|new| new != pid)
        })
        .await;
        let pid = postmaster(&world).unwrap();
        let number = Pid::from_raw(i32::try_from(agent.child.id()).unwrap());
        kill(number, Signal::SIGSTOP).unwrap();
        let begun = now();
        wait_for("fenced by the guard", || !processes::is_alive(pid)).await;
        let took = now().since(begun);
        println!("fenced {took:?} after the agent stopped");
        assert!(took < world.timing.fence_after + world.timing.fence_time);
        kill(number, Signal::SIGCONT).unwrap();
        wait_for("admitted again", || writable(&voter) == Some(true)).await;
    });
}

#[test]
fn i03_a_dead_guard_takes_postgresql_with_it() {
    play("i03_a_dead_guard_takes_postgresql_with_it", async {
        let world = World::new(&["a", "b"]);
        let (voter, _agent) = admitted(&world).await;
        let pid = postmaster(&world).unwrap();
        let guard = guard(&world);
        let begun = now();
        kill(Pid::from_raw(i32::try_from(guard).unwrap()), Signal::SIGKILL).unwrap();
        wait_for("fenced", || !processes::is_alive(pid)).await;
        println!("fenced {:?} after the guard", now().since(begun));
        wait_for("admitted again", || {
            writable(&voter) == Some(true) && postmaster(&world).is_some_and(|new| new != pid)
        })
        .await;
    });
}

#[test]
fn a_crash_is_known_at_once_and_restarted_in_place() {
    play("a_crash_is_known_at_once_and_restarted_in_place", async {
        let world = World::new(&["a", "b"]);
        let (voter, agent) = admitted(&world).await;
        let pid = postmaster(&world).unwrap();
        let begun = now();
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
        wait_for("reported", || {
            let shown = voter.shown.lock().unwrap();
            shown.reports.iter().any(|report| report.server == Server::Down(Down::Crashed))
        })
        .await;
        println!("reported {:?} after the crash", now().since(begun));
        wait_for("admitted again", || writable(&voter) == Some(true)).await;
        println!("admitted {:?} after the crash", now().since(begun));
        let before = usage(agent.child.id());
        let begun = now();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let used = usage(agent.child.id()) - before;
        let share =
            Duration::from_millis(used * 10).as_secs_f64() / now().since(begun).as_secs_f64();
        println!("idle at a heartbeat of 200 ms: {:.2} % of a core", share * 100.0);
        let status = std::fs::read_to_string(format!("/proc/{}/status", agent.child.id())).unwrap();
        println!("{}", status.lines().find(|line| line.starts_with("VmRSS")).unwrap());
    });
}

/// Clock ticks (10 ms) that a process has used.
fn usage(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The whole way without a hand on either machine: the primary's site is killed, its standby is
/// sealed, promoted and proven, and the dead site comes back, rewinds and counts again.
#[test]
fn i14_a_killed_primary_returns_by_itself() {
    play("i14_a_killed_primary_returns_by_itself", async {
        let Pair { world, at_a, at_b, mut a, b: _b } = Pair::new().await;
        let standby = |upstream: &str| Role::Standby { upstream: support::id(upstream) };
        let enforces = |voter: &Voter, generation| {
            voter.last().is_some_and(|report| report.enforced == Some(Generation(generation)))
        };
        let (pid, guard) = (postmaster(&world).unwrap(), guard(&world));
        a.kill();
        for pid in [guard, pid].into_iter().chain(processes::children(pid)) {
            processes::kill_now(pid);
        }
        let begun = now();
        at_b.show(world.assignment("b", 1, Role::Sealed, &[], 0), None);
        wait_for("sealed", || at_b.last().is_some_and(|r| r.sealed_at.is_some())).await;
        println!("sealed after {:?}", now().since(begun));
        let role = Role::Primary { initialise: false, prepare: false };
        at_b.show(world.assignment("b", 2, role, &["a"], 2), Some(Epoch(2)));
        wait_for("writable", || writable(&at_b).is_some()).await;
        println!("writable after {:?}", now().since(begun));
        let begun = now();
        at_a.show(world.assignment("a", 2, standby("b"), &[], 0), None);
        a.restart();
        wait_for("streaming", || {
            let receiver = at_a.last().and_then(|report| report.receiver);
            receiver.is_some_and(|receiver| receiver.streaming)
        })
        .await;
        println!("the dead site streams {:?} after its start", now().since(begun));
        wait_for("enforced", || enforces(&at_b, 2)).await;
        println!("and counts after {:?}", now().since(begun));
        assert!(world.folder.path().join("a/run/lost-tail/1/manifest.json").exists());
        assert!(!world.folder.path().join("a/pgdata.aside").exists());
    });
}
