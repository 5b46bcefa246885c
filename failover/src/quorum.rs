//! The synchronous rule: why sealing N - W + 1 is enough, and which rule may follow which.
//!
//! The record says: every acknowledged commit is flushed on at least W of the N instances. Any
//! N - W + 1 of them share at least one with any W of them, because together they are more than
//! N. So once N - W + 1 instances have durably stopped receiving, (a) no W acknowledgers are left
//! to release another commit, and (b) every commit ever acknowledged is on at least one of those
//! that stopped; the most advanced of them has it.
//!
//! The record must cover what PostgreSQL enforces at every instant (I-07): every set of standbys
//! that can release a commit must hold W of N. `{n, w}` covers `{e, v}` when e is part of n and
//! v >= w. PostgreSQL's setting changes between two writes of the record, so the record first
//! grows to cover both the old and the new setting, and narrows only after PostgreSQL is proven
//! to enforce the new one *and* a commit made under it has been acknowledged: that commit carries
//! everything acknowledged before it to W instances of the new setting.
//!
//! W of the record is not W of the setting. PostgreSQL counts walsenders by name, and one standby
//! can have two: one of before its power failed, not yet timed out, and one of after. Both are
//! taken for it, so `ANY 2 (b, c)` is released by b alone ([`counted`], decision 0013).

use crate::cluster::{Enforce, Rule};
use crate::ids::{InstanceId, Lsn};
use crate::report::Stream;
use crate::topology::OnLastCopy;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// How many instances must be sealed before positions may be compared: N - W + 1.
/// `None`: none are enough, because commits may exist on the primary alone (W = 0).
#[must_use]
pub fn needed(rule: &Rule) -> Option<usize> {
    let required = rule.required as usize;
    if required == 0 {
        return None;
    }
    Some((rule.instances.len() + 1).saturating_sub(required).max(1))
}

/// On how many standbys a commit is sure to be that `required` walsenders have released: on one,
/// however many were asked for.
#[must_use]
pub const fn counted(required: u32) -> u32 {
    if required > 1 { 1 } else { required }
}

/// Whether a record of `required` of `instances` covers what is enforced.
#[must_use]
pub fn covers(instances: &BTreeSet<InstanceId>, required: u32, enforce: &Enforce) -> bool {
    // Nobody is named and something is required: nothing can be released at all.
    let released_by_nobody = enforce.required > 0 && enforce.instances.is_empty();
    required == 0
        || released_by_nobody
        || (enforce.required >= required && enforce.instances.is_subset(instances))
}

/// Whether `new` may be recorded after `old`: it covers its own enforcement, and either it only
/// grows (so it covers all that `old` covered), or it narrows to what `old` already enforced.
#[must_use]
pub fn may_follow(old: &Rule, new: &Rule) -> bool {
    let grows = old.instances.is_subset(&new.instances) && new.required <= old.required;
    // Logs of before decision 0013 narrow to what is enforced.
    let narrows = new.enforce == old.enforce
        && new.instances == old.enforce.instances
        && (new.required == counted(old.enforce.required) || new.required == old.enforce.required);
    covers(&new.instances, new.required, &new.enforce) && (grows || narrows)
}

/// What the rule should become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Standbys that stream, are caught up and may count.
    pub eligible: BTreeSet<InstanceId>,
    /// Standbys of the rule that are lost.
    pub lost: BTreeSet<InstanceId>,
    /// W of the policy.
    pub required: u32,
    /// What happens when nobody is left.
    pub on_last: OnLastCopy,
    /// PostgreSQL is proven to enforce the newest recording.
    pub proven: bool,
}

/// The next safe recording, or `None` when the rule is as wished or must wait for proof.
#[must_use]
pub fn next(rule: &Rule, wish: &Wish) -> Option<Rule> {
    let enforced = &rule.enforce;
    if let Some(enforce) = target(rule, wish).filter(|enforce| enforce != enforced) {
        // Grow the record over both; it covers whatever PostgreSQL enforced before.
        let instances = rule.instances.union(&enforce.instances).cloned().collect();
        let required = rule.required.min(counted(enforce.required));
        return Some(Rule { generation: rule.generation, instances, required, enforce });
    }
    // A narrowing keeps the generation's proof, so it is taken only once.
    let required = counted(enforced.required);
    let narrow = rule.instances == enforced.instances && rule.required == required;
    (wish.proven && !narrow && enforced.required > 0).then(|| Rule {
        generation: rule.generation,
        instances: enforced.instances.clone(),
        required,
        enforce: enforced.clone(),
    })
}

/// What should be enforced; `None`: what is enforced already.
fn target(rule: &Rule, wish: &Wish) -> Option<Enforce> {
    let enforced = &rule.enforce;
    if enforced.required == wish.required
        && enforced.instances.len() >= wish.required as usize
        && wish.eligible.is_subset(&enforced.instances)
        && wish.lost.is_disjoint(&enforced.instances)
    {
        return None;
    }
    let wanted: BTreeSet<InstanceId> = rule
        .enforce
        .instances
        .union(&wish.eligible)
        .filter(|instance| !wish.lost.contains(*instance))
        .cloned()
        .collect();
    if wanted.len() >= wish.required as usize {
        return Some(Enforce { instances: wanted, required: wish.required });
    }
    Some(match wish.on_last {
        // Too few are left: the lost stay named, so that commits wait for their return, and those
        // who are there count at once.
        OnLastCopy::Block => Enforce {
            instances: rule.enforce.instances.union(&wish.eligible).cloned().collect(),
            required: wish.required,
        },
        OnLastCopy::SingleCopy if wanted.is_empty() => {
            Enforce { instances: rule.enforce.instances.clone(), required: 0 }
        }
        OnLastCopy::SingleCopy => {
            let required = u32::try_from(wanted.len()).unwrap_or(u32::MAX).min(wish.required);
            Enforce { instances: wanted, required }
        }
    })
}

/// Up to where W of N are known to have flushed, by what the primary sees of their streams.
/// `None`: fewer than W stream, or W is 0 and nothing can be said.
#[must_use]
pub fn flushed(rule: &Rule, streams: &[Stream]) -> Option<Lsn> {
    // One that came back is seen twice for a while, and counts once (F-05).
    let mut ends: Vec<Lsn> = rule
        .instances
        .iter()
        .filter_map(|id| {
            let own = streams.iter().filter(|stream| stream.instance == *id);
            own.map(|stream| stream.flushed).max()
        })
        .collect();
    ends.sort_unstable();
    let required = usize::try_from(rule.required).ok().filter(|required| *required > 0)?;
    ends.len().checked_sub(required).and_then(|index| ends.get(index)).copied()
}

/// The rule in words: `1 of falkenstein-1, roubaix-1`.
#[must_use]
pub fn describe(rule: &Rule) -> String {
    let names: Vec<&str> = rule.instances.iter().map(InstanceId::as_str).collect();
    let record = if rule.required == 0 {
        String::from("single copy")
    } else {
        format!("{} of {}", rule.required, names.join(", "))
    };
    if rule.enforce.instances == rule.instances && rule.enforce.required == rule.required {
        return record;
    }
    let names: Vec<&str> = rule.enforce.instances.iter().map(InstanceId::as_str).collect();
    if rule.enforce.required == 0 {
        return format!("{record}; enforcing none");
    }
    format!("{record}; enforcing {} of {}", rule.enforce.required, names.join(", "))
}
