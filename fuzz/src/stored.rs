//! What lies on a voter's disk (I-22, I-27): entries of the log and the state in a snapshot. A
//! checksum tells a torn record; these are records whose checksum is right, of another version or
//! of nobody's.

use std::time::Duration;

use failover::cluster::Cluster;
use failover::rehearse::{Hypothesis, Voters, rehearse};
use failover::{Moment, View, VoterId, assignment, decide, quorum, zone};
use orchestrator::audit::Hole;
use orchestrator::log::{Hard, Place, Saved};
use orchestrator::message::{Entry, Snapshot};
use orchestrator::storage::{first_snapshot, fits};

use crate::voter::Alone;

/// Records of a voter's file, one a line: Raft's numbers, then entries, a snapshot wherever.
/// What fits together is started from and applied; it may stop the voter with a reason.
pub fn log_entry(bytes: &[u8]) {
    let mut hard = Hard { term: 1, vote: 0, commit: 1 };
    let mut snapshot = first_snapshot(&[1, 2, 3]);
    let mut entries = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(entry) = serde_json::from_slice::<Entry>(line) {
            if let Ok(form) = entry.to_raft() {
                assert_eq!(Entry::of(&form), Ok(normal(&entry)), "an entry changes on its way");
            }
            entries.push(entry);
        } else if let Ok(read) = serde_json::from_slice::<Hard>(line) {
            hard = read;
        } else if let Ok(read) = serde_json::from_slice::<Snapshot>(line) {
            snapshot = read;
        }
    }
    let dropped = Place { index: snapshot.index, term: snapshot.term };
    let saved = Saved { hard, dropped, entries, snapshot: Some(snapshot), hole: Hole::default() };
    if !starts_right(&saved) || fits(&saved).is_err() {
        return;
    }
    let mut voter = Alone::new(saved);
    for _ in 0..30 {
        if !voter.tick() {
            return;
        }
    }
}

/// What `Store::load` checks while it reads: the entries follow one another.
fn starts_right(saved: &Saved) -> bool {
    saved.dropped.index < u64::MAX >> 1
        && (saved.dropped.index + 1..).zip(&saved.entries).all(|(at, entry)| entry.index == at)
}

/// An event without text is what an empty entry looks like.
fn normal(entry: &Entry) -> Entry {
    use orchestrator::message::Body;
    let body = match &entry.body {
        Body::Event(text) if text.is_empty() => Body::Empty,
        other => other.clone(),
    };
    Entry { body, ..entry.clone() }
}

/// A snapshot, and everything that is computed from the state in it.
pub fn snapshot(bytes: &[u8]) {
    let Ok(snapshot) = serde_json::from_slice::<Snapshot>(bytes) else { return };
    if let Ok(form) = snapshot.to_raft() {
        assert_eq!(Snapshot::of(&form).as_ref(), Ok(&snapshot), "a snapshot changes on its way");
    }
    judge(&snapshot.cluster);
    let hard = Hard { term: snapshot.term, vote: 0, commit: snapshot.index };
    let dropped = Place { index: snapshot.index, term: snapshot.term };
    let (entries, hole) = (Vec::new(), Hole::default());
    let saved = Saved { hard, dropped, entries, snapshot: Some(snapshot), hole };
    if !starts_right(&saved) || fits(&saved).is_err() {
        return;
    }
    let mut voter = Alone::new(saved);
    for _ in 0..30 {
        if !voter.tick() {
            return;
        }
    }
}

/// No state makes a projection or a judgement panic, however it came about.
fn judge(cluster: &Cluster) {
    let _zone = zone(cluster);
    for service in cluster.services.values() {
        let _text = quorum::describe(&service.rule);
        for instance in service.spec.instances.keys() {
            let _assignment = assignment(cluster, instance);
        }
    }
    let mut view = View::new(1, Moment(0));
    for late in [0, 5, 3_600] {
        let now = Moment(0).after(Duration::from_secs(late));
        view.follow(cluster, now);
        for verdict in decide(cluster, &view, now).into_values() {
            if let Some((change, cause)) = verdict.change {
                let stamp = failover::event::Stamp::default();
                let event = failover::Event {
                    stamp,
                    by: "x".into(),
                    cause,
                    plan: None,
                    authority: None,
                    change,
                };
                failover::apply(&mut cluster.clone(), &event);
            }
        }
        let seats = [(VoterId(1), (None, true))].into();
        let voters = Voters { leader: VoterId(1), seats };
        if let Some(site) = cluster.topology.sites.keys().next() {
            let lost = Hypothesis::LoseSite(site.clone());
            let _told = rehearse(cluster, &view, &voters, &lost, now);
        }
    }
}
