//! Who may become primary, best first, and for each other instance why not.
//!
//! Called only when enough of the rule is sealed, so no position can move any more (I-06).

use crate::cluster::{Doubt, Examined, Service};
use crate::ids::{InstanceId, SiteId};
use crate::position::Position;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Ordering;

/// A sealed instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Where it stands for good.
    pub position: Position,
    /// Whether it is there to be promoted: heard lately, its server running.
    pub able: Result<(), String>,
    /// What speaks against it, by name: among those that hold the same it comes after one without.
    pub concerns: Vec<String>,
}

/// The outcome of an examination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The best, if any.
    pub chosen: Option<(InstanceId, Position)>,
    /// Everyone, with the reason.
    pub examined: Vec<Examined>,
}

/// Examines all sealed instances. The chosen one holds everything that any of them holds, and
/// everything up to the floor and in doubt (I-05, I-12); among equals the target wins, then
/// one without a concern, then the site preferred, then the declared order.
#[must_use]
pub fn choose(
    service: &Service,
    sealed: &BTreeMap<InstanceId, Sealed>,
    (floor, doubts): (Option<&Position>, &[Doubt]),
    target: Option<&InstanceId>,
) -> Choice {
    let home = service.primary.as_ref().and_then(|primary| service.site_of(primary)).cloned();
    let mut chosen: Option<InstanceId> = None;
    let mut verdicts: BTreeMap<InstanceId, String> = BTreeMap::new();
    for (instance, candidate) in sealed {
        if let Some(reason) = bar(instance, candidate, sealed, (floor, doubts)) {
            verdicts.insert(instance.clone(), reason);
            continue;
        }
        let better = chosen.as_ref().is_none_or(|best| {
            let rank = |id: &InstanceId| {
                let concerned = sealed.get(id).is_some_and(|sealed| !sealed.concerns.is_empty());
                rank(service, target, (concerned, home.as_ref()), id)
            };
            rank(instance) < rank(best)
        });
        if better {
            chosen = Some(instance.clone());
        }
    }
    let examined = sealed
        .iter()
        .map(|(instance, candidate)| Examined {
            instance: instance.clone(),
            position: Some(candidate.position.clone()),
            verdict: match (&chosen, verdicts.remove(instance)) {
                (_, Some(reason)) => reason,
                (Some(best), None) if best == instance => "chosen".to_string(),
                (Some(best), None) if candidate.concerns.is_empty() => {
                    format!("as good as {best}, which is preferred")
                }
                (Some(best), None) => {
                    format!("holds as much as {best}, but: {}", candidate.concerns.join(", "))
                }
                (None, None) => "not chosen".to_string(),
            },
        })
        .collect();
    let chosen = chosen.and_then(|id| Some((id.clone(), sealed.get(&id)?.position.clone())));
    Choice { chosen, examined }
}

/// Why an instance may not be chosen, if so.
fn bar(
    instance: &InstanceId,
    candidate: &Sealed,
    sealed: &BTreeMap<InstanceId, Sealed>,
    (floor, doubts): (Option<&Position>, &[Doubt]),
) -> Option<String> {
    if let Some(floor) = floor
        && !candidate.position.contains(floor)
    {
        return Some(format!(
            "stands at {} and lacks what is known to have been acknowledged up to {floor}",
            candidate.position
        ));
    }
    if let Some(doubt) = doubts.iter().find(|doubt| !holds(candidate, doubt)) {
        return Some(format!(
            "stands at {} and is not known to hold commits in doubt at {doubt}",
            candidate.position
        ));
    }
    for (other, rival) in sealed.iter().filter(|(other, _)| *other != instance) {
        match candidate.position.compare(&rival.position) {
            Some(Ordering::Less) => {
                return Some(format!(
                    "behind {other} by {} bytes",
                    rival.position.lsn.bytes_since(candidate.position.lsn)
                ));
            }
            // A rival that is itself below the floor lost its right to be compared.
            None if floor.is_none_or(|floor| rival.position.contains(floor)) => {
                return Some(format!("its history has forked from that of {other}"));
            }
            None | Some(Ordering::Equal | Ordering::Greater) => {}
        }
    }
    candidate.able.clone().err()
}

fn holds(candidate: &Sealed, doubt: &Doubt) -> bool {
    !doubt.open && candidate.position.contains(&doubt.position)
}

/// Lower is better: the target, then one without a concern, then a site other than the lost
/// primary's, then declared order.
fn rank(
    service: &Service,
    target: Option<&InstanceId>,
    (concerned, home): (bool, Option<&SiteId>),
    instance: &InstanceId,
) -> (bool, bool, bool, usize) {
    let order = service.spec.preference.iter().position(|listed| listed == instance);
    (
        target != Some(instance),
        concerned,
        service.site_of(instance) == home,
        order.unwrap_or(service.spec.preference.len()),
    )
}
