//! What a voter knows itself, and beside it what the leader told it a while ago.

use failover::fitness::Promise;

use crate::answers::{InstanceStatus, Known, ServiceStatus, Status, VoterState};
use crate::remarks::LIMIT_MS;

/// A leader that was heard so lately is believed in everything.
const FRESH_MS: u64 = 2_500;

/// The one with the other's evidence, which is so much older now.
pub(super) fn onto(own: Known, told: &Known, age_ms: u64) -> Known {
    let mut told = told.clone();
    later(&mut told.status, age_ms);
    let is_behind = own.status.revision > told.status.revision;
    let same = own.status.leader.is_some() && own.status.leader == told.status.leader;
    if same && !is_behind && age_ms <= FRESH_MS {
        return told;
    }
    let mut known = own;
    let leader = known.status.leader.clone();
    graft(&mut known.status, &told.status, age_ms);
    known.status.leader = leader;
    known
}

/// Everything in it was said so much longer ago.
fn later(status: &mut Status, by: u64) {
    let add = |age: &mut Option<u64>| *age = age.map(|age| age.saturating_add(by));
    add(&mut status.led_for_ms);
    for voter in &mut status.voters {
        add(&mut voter.age_ms);
    }
    for service in &mut status.services {
        add(&mut service.lease_age_ms);
        for instance in &mut service.instances {
            add(&mut instance.age_ms);
            for knock in &mut instance.knocks {
                knock.age_ms = knock.age_ms.saturating_add(by);
            }
        }
    }
    for server in &mut status.name_servers {
        add(&mut server.follows_age_ms);
        add(&mut server.asked_age_ms);
    }
}

fn graft(own: &mut Status, told: &Status, age_ms: u64) {
    if own.leader.is_some() && own.leader == told.leader {
        own.led_for_ms = told.led_for_ms;
        for voter in &mut own.voters {
            let known = told.voters.iter().find(|known| known.id == voter.id);
            // Followers do not talk to one another: the leader hears whom this voter does not.
            if let Some(known) = known.filter(|_| voter.state == VoterState::Unknown) {
                (voter.state, voter.age_ms) = (known.state, known.age_ms);
                voter.lag_entries = known.lag_entries;
            }
        }
    }
    for service in &mut own.services {
        let known = told.services.iter().find(|known| known.service == service.service);
        if let Some(known) = known {
            of_service(service, known, age_ms);
        }
    }
    for server in &mut own.name_servers {
        let known = told.name_servers.iter().find(|known| known.server == server.server);
        if let Some(known) = known {
            (server.follows, server.follows_age_ms) = (known.follows, known.follows_age_ms);
            server.asked.clone_from(&known.asked);
            server.asked_age_ms = known.asked_age_ms;
        }
    }
}

fn of_service(own: &mut ServiceStatus, told: &ServiceStatus, age_ms: u64) {
    own.lease_age_ms = told.lease_age_ms;
    if age_ms <= LIMIT_MS {
        own.zero_loss = told.zero_loss.clone();
        own.findings.clone_from(&told.findings);
    } else {
        // Judgements are of their moment: nobody has made any since.
        own.zero_loss = Promise::Unasked;
        own.findings.clear();
    }
    for instance in &mut own.instances {
        let known = told.instances.iter().find(|known| known.instance == instance.instance);
        if let Some(known) = known {
            let site = instance.site.clone();
            *instance = InstanceStatus {
                site,
                postgres: instance.postgres,
                assigned: instance.assigned.clone(),
                in_rule: instance.in_rule,
                ..known.clone()
            };
        }
    }
}
