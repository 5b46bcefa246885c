//! What an agent does about an assignment that was true once.

#![expect(clippy::unwrap_used, reason = "what cannot be made fails the test")]

mod support;

use failover::Timeline;
use failover::comply::{Configured, Divergence};
use failover::report::{Down, Pledge, Server};
use failover::{Action, Assignment, Epoch, Local, Moment, assignment, comply};
use support::{at, cluster, id, local};

fn assigned(to: &str, epoch: u64) -> Assignment {
    let mut known = assignment(&cluster(), &id(to)).expect("it is declared");
    known.epoch = Epoch(epoch);
    known
}

fn standby(granted: u64, sealed: u64) -> Local {
    let server = Server::Recovery { position: at(9), replayed: at(9).lsn, admits: false };
    Local {
        pledge: Pledge { granted: Epoch(granted), sealed: Epoch(sealed), isolated: None },
        configured: Configured { standby: true, ..Configured::default() },
        informed: false,
        ..local(server, granted)
    }
}

/// It was the primary of epoch 7, then a standby that swore off epoch 8; a power cut brought the
/// assignment of epoch 7 back, which it accepted once.
#[test]
fn i20_an_assignment_from_before_an_oath_is_an_echo() {
    let now = Moment(1);
    let primary = |sealed| comply(Some(&assigned("a", 7)), &standby(7, sealed), now);
    assert_eq!(primary(6), Some(Action::Promote), "sworn off the one before: it was chosen");
    assert_eq!(primary(7), None, "whoever swears an epoch off is not its primary");
    assert_eq!(primary(8), None, "the epoch is over");
    let follows = |sealed| comply(Some(&assigned("b", 7)), &standby(0, sealed), now);
    assert!(matches!(follows(6), Some(Action::Follow { .. })));
    assert_eq!(follows(8), None, "that primary is none any more");
}

/// Seed 2343: the power failed in the middle of a rewind, and a voter that lagged said primary.
#[test]
fn i15_what_a_rewind_left_is_started_by_nobody() {
    let wish = |divergence| {
        let server = Server::Down(Down::NotStarted);
        let local = Local { server, divergence, informed: true, ..standby(7, 6) };
        comply(Some(&assigned("a", 7)), &local, Moment(1))
    };
    assert!(matches!(wish(Divergence::Suspected), Some(Action::StartStandby { upstream: None })));
    assert_eq!(wish(Divergence::Beyond), None);
}

/// Seed 53736: a clean stop was ordered and called off while the guard was stopped. The file was
/// closed, and PostgreSQL had never read it.
#[test]
fn i03_readers_of_a_closed_file_are_under_the_lease() {
    let wish = |admits, serves| {
        let server = Server::Writable { position: at(9), admits, checkpoint: Timeline(1) };
        let local = Local { server, serves, ..standby(7, 6) };
        comply(Some(&assigned("a", 7)), &local, Moment(1))
    };
    assert!(matches!(wish(true, true), Some(Action::Fence { .. })));
    assert!(matches!(wish(false, true), Some(Action::Fence { .. })));
    assert!(!matches!(wish(false, false), Some(Action::Fence { .. })), "born fenced");
}
