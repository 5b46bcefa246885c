//! What is done to both, and what is compared.

use crate::{Rule, Servers, Side, Told};
use std::time::Duration;

type Seen = Vec<String>;

fn told(servers: &mut dyn Servers, number: u64, seen: &mut Seen) -> Told {
    let told = servers.told(number);
    seen.push(format!("the session that wrote {number} was told: {told:?}"));
    told
}

fn sees(servers: &mut dyn Servers, side: Side, number: u64, seen: &mut Seen) {
    let visible = servers.sees(side, number);
    seen.push(format!("{side:?} shows {number}: {visible}"));
}

pub fn f08_a_client_that_leaves_does_not_end_the_wait(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    servers.freeze(Side::B);
    servers.write(1);
    told(servers, 1, &mut seen);
    servers.hang_up(1);
    sees(servers, Side::A, 1, &mut seen);
    servers.thaw(Side::B);
    servers.write(2);
    told(servers, 2, &mut seen);
    sees(servers, Side::A, 1, &mut seen);
    seen
}

pub fn f09_a_standby_has_what_the_primary_flushed(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    for number in 1..4 {
        servers.write(number);
        told(servers, number, &mut seen);
    }
    servers.kill(Side::A);
    for number in 1..4 {
        sees(servers, Side::B, number, &mut seen);
    }
    seen.push(format!("promote says {}", servers.promote(Side::B)));
    for number in 1..4 {
        sees(servers, Side::B, number, &mut seen);
    }
    seen
}

pub fn f10_a_cancelled_wait_is_a_success(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    servers.freeze(Side::B);
    servers.write(1);
    told(servers, 1, &mut seen);
    sees(servers, Side::A, 1, &mut seen);
    servers.cancel(1);
    told(servers, 1, &mut seen);
    sees(servers, Side::A, 1, &mut seen);
    servers.write(2);
    told(servers, 2, &mut seen);
    sees(servers, Side::A, 2, &mut seen);
    servers.thaw(Side::B);
    told(servers, 2, &mut seen);
    seen
}

pub fn f12_a_restart_shows_what_waited(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    servers.kill(Side::B);
    servers.write(1);
    told(servers, 1, &mut seen);
    sees(servers, Side::A, 1, &mut seen);
    servers.kill(Side::A);
    told(servers, 1, &mut seen);
    servers.start(Side::A, false);
    sees(servers, Side::A, 1, &mut seen);
    servers.write(2);
    told(servers, 2, &mut seen);
    sees(servers, Side::A, 2, &mut seen);
    let ended = servers.stop(Side::A);
    seen.push(format!("with no standby it stops at once: {ended}"));
    servers.start(Side::A, false);
    sees(servers, Side::A, 2, &mut seen);
    seen
}

pub fn f13_an_emptied_setting_releases_everyone(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    servers.kill(Side::B);
    servers.write(1);
    servers.write(2);
    told(servers, 1, &mut seen);
    told(servers, 2, &mut seen);
    servers.rule(Rule::Empty);
    told(servers, 1, &mut seen);
    told(servers, 2, &mut seen);
    sees(servers, Side::A, 2, &mut seen);
    servers.write(3);
    told(servers, 3, &mut seen);
    servers.rule(Rule::Standby);
    servers.write(4);
    told(servers, 4, &mut seen);
    seen
}

pub fn f14_whoever_has_the_name_counts(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    servers.kill(Side::B);
    servers.write(1);
    told(servers, 1, &mut seen);
    servers.pretend();
    told(servers, 1, &mut seen);
    servers.write(2);
    told(servers, 2, &mut seen);
    seen
}

pub fn f15_commits_wait_only_once_the_checkpointer_says_so(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    servers.rule(Rule::Empty);
    servers.freeze(Side::B);
    servers.stall_checkpointer();
    servers.rule(Rule::Standby);
    servers.write(1);
    told(servers, 1, &mut seen);
    sees(servers, Side::A, 1, &mut seen);
    servers.resume_checkpointer();
    servers.write(2);
    told(servers, 2, &mut seen);
    sees(servers, Side::A, 2, &mut seen);
    seen
}

pub fn f16_a_local_session_does_not_wait(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    servers.freeze(Side::B);
    servers.write(1);
    servers.write_local(2);
    told(servers, 1, &mut seen);
    told(servers, 2, &mut seen);
    sees(servers, Side::A, 1, &mut seen);
    sees(servers, Side::A, 2, &mut seen);
    seen
}

pub fn f17_a_terminated_wait_is_unknown_and_visible(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    servers.freeze(Side::B);
    servers.write(1);
    told(servers, 1, &mut seen);
    sees(servers, Side::A, 1, &mut seen);
    servers.terminate();
    told(servers, 1, &mut seen);
    sees(servers, Side::A, 1, &mut seen);
    seen
}

pub fn f19_promote_says_false_and_stands(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    servers.hold_replay();
    servers.write(1);
    told(servers, 1, &mut seen);
    sees(servers, Side::B, 1, &mut seen);
    servers.kill(Side::A);
    seen.push(format!("promote says {}", servers.promote(Side::B)));
    seen.push(format!("writable: {}", servers.writable(Side::B, false)));
    servers.release_replay();
    seen.push(format!("writable: {}", servers.writable(Side::B, true)));
    sees(servers, Side::B, 1, &mut seen);
    seen.push(format!("on timeline {}", servers.timeline(Side::B)));
    seen
}

pub fn f20_after_a_restart_nothing_was_received(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    servers.write(1);
    told(servers, 1, &mut seen);
    let (known, before) = servers.stands();
    seen.push(format!("received is known: {known}"));
    servers.kill(Side::B);
    servers.follow(Side::B, false);
    servers.start(Side::B, true);
    let (known, after) = servers.stands();
    seen.push(format!("received is known: {known}, no less is replayed: {}", after >= before));
    sees(servers, Side::B, 1, &mut seen);
    servers.follow(Side::B, true);
    seen.push(format!("streams: {}", servers.streams(Side::B, true)));
    seen.push(format!("received is known: {}", servers.stands().0));
    seen
}

pub fn f21_a_frozen_standby_slows_a_clean_stop(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    servers.write(1);
    told(servers, 1, &mut seen);
    servers.freeze(Side::B);
    servers.write(2);
    told(servers, 2, &mut seen);
    seen.push(format!("ends at once: {}", servers.stop(Side::A)));
    told(servers, 2, &mut seen);
    seen.push(format!("ends: {}", servers.ends(Side::A, Duration::from_secs(30))));
    servers.thaw(Side::B);
    servers.start(Side::A, false);
    sees(servers, Side::A, 2, &mut seen);
    seen
}

pub fn f22_promotion_makes_a_timeline_that_others_follow(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    servers.write(1);
    told(servers, 1, &mut seen);
    seen.push(format!("ends at once: {}", servers.stop(Side::A)));
    seen.push(format!("promote says {}", servers.promote(Side::B)));
    seen.push(format!("on timeline {}", servers.timeline(Side::B)));
    // Its last record was sent before it ended: its end is in the other's history.
    servers.follow(Side::A, true);
    servers.start(Side::A, true);
    seen.push(format!("streams: {}", servers.streams(Side::A, true)));
    seen.push(format!("on timeline {}", servers.timeline(Side::A)));
    sees(servers, Side::A, 1, &mut seen);
    seen
}

pub fn f23_beyond_the_fork_is_refused(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    servers.write(1);
    told(servers, 1, &mut seen);
    servers.kill(Side::B);
    servers.write(2);
    told(servers, 2, &mut seen);
    servers.kill(Side::A);
    servers.follow(Side::B, false);
    servers.start(Side::B, true);
    seen.push(format!("promote says {}", servers.promote(Side::B)));
    sees(servers, Side::B, 2, &mut seen);
    servers.follow(Side::A, true);
    servers.start(Side::A, true);
    seen.push(format!("streams: {}", servers.streams(Side::A, false)));
    sees(servers, Side::A, 2, &mut seen);
    seen
}

pub fn f25_an_emptied_conninfo_lasts(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    seen.push(format!("streams: {}", servers.streams(Side::B, true)));
    servers.follow(Side::B, false);
    seen.push(format!("streams: {}", servers.streams(Side::B, false)));
    servers.write(1);
    told(servers, 1, &mut seen);
    servers.kill(Side::B);
    servers.start(Side::B, true);
    seen.push(format!("streams: {}", servers.streams(Side::B, false)));
    told(servers, 1, &mut seen);
    seen.push(format!("promote says {}", servers.promote(Side::B)));
    sees(servers, Side::B, 1, &mut seen);
    seen
}

pub fn rules_name_whom_commits_wait_for(servers: &mut dyn Servers) -> Seen {
    let mut seen = Seen::new();
    servers.rule(Rule::First);
    servers.write(1);
    told(servers, 1, &mut seen);
    servers.rule(Rule::Nobody);
    servers.write(2);
    told(servers, 2, &mut seen);
    servers.rule(Rule::Standby);
    told(servers, 2, &mut seen);
    servers.rule(Rule::Both);
    servers.write(3);
    told(servers, 3, &mut seen);
    sees(servers, Side::B, 3, &mut seen);
    sees(servers, Side::A, 3, &mut seen);
    servers.rule(Rule::First);
    told(servers, 3, &mut seen);
    seen
}
