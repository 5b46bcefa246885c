//! A majority of voters is left without each site.

use super::Check;
use super::facts::Facts;
use super::finding::{Findings, Level};
use crate::ids::SiteId;
use alloc::format;

pub(super) const CHECK: Check = Check {
    name: "voters-quorum",
    about: "without any one site a majority of the voters is left",
    look,
};

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    let seats = &facts.voters.seats;
    for site in facts.case.cluster.topology.sites.keys() {
        let away = |seat: &(Option<SiteId>, bool)| seat.0.as_ref() != Some(site);
        let left = seats.values().filter(|seat| seat.1 && away(seat)).count();
        if left * 2 > seats.len() {
            continue;
        }
        let silent = seats.values().filter(|seat| !seat.1 && away(seat)).count();
        let text = format!(
            "without {site} {left} of {} voters would be left, no majority: nothing would be \
             decided",
            seats.len()
        );
        let remedy = if silent > 0 {
            "start the voters that are not heard: `baton voters`"
        } else {
            "spread the voters over at least three sites: `baton voters add`"
        };
        say.of_site(site, Level::Blocks, text, remedy);
    }
}
