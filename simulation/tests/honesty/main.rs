//! The model of PostgreSQL held against PostgreSQL: the same short schedules on both, and what
//! clients are told, what can be seen and how positions stand must be the same.
//!
//! Every schedule makes its own pair of servers in a folder that goes away with it. Without
//! PostgreSQL the tests say so and do nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should not")]

mod ground;
mod model;
mod real;
mod schedules;

use std::time::Duration;

/// One of two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// At first the primary.
    A,
    /// At first its standby.
    B,
}

/// `synchronous_standby_names`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Any one of the standby.
    Standby,
    /// The first of the standby.
    First,
    /// Both the standby and one that is not there.
    Both,
    /// Somebody who is not there.
    Nobody,
    /// The empty text.
    Empty,
}

/// What a session that writes was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing: it waits for standbys.
    Waits,
    /// Success.
    Success,
    /// Success, and a warning that nobody else may have it.
    Warned,
    /// The connection ended.
    Lost,
}

/// Two servers, real or not.
pub trait Servers {
    /// A session of its own begins to write a number on the first.
    fn write(&mut self, number: u64);
    /// The same with `synchronous_commit = local`.
    fn write_local(&mut self, number: u64);
    /// What it was told.
    fn told(&mut self, number: u64) -> Told;
    /// Its wait is cancelled.
    fn cancel(&mut self, number: u64);
    /// Whoever waits is terminated.
    fn terminate(&mut self);
    /// Its client goes away.
    fn hang_up(&mut self, number: u64);
    /// Whether a new session sees the number.
    fn sees(&mut self, side: Side, number: u64) -> bool;
    /// All processes of a server are stopped.
    fn freeze(&mut self, side: Side);
    /// They go on.
    fn thaw(&mut self, side: Side);
    /// The first one's rule is changed and reloaded.
    fn rule(&mut self, rule: Rule);
    /// The first one's checkpointer stops.
    fn stall_checkpointer(&mut self);
    /// It goes on.
    fn resume_checkpointer(&mut self);
    /// An immediate stop.
    fn kill(&mut self, side: Side);
    /// A fast stop; whether it ended within half a second.
    fn stop(&mut self, side: Side) -> bool;
    /// Whether it ends within this time.
    fn ends(&mut self, side: Side, within: Duration) -> bool;
    /// Starts it.
    fn start(&mut self, side: Side, standby: bool);
    /// `pg_promote`, waited for one second: what it says.
    fn promote(&mut self, side: Side) -> bool;
    /// Whether it is out of recovery, within a few seconds where that is wanted.
    fn writable(&mut self, side: Side, wanted: bool) -> bool;
    /// The timeline that it writes or receives.
    fn timeline(&mut self, side: Side) -> u32;
    /// `primary_conninfo` names the other one, or nobody; written, and reloaded where it runs.
    fn follow(&mut self, side: Side, other: bool);
    /// Whether its receiver streams, within a few seconds where that is wanted.
    fn streams(&mut self, side: Side, wanted: bool) -> bool;
    /// A query on the second holds its replay up.
    fn hold_replay(&mut self);
    /// It ends.
    fn release_replay(&mut self);
    /// A receiver without a database streams from the first under the second's name.
    fn pretend(&mut self);
    /// Whether the second one knows how far it received; and how far it replayed.
    fn stands(&mut self) -> (bool, u64);
}

fn hold(name: &str, schedule: fn(&mut dyn Servers) -> Vec<String>) {
    let Some(bin) = ground::found() else {
        eprintln!("skipped: PostgreSQL 15 or newer is not installed, or there is no user for it");
        return;
    };
    if ground::as_postgres(name) {
        return;
    }
    let modelled: Vec<Vec<String>> =
        (1..20).map(|seed| schedule(&mut model::Model::new(seed))).collect();
    let found = schedule(&mut real::Real::new(&bin));
    for seen in modelled {
        assert_eq!(seen, found, "the model on the left, PostgreSQL on the right");
    }
}

macro_rules! schedules {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            hold(stringify!($name), schedules::$name);
        }
    )*};
}

schedules! {
    f08_a_client_that_leaves_does_not_end_the_wait
    f09_a_standby_has_what_the_primary_flushed
    f10_a_cancelled_wait_is_a_success
    f12_a_restart_shows_what_waited
    f13_an_emptied_setting_releases_everyone
    f14_whoever_has_the_name_counts
    f15_commits_wait_only_once_the_checkpointer_says_so
    f16_a_local_session_does_not_wait
    f17_a_terminated_wait_is_unknown_and_visible
    f19_promote_says_false_and_stands
    f20_after_a_restart_nothing_was_received
    f21_a_frozen_standby_slows_a_clean_stop
    f22_promotion_makes_a_timeline_that_others_follow
    f23_beyond_the_fork_is_refused
    f25_an_emptied_conninfo_lasts
    rules_name_whom_commits_wait_for
}
