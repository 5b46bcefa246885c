//! From the language's links and planes to packets between addresses.

use anyhow::Result;

use crate::lab::network::{CLIENTS, End, Fate, Fault, Network, Spot};
use crate::script::{Plane, Planes};

/// Who sends packets to whom on a plane, in both directions of every conversation.
const fn pairs(plane: Plane) -> &'static [(Spot, Spot)] {
    use Spot::{Clients, Database, Names, Voter};
    match plane {
        Plane::Raft => &[(Voter, Voter)],
        Plane::Health => &[(Database, Voter), (Voter, Database)],
        Plane::Wal => &[(Database, Database)],
        Plane::Dns => {
            &[(Names, Voter), (Voter, Names), (Names, Names), (Clients, Names), (Names, Clients)]
        }
        Plane::User => &[(Clients, Database), (Database, Clients)],
    }
}

/// Whether a packet from the one to the other belongs to one of the planes. All planes are all
/// packets, operators' too.
fn belongs(from: &End, to: &End, planes: &Planes) -> bool {
    if Plane::ALL.iter().all(|plane| planes.0.contains(plane)) {
        return true;
    }
    planes.iter().any(|plane| pairs(*plane).contains(&(from.spot, to.spot)))
}

/// Every packet from one of `from` to one of `to` on `planes`, not within a site.
pub(super) fn packets(
    network: &Network,
    from: &[String],
    to: &[String],
    planes: &Planes,
) -> Vec<(End, End)> {
    let ends =
        |sites: &[String]| -> Vec<End> { sites.iter().flat_map(|site| network.at(site)).collect() };
    let (from, to) = (ends(from), ends(to));
    let all = from.iter().flat_map(|one| to.iter().map(move |other| (one, other)));
    all.filter(|(one, other)| one.site != other.site && belongs(one, other, planes))
        .map(|(one, other)| (one.clone(), other.clone()))
        .collect()
}

/// Lets `fate` befall the packets, and those of the way back where `both`.
///
/// # Errors
/// Those of `nft`.
pub(super) fn befall(
    network: &Network,
    packets: &[(End, End)],
    both: bool,
    fate: Fate,
) -> Result<()> {
    network.change(|faults| {
        for (from, to) in packets {
            let fault = |from: &End, to: &End| Fault { from: from.clone(), to: to.clone(), fate };
            let there = fault(from, to);
            let back = fault(to, from);
            for fault in std::iter::once(there).chain(both.then_some(back)) {
                if !faults.contains(&fault) {
                    faults.push(fault);
                }
            }
        }
    })
}

/// Undoes every fault between the two ends on the planes; whatever end is not named is anyone.
///
/// # Errors
/// Those of `nft`.
pub(super) fn heal(
    network: &Network,
    from: Option<&[String]>,
    to: Option<&[String]>,
    planes: &Planes,
) -> Result<()> {
    let named =
        |sites: Option<&[String]>, end: &End| sites.is_none_or(|sites| sites.contains(&end.site));
    network.change(|faults| {
        faults.retain(|fault| {
            let there = named(from, &fault.from) && named(to, &fault.to);
            let back = named(from, &fault.to) && named(to, &fault.from);
            !((there || back) && belongs(&fault.from, &fault.to, planes))
        });
    })
}

/// The name of the place outside, as a site.
pub(super) fn outside() -> String {
    CLIENTS.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::place::OneOrMore;

    fn end(site: &str, spot: Spot) -> End {
        End { site: site.to_owned(), spot }
    }

    #[test]
    fn a_plane_is_told_by_its_two_addresses() {
        let voter = |site| end(site, Spot::Voter);
        let database = |site| end(site, Spot::Database);
        let of = |plane| OneOrMore(vec![plane]);
        assert!(belongs(&voter("a"), &voter("b"), &of(Plane::Raft)));
        assert!(!belongs(&database("a"), &voter("b"), &of(Plane::Raft)));
        assert!(belongs(&database("a"), &voter("b"), &of(Plane::Health)));
        assert!(belongs(&voter("b"), &database("a"), &of(Plane::Health)));
        assert!(belongs(&database("a"), &database("b"), &of(Plane::Wal)));
        assert!(!belongs(&end("a", Spot::Clients), &voter("b"), &of(Plane::User)));
        assert!(belongs(&end("a", Spot::Clients), &voter("b"), &Planes::default()));
    }
}
