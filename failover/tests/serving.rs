//! Whom a load balancer may send where: each thing that speaks against it, one at a time.

#![expect(clippy::unwrap_used, reason = "what cannot be made fails the test")]

mod support;

use failover::comply::Divergence;
use failover::report::{Down, Pledge, Server};
use failover::serving::{Behind, MUTE_AFTER, Seen, Serves, Serving, Wanted, serving};
use failover::{
    Assignment, Epoch, Local, Moment, Role, SystemIdentifier, Timeline, assignment, lease,
};
use std::time::Duration;
use support::{at, cluster, id, local};

const NOW: Moment = Moment(1_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

/// One instance and all that is known of it.
#[derive(Clone)]
struct Case {
    assignment: Option<Assignment>,
    local: Local,
    seen: Seen,
}

fn writable(admits: bool) -> Server {
    Server::Writable { position: at(9), admits, checkpoint: Timeline(1) }
}

fn recovery(admits: bool) -> Server {
    Server::Recovery { position: at(9), replayed: at(9).lsn, admits }
}

/// The primary as it should be.
fn primary() -> Case {
    let known = assignment(&cluster(), &id("a")).unwrap();
    let mut local = local(writable(true), 1);
    local.serves = true;
    local.proven = Some(Epoch(1));
    local.enforced = Some(known.generation);
    local.configured.generation = Some(known.generation);
    local.configured.admits = true;
    local.leased = Some(NOW.before(SECOND));
    Case { assignment: Some(known), local, seen: Seen::default() }
}

/// A standby as it should be, 100 bytes behind.
fn standby() -> Case {
    let mut local = local(recovery(true), 0);
    local.configured.upstream = Some(id("a"));
    local.configured.admits = true;
    let behind = Some(Behind { bytes: 100, age: SECOND });
    let assignment = assignment(&cluster(), &id("b"));
    Case { assignment, local, seen: Seen { silent: Duration::ZERO, behind } }
}

impl Case {
    fn serving(&self) -> Serving {
        serving(self.assignment.as_ref(), &self.local, &self.seen, NOW)
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut case = self.clone();
        change(&mut case);
        case
    }

    fn assigned(&self, role: Role) -> Self {
        self.with(|case| case.assignment.as_mut().unwrap().role = role)
    }

    /// Nobody is sent here for anything, and the reason says `why`.
    #[track_caller]
    fn serves_nobody(&self, why: &str) {
        let serving = self.serving();
        assert_eq!(serving.serves, Serves::Nobody, "{why}");
        assert!(serving.why_not.contains(why), "{}: {why}", serving.why_not);
        assert_eq!(serving.lag_bytes, None);
        for wanted in [Wanted::Primary, Wanted::Replica(None), Wanted::ReadOnly(None)] {
            assert_eq!(serving.suits(wanted), Err(serving.why_not.clone()));
        }
    }
}

#[test]
fn a_primary_that_may_serve_is_found() {
    let serving = primary().serving();
    assert_eq!(serving.serves, Serves::Primary);
    assert_eq!(serving.why_not, "");
    assert_eq!(serving.suits(Wanted::Primary), Ok(()));
    assert_eq!(serving.suits(Wanted::ReadOnly(Some(0))), Ok(()));
    assert_eq!(serving.suits(Wanted::Replica(None)), Err("it is the primary".into()));
}

#[test]
fn i03_nobody_is_sent_to_a_primary_whose_lease_has_ended() {
    let fence_after = primary().assignment.unwrap().timing.fence_after;
    let at = |age: Duration| primary().with(|case| case.local.leased = Some(NOW.before(age)));
    let instant = Duration::from_micros(1);
    assert_eq!(at(fence_after.saturating_sub(instant)).serving().serves, Serves::Primary);
    at(fence_after).serves_nobody("being fenced");
    at(fence_after * 10).serves_nobody("being fenced");
    primary().with(|case| case.local.leased = None).serves_nobody("being fenced");
    // A commit that the standbys hold is a lease, too; an old one is none.
    let pulse =
        |age: Duration| at(fence_after).with(|case| case.local.committed = Some(NOW.before(age)));
    assert_eq!(pulse(SECOND).serving().serves, Serves::Primary);
    pulse(fence_after).serves_nobody("being fenced");
}

#[test]
fn i03_nobody_is_sent_to_a_primary_that_is_fenced_or_on_the_way() {
    primary().with(|case| case.local.server = Server::Down(Down::Fenced)).serves_nobody("fenced");
    primary().assigned(Role::Fenced).serves_nobody("being taken over");
    primary().assigned(Role::Stopped).serves_nobody("being stopped");
    primary().assigned(Role::Sealed).serves_nobody("being fenced");
    primary().assigned(Role::Idle).serves_nobody("no primary yet");
    let replaced = primary().assigned(Role::Standby { upstream: id("b") });
    replaced.serves_nobody("being fenced");
    primary().with(|case| case.assignment = None).serves_nobody("being fenced");
}

#[test]
fn i20_nobody_is_sent_to_the_primary_of_an_epoch_that_is_over() {
    let sworn = primary().with(|case| case.local.pledge.sealed = Epoch(1));
    sworn.serves_nobody("of epoch 1, is over");
    let echo = primary().with(|case| case.local.pledge.granted = Epoch(2));
    echo.serves_nobody("of epoch 1, is over");
    let early = primary().with(|case| case.assignment.as_mut().unwrap().epoch = Epoch(2));
    early.serves_nobody("not accepted epoch 2");
}

#[test]
fn i11_i13_nobody_is_sent_to_a_primary_before_it_is_proven_and_admits() {
    primary().with(|case| case.local.proven = None).serves_nobody("not proven");
    let before = primary().with(|case| case.local.proven = Some(Epoch(0)));
    before.serves_nobody("not proven");
    let closed = primary().with(|case| {
        case.local.server = writable(false);
        case.local.serves = false;
    });
    closed.serves_nobody("admits no clients");
    closed.with(|case| case.local.leased = None).serves_nobody("no lease");
}

#[test]
fn nobody_is_sent_to_a_primary_that_does_not_run_as_one() {
    for (server, why) in [
        (Server::Absent, "no data directory"),
        (Server::Refused("foreign".into()), "foreign"),
        (Server::Down(Down::Crashed), "ended by itself"),
        (Server::Down(Down::Clean(at(9))), "shut down"),
        (Server::Down(Down::NotStarted), "not started"),
        (Server::Starting, "does not answer yet"),
        (recovery(true), "in recovery"),
    ] {
        primary().with(|case| case.local.server = server).serves_nobody(why);
    }
    let foreign = |case: &mut Case| case.local.system_identifier = Some(SystemIdentifier(8));
    primary().with(foreign).serves_nobody("another cluster");
}

#[test]
fn i37_what_does_not_answer_is_not_called_well() {
    let silent = |base: Case, silent| base.with(|case| case.seen.silent = silent);
    for (base, serves) in [(primary(), Serves::Primary), (standby(), Serves::Replica)] {
        let nearly = MUTE_AFTER.saturating_sub(Duration::from_micros(1));
        assert_eq!(silent(base.clone(), nearly).serving().serves, serves);
        silent(base, MUTE_AFTER).serves_nobody("has not answered for 3 s");
    }
}

#[test]
fn a_standby_that_may_be_read_is_found() {
    let serving = standby().serving();
    assert_eq!(serving.serves, Serves::Replica);
    assert_eq!(serving.lag_bytes, Some(100));
    assert_eq!(serving.suits(Wanted::Replica(None)), Ok(()));
    assert_eq!(serving.suits(Wanted::ReadOnly(None)), Ok(()));
    assert_eq!(serving.suits(Wanted::Primary), Err("it is a replica".into()));
    let sealed = standby().assigned(Role::Sealed).with(|case| case.seen.behind = None);
    assert_eq!(sealed.serving().serves, Serves::Replica, "what it has may be read");
}

#[test]
fn a_standby_that_is_too_far_behind_is_left_out() {
    let serving = standby().serving();
    for wanted in [Wanted::Replica, Wanted::ReadOnly] {
        assert_eq!(serving.suits(wanted(Some(100))), Ok(()));
        let why = serving.suits(wanted(Some(99))).unwrap_err();
        assert_eq!(why, "it is 100 bytes behind, more than 99");
    }
}

#[test]
fn i37_a_lag_of_long_ago_is_no_lag() {
    let suspect_after = standby().assignment.unwrap().timing.suspect_after;
    let old = standby().with(|case| {
        case.seen.behind = Some(Behind { bytes: 0, age: suspect_after });
    });
    let alone = standby().with(|case| case.seen.behind = None);
    for serving in [old.serving(), alone.serving()] {
        assert_eq!(serving.serves, Serves::Replica);
        assert_eq!(serving.lag_bytes, None);
        assert_eq!(serving.suits(Wanted::Replica(None)), Ok(()));
        let why = serving.suits(Wanted::Replica(Some(u64::MAX))).unwrap_err();
        assert!(why.contains("not known"), "{why}");
    }
}

#[test]
fn nobody_is_sent_to_a_standby_that_is_none() {
    let closed = standby().with(|case| case.local.server = recovery(false));
    closed.serves_nobody("admits no clients");
    let elsewhere = standby().with(|case| case.local.configured.upstream = Some(id("c")));
    elsewhere.serves_nobody("does not follow a yet");
    let forked = standby().with(|case| case.local.divergence = Divergence::Suspected);
    forked.serves_nobody("being fenced");
    standby().with(|case| case.local.server = writable(false)).serves_nobody("being fenced");
    standby().with(|case| case.local.server = Server::Starting).serves_nobody("does not answer");
    standby().with(|case| case.assignment = None).serves_nobody("nothing was assigned");
}

#[test]
fn i03_whoever_is_called_primary_holds_a_lease_in_every_state() {
    let servers = [
        writable(true),
        writable(false),
        recovery(true),
        recovery(false),
        Server::Starting,
        Server::Absent,
        Server::Down(Down::Fenced),
    ];
    let roles = [
        Role::Idle,
        Role::Primary { initialise: false, prepare: false },
        Role::Primary { initialise: false, prepare: true },
        Role::Stopped,
        Role::Fenced,
        Role::Sealed,
        Role::Standby { upstream: id("b") },
    ];
    let (mut asked, mut primaries) = (0, 0);
    for server in &servers {
        for role in &roles {
            for bits in 0..1_u32 << 7 {
                let bit = |number: u32| bits >> number & 1;
                let epoch = |number| Epoch(u64::from(number));
                let case = primary().assigned(role.clone()).with(|case| {
                    case.local.server = server.clone();
                    case.local.pledge.granted = epoch(bit(0) + bit(1));
                    case.local.pledge.sealed = epoch(bit(2));
                    case.local.proven = (bit(3) == 1).then_some(Epoch(1));
                    case.local.serves = bit(4) == 1;
                    case.local.leased = (bit(5) == 1).then_some(NOW.before(SECOND));
                    case.local.committed = Some(NOW.before(SECOND * (1 + 9 * bit(6))));
                });
                asked += 1;
                if case.serving().serves != Serves::Primary {
                    continue;
                }
                primaries += 1;
                let known = case.assignment.as_ref().unwrap();
                assert!(matches!(known.role, Role::Primary { .. }));
                assert!(matches!(case.local.server, Server::Writable { admits: true, .. }));
                assert!(lease::is_valid(&case.local, &known.timing, NOW));
                assert_eq!(case.local.proven, Some(Epoch(1)));
                assert_eq!(
                    case.local.pledge,
                    Pledge { granted: Epoch(1), sealed: Epoch(0), isolated: None }
                );
            }
        }
    }
    assert_eq!(asked, 7 * 7 * 128);
    assert!(primaries > 0, "the test sees primaries");
}
