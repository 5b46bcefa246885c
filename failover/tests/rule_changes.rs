//! Every way in which the synchronous rule can change over three standbys, interrupted at every
//! point: at no instant may a commit be acknowledged that a seal of the recorded rule would miss.

use failover::cluster::{Enforce, Rule};
use failover::quorum::{self, Wish};
use failover::topology::OnLastCopy;
use failover::{Generation, InstanceId};
use std::collections::{BTreeSet, VecDeque};

/// The largest number of standbys explored.
const MOST: usize = 3;

fn name(index: usize) -> InstanceId {
    format!("s{index}").parse().expect("a name")
}

fn names(mask: u8) -> BTreeSet<InstanceId> {
    (0..MOST).filter(|index| mask & (1 << index) != 0).map(name).collect()
}

fn mask(names: &BTreeSet<InstanceId>) -> u8 {
    (0..MOST).filter(|index| names.contains(&name(*index))).map(|index| 1 << index).sum()
}

/// A setting that some process of PostgreSQL may still run under.
type Setting = (u8, u32);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    standbys: usize,
    record: (u8, u32),
    enforce: Setting,
    /// What the processes of PostgreSQL may be running under.
    running: BTreeSet<Setting>,
    proven: bool,
    /// For every acknowledged commit, who holds it; equal ones are one.
    holders: BTreeSet<u8>,
}

fn rule(world: &World) -> Rule {
    Rule {
        generation: Generation(1),
        instances: names(world.record.0),
        required: world.record.1,
        enforce: Enforce { instances: names(world.enforce.0), required: world.enforce.1 },
    }
}

/// Acknowledgement by exactly `by`: they hold this commit and, the log being a log, all before.
fn acknowledged(world: &World, by: u8) -> World {
    let mut holders: BTreeSet<u8> = world.holders.iter().map(|held| held | by).collect();
    holders.insert(by);
    World { holders, ..world.clone() }
}

/// Who may release a commit: fewer than are asked for, too, because a standby with two walsenders
/// counts twice (decision 0013).
fn acknowledgers(setting: Setting) -> impl Iterator<Item = u8> {
    let least = setting.1.min(1);
    (0..1_u8 << MOST)
        .filter(move |by| by & !setting.0 == 0 && (least..=setting.1).contains(&by.count_ones()))
}

fn successors(world: &World, required: u32, on_last: OnLastCopy) -> Vec<World> {
    let mut next = Vec::new();
    for setting in &world.running {
        next.extend(acknowledgers(*setting).map(|by| acknowledged(world, by)));
    }
    for standby in 0..world.standbys {
        let caught_up = world.holders.iter().map(|held| held | 1 << standby).collect();
        next.push(World { holders: caught_up, ..world.clone() });
    }
    // PostgreSQL begins to take up the recorded setting, some processes before others.
    let mut mixed = world.clone();
    mixed.running.insert(world.enforce);
    next.push(mixed);
    // Proof: every process runs under it, and a commit made under it was acknowledged.
    for by in acknowledgers(world.enforce).filter(|_| world.enforce.0 != 0) {
        let mut proven = acknowledged(world, by);
        proven.running = BTreeSet::from([world.enforce]);
        proven.proven = true;
        next.push(proven);
    }
    for eligible in 0..1_u8 << world.standbys {
        for lost in (0..1_u8 << world.standbys).filter(|lost| lost & eligible == 0) {
            let wish = Wish {
                eligible: names(eligible),
                lost: names(lost),
                required,
                on_last,
                proven: world.proven,
            };
            let Some(new) = quorum::next(&rule(world), &wish) else { continue };
            assert!(quorum::may_follow(&rule(world), &new), "{new:?}");
            next.push(World {
                record: (mask(&new.instances), new.required),
                enforce: (mask(&new.enforce.instances), new.enforce.required),
                proven: false,
                ..world.clone()
            });
        }
    }
    next
}

/// Every set that is enough to seal meets the holders of every acknowledged commit.
fn assert_sealing_finds_all(world: &World) {
    let Some(needed) = quorum::needed(&rule(world)) else { return };
    for held in &world.holders {
        let others = (world.record.0 & !held).count_ones() as usize;
        assert!(
            others < needed,
            "record {:?}, enforced {:?}, a commit held by {held:#b} would be missed",
            world.record,
            world.running
        );
    }
}

fn explore(standbys: usize, required: u32, on_last: OnLastCopy) -> usize {
    let all = (1_u8 << standbys) - 1;
    let first = World {
        standbys,
        record: (all, quorum::counted(required)),
        enforce: (all, required),
        running: BTreeSet::from([(all, required)]),
        proven: false,
        holders: BTreeSet::new(),
    };
    let mut seen = BTreeSet::from([first.clone()]);
    let mut open = VecDeque::from([first]);
    while let Some(world) = open.pop_front() {
        assert_sealing_finds_all(&world);
        for (setting, required) in &world.running {
            let enforce = Enforce { instances: names(*setting), required: *required };
            assert!(
                quorum::covers(&names(world.record.0), world.record.1, &enforce),
                "I-07: {:?} does not cover {setting:#b}/{required}",
                world.record
            );
        }
        for next in successors(&world, required, on_last) {
            if seen.insert(next.clone()) {
                open.push_back(next);
            }
        }
    }
    seen.len()
}

#[test]
fn i07_i05_every_interrupted_change_with_one_required() {
    assert!(explore(3, 1, OnLastCopy::Block) > 100);
}

#[test]
fn i07_i05_every_interrupted_change_with_two_required() {
    assert!(explore(3, 2, OnLastCopy::Block) > 100);
}

#[test]
fn i07_i05_every_interrupted_change_down_to_a_single_copy_and_back() {
    assert!(explore(2, 1, OnLastCopy::SingleCopy) > 100);
}
