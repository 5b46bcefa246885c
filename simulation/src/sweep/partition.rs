//! The partition sweep: all 64 patterns of directed cuts among three sites, on each plane alone
//! and on all of them together, with the primary at each of the sites and each of the voters
//! leading. What must come of each is written down in `scenarios/catalogue/partitions.toml`.

use std::path::Path;
use std::time::Duration;

use scenarios::script::place::Process;
use scenarios::script::setting::Shape;
use serde::Deserialize;

use super::{Swept, WHOLE, cluster, ended, unhealed};
use crate::clock::At;
use crate::network::Plane;
use crate::play::{SettingError, stand};
use crate::world::{Deed, World};

/// What must come of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Due {
    /// Nothing is promoted, and writes go on all the time.
    Stays,
    /// Nothing is promoted and nothing acknowledged.
    Waits,
    /// One promotion, and writes go on there.
    Moves,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    raft: Due,
    health: Due,
    dns: Due,
    user: Due,
    pattern: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    cut: String,
    wal: Due,
    all: Due,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Case {
    cuts: Vec<(usize, usize)>,
    planes: Vec<Plane>,
    name: String,
    due: Due,
    /// Which site is first in preference.
    primary: usize,
    /// Who leads when it begins: the primary's voter, or one of the other two.
    leads: usize,
}

/// How long the cut lasts.
const CUT: Duration = Duration::from_secs(40);
/// Writes that go on are never silent for longer.
const SILENCE: Duration = Duration::from_secs(5);
/// What was under way may still be acknowledged.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// Everything that is to be run, from the table.
///
/// # Errors
/// [`scenarios::script::ScriptError`]: the table cannot be read.
pub fn cases() -> Result<Vec<Case>, scenarios::script::ScriptError> {
    let file = scenarios::script::folder().join("partitions.toml");
    let text = std::fs::read_to_string(&file).map_err(|error| {
        scenarios::script::ScriptError::new(&file, "", format!("cannot be read: {error}"))
    })?;
    from(&file, &text)
}

fn from(file: &Path, text: &str) -> Result<Vec<Case>, scenarios::script::ScriptError> {
    let table: Table = scenarios::script::parse_table(file, text)?;
    let mut all = Vec::new();
    for row in &table.pattern {
        let cuts: Vec<(usize, usize)> = row.cut.split_whitespace().filter_map(link).collect();
        let planes = [
            ("raft", vec![Plane::Raft], table.raft),
            ("health", vec![Plane::Health], table.health),
            ("wal", vec![Plane::Wal], row.wal),
            ("dns", vec![Plane::Dns], table.dns),
            ("user", vec![Plane::User], table.user),
            ("all", Plane::ALL.to_vec(), row.all),
        ];
        for (plane, planes, due) in planes {
            for primary in 0..3 {
                for leads in 0..3 {
                    let name = format!(
                        "[{}] on {plane}, primary at site {primary}, {} leads",
                        row.cut,
                        ["P", "X", "Y"][leads]
                    );
                    let (cuts, planes) = (cuts.clone(), planes.clone());
                    all.push(Case { cuts, planes, name, due, primary, leads });
                }
            }
        }
    }
    Ok(all)
}

/// `P>X` as places in the order P, X, Y.
fn link(text: &str) -> Option<(usize, usize)> {
    let (from, to) = text.split_once('>')?;
    let at = |name: &str| ["P", "X", "Y"].iter().position(|known| *known == name);
    Some((at(from)?, at(to)?))
}

/// Runs a case.
///
/// # Errors
/// [`SettingError`]: never for the presets.
pub fn sweep(case: &Case) -> Result<Swept, SettingError> {
    let (mut topology, options) = cluster(Shape::ThreeSites, 1)?;
    for spec in topology.services.values_mut() {
        spec.preference.rotate_left(case.primary);
    }
    let mut world = World::new(case.primary as u64 + 1, &topology, &options);
    if let Err(why) = stand(&mut world) {
        return Ok(ended(&world, case.name.clone(), Some(format!("it never stood: {why}"))));
    }
    let mut sites: Vec<u8> = Vec::new();
    for spec in topology.services.values() {
        let declared = spec.preference.iter().filter_map(|name| spec.instances.get(name));
        sites.extend(declared.filter_map(|declared| world.place_of(&declared.site)));
    }
    let Some(leads) = sites.get(case.leads).copied() else {
        return Ok(ended(&world, case.name.clone(), Some("there are not three sites".into())));
    };
    if !crown(&mut world, leads) {
        return Ok(ended(&world, case.name.clone(), Some("it could not be made to lead".into())));
    }
    let problem = cut(&mut world, case, &sites);
    Ok(ended(&world, case.name.clone(), problem))
}

/// Lets voters die and come back until this one leads. The primary's voter gives leadership away
/// at once: the cut then begins in the moments before.
fn crown(world: &mut World, place: u8) -> bool {
    for _ in 0..60 {
        let leads = |world: &World| crate::play::leader(world) == Some(place);
        if leads(world) {
            return true;
        }
        let Some(now) = crate::play::leader(world) else { return false };
        world.perform(&Deed::Crash { process: Process::Voter, place: now });
        let moved = |world: &World| crate::play::leader(world).is_some_and(|it| it != now);
        world.until(Duration::from_secs(10), moved);
        world.perform(&Deed::Start { process: Process::Voter, place: now });
        if leads(world) {
            return true;
        }
        world.until(Duration::from_secs(10), World::is_whole);
    }
    false
}

fn cut(world: &mut World, case: &Case, sites: &[u8]) -> Option<String> {
    let began = world.now();
    world.oracle.count_from(began);
    for (from, to) in &case.cuts {
        let (from, to) = (*sites.get(*from)?, *sites.get(*to)?);
        world.perform(&Deed::Cut { planes: case.planes.clone(), from, to });
    }
    world.run_until(began.plus(CUT));
    if let Some(problem) = judge(world, case.due, began) {
        return Some(problem);
    }
    let promotions = world.oracle.promotions();
    world.perform(&Deed::MendAll);
    let problem = unhealed(world, WHOLE);
    let more = world.oracle.promotions() - promotions;
    problem.or_else(|| (more > 0).then(|| format!("{more} promotions after the network was back")))
}

fn judge(world: &World, due: Due, began: At) -> Option<String> {
    if let Some(violation) = world.violation() {
        return Some(violation.to_owned());
    }
    let promotions = world.oracle.promotions();
    let gap = world.oracle.gap(world.now());
    let told = world.oracle.newest_write().map(|(_, told)| told).unwrap_or_default();
    let lately = world.now().since(told) < SILENCE;
    match due {
        Due::Stays if promotions > 0 => Some(format!("stays: but {promotions} promotions")),
        Due::Stays if gap > SILENCE => Some(format!("stays: but no commit for {gap:?}")),
        Due::Waits if promotions > 0 => Some(format!("waits: but {promotions} promotions")),
        Due::Waits if told > began.plus(UNDER_WAY) => {
            Some(format!("waits: but a commit was acknowledged after {:?}", told.since(began)))
        }
        Due::Moves if promotions != 1 => Some(format!("moves: but {promotions} promotions")),
        Due::Moves if !lately => Some("moves: but no commit lately".into()),
        Due::Stays | Due::Waits | Due::Moves => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_follows_its_own_rule() {
        let all = cases().expect("the table reads");
        assert_eq!(all.len(), 64 * 6 * 3 * 3);
        let mut patterns: Vec<_> = all.iter().map(|case| case.cuts.clone()).collect();
        patterns.sort();
        patterns.dedup();
        assert_eq!(patterns.len(), 64);
        for case in &all {
            let meet = |a, b| !case.cuts.contains(&(a, b)) && !case.cuts.contains(&(b, a));
            let due = match case.planes.as_slice() {
                [Plane::Wal] if !meet(0, 1) && !meet(0, 2) => Due::Waits,
                [_] => Due::Stays,
                _ if meet(0, 1) || meet(0, 2) => Due::Stays,
                _ if meet(1, 2) => Due::Moves,
                _ => Due::Waits,
            };
            assert_eq!(case.due, due, "{}", case.name);
        }
    }
}
