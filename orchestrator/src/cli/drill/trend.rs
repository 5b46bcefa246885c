//! The trend over all drills and everything else that changed a primary: how long it took, phase by
//! phase, and when each site was last proven to take over, against what is promised.

use std::fmt::Write as _;
use std::time::Duration;

use failover::cluster::{Outcome, Record, Trigger};
use failover::ids::{DrillId, ServiceId, SiteId, TransitionId};
use failover::readiness::{CONTRACT, GOAL};
use failover::topology::Topology;
use failover::{InstanceId, Timestamp};
use serde::Serialize;

use crate::report::{Phases, phases};
use crate::screen::{Mood, cell, lines, span, table, time};

/// Everything that is told.
#[derive(Debug, PartialEq, Serialize)]
pub struct Trend {
    contract_ms: u64,
    goal_ms: u64,
    sites: Vec<Proven>,
    changes: Vec<Change>,
}

/// When a site last took a service over, for good.
#[derive(Debug, PartialEq, Serialize)]
struct Proven {
    service: ServiceId,
    site: SiteId,
    /// `None`: never.
    transition: Option<TransitionId>,
    at: Option<Timestamp>,
    days: Option<u64>,
}

/// One change of primary that went through.
#[derive(Debug, PartialEq, Serialize)]
struct Change {
    transition: TransitionId,
    service: ServiceId,
    at: Timestamp,
    to: InstanceId,
    site: Option<SiteId>,
    drill: Option<DrillId>,
    planned: bool,
    phases: Phases,
    /// For how long no client could write, as far as the cluster knows: what went before the
    /// primary was taken away, and how long nobody noticed, is not in it.
    rto_ms: f64,
}

const DAY_MS: i64 = 86_400_000;

/// From every report there is. The first primary of a service is no proof of anything.
pub fn trend(topology: &Topology, records: &[Record], now: Timestamp) -> Trend {
    let done =
        |record: &&Record| record.outcome == Outcome::Done && record.trigger != Trigger::Bootstrap;
    let changes: Vec<Change> =
        records.iter().filter(done).filter_map(|record| change(topology, record)).collect();
    let mut sites = Vec::new();
    for (service, spec) in &topology.services {
        let used = topology
            .sites
            .keys()
            .filter(|site| spec.instances.values().any(|instance| instance.site == **site));
        for site in used {
            let here =
                |change: &&Change| change.service == *service && change.site.as_ref() == Some(site);
            let last = changes.iter().rev().find(here);
            let at = last.map(|change| change.at);
            let days = at.map(|at| now.0.saturating_sub(at.0).max(0).unsigned_abs());
            sites.push(Proven {
                service: service.clone(),
                site: site.clone(),
                transition: last.map(|change| change.transition),
                at,
                days: days.map(|ms| ms / DAY_MS.unsigned_abs()),
            });
        }
    }
    let ms = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    Trend { contract_ms: ms(CONTRACT), goal_ms: ms(GOAL), sites, changes }
}

fn change(topology: &Topology, record: &Record) -> Option<Change> {
    let to = record.to.clone()?;
    let spec = topology.services.get(&record.service);
    let instance = spec.and_then(|spec| spec.instances.get(&to));
    let phases = phases(record);
    let out = [
        phases.catch_up_ms,
        phases.seal_ms,
        phases.promote_ms,
        phases.prove_ms,
        phases.redirect_ms,
    ];
    Some(Change {
        transition: record.id,
        service: record.service.clone(),
        at: record.steps.last()?.at,
        to,
        site: instance.map(|instance| instance.site.clone()),
        drill: record.drill,
        planned: record.trigger == Trigger::Switchover,
        phases,
        rto_ms: out.into_iter().flatten().sum(),
    })
}

fn ms(ms: f64) -> String {
    span(Duration::from_secs_f64((ms / 1_000.0).max(0.0)))
}

/// In words.
pub fn text(trend: &Trend) -> String {
    let mut text = String::from("When each site was last proven to take over\n");
    let mut rows = table(&["SERVICE", "site", "days ago", "by", "when"]);
    for proven in &trend.sites {
        let mood = if proven.days.is_some() { Mood::Good } else { Mood::Odd };
        let days = proven.days.map_or_else(|| "never".to_owned(), |days| days.to_string());
        let by = proven.transition.map_or_else(|| "-".to_owned(), |id| format!("transition {id}"));
        rows.add_row([
            cell(&proven.service, Mood::Plain),
            cell(&proven.site, Mood::Plain),
            cell(days, mood),
            cell(by, Mood::Plain),
            cell(proven.at.map_or_else(|| "-".to_owned(), time), Mood::Plain),
        ]);
    }
    text.push_str(&lines(&rows));
    if trend.changes.is_empty() {
        return text;
    }
    let _ = writeln!(
        text,
        "\nHow long no client could write, at the least: {} are promised, {} are the goal",
        span(Duration::from_millis(trend.contract_ms)),
        span(Duration::from_millis(trend.goal_ms))
    );
    let mut rows = table(&[
        "REPORT", "when", "service", "to", "drill", "RTO", "catch-up", "seal", "promote", "prove",
        "redirect",
    ]);
    for change in &trend.changes {
        let phase = |phase: Option<f64>| phase.map_or_else(|| "-".to_owned(), ms);
        let Phases { catch_up_ms, seal_ms, promote_ms, prove_ms, redirect_ms, .. } = change.phases;
        let mut cells = vec![
            cell(change.transition, Mood::Plain),
            cell(time(change.at), Mood::Plain),
            cell(&change.service, Mood::Plain),
            cell(&change.to, Mood::Plain),
            cell(change.drill.map_or_else(|| "-".to_owned(), |id| id.to_string()), Mood::Plain),
            cell(ms(change.rto_ms), mood(trend, change.rto_ms)),
        ];
        let all = [catch_up_ms, seal_ms, promote_ms, prove_ms, redirect_ms];
        cells.extend(all.map(|took| cell(phase(took), Mood::Plain)));
        rows.add_row(cells);
    }
    text.push_str(&lines(&rows));
    text
}

fn mood(trend: &Trend, rto_ms: f64) -> Mood {
    let ms = |ms: u64| Duration::from_millis(ms).as_secs_f64() * 1_000.0;
    if rto_ms > ms(trend.contract_ms) {
        Mood::Bad
    } else if rto_ms > ms(trend.goal_ms) {
        Mood::Odd
    } else {
        Mood::Good
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failover::Epoch;
    use failover::cluster::StepRecord;
    use failover::ids::VoterId;

    const TOPOLOGY: &str = r#"
cluster = { name = "clinic-eu" }
dns = { origin = "db.clinic.example" }
site = [
    { name = "arezzo", voter = "127.0.1.1:7400" },
    { name = "falkenstein", voter = "127.0.2.1:7400" },
    { name = "roubaix", voter = "127.0.3.1:7400" },
]
[[service]]
name = "clinic"
on_last_copy = "block"
instance = [
    { name = "arezzo-1", site = "arezzo", postgres = "127.0.1.1:5432", agent = "127.0.1.1:7500" },
    { name = "roubaix-1", site = "roubaix", postgres = "127.0.3.1:5432", agent = "127.0.3.1:7500" },
]
"#;

    fn record(id: u64, trigger: Trigger, to: &str, day: i64) -> Record {
        let names = ["started", "quiesce", "catch-up", "seal", "promote", "prove", "redirect"];
        let step = |(number, name): (u64, &str)| StepRecord {
            name: name.into(),
            at: Timestamp(day * DAY_MS),
            voter: VoterId(1),
            monotonic_us: number * 100_000,
            note: String::new(),
        };
        Record {
            id: TransitionId(id),
            service: "clinic".parse().expect("a name"),
            trigger,
            by: String::new(),
            cause: String::new(),
            plan: None,
            authority: None,
            given_up: None,
            drill: (id == 2).then_some(DrillId(1)),
            readiness: None,
            from: None,
            to: Some(to.parse().expect("a name")),
            epoch: Epoch(1),
            steps: (0..).zip(names).map(step).collect(),
            examined: Vec::new(),
            outcome: Outcome::Done,
        }
    }

    /// Only what went through counts, and only the newest of a site.
    #[test]
    fn the_days_since_each_site_took_over_are_counted() {
        let file = std::path::Path::new("topology.toml");
        let declared = orchestrator::topology::parse(file, TOPOLOGY).expect("a topology");
        let mut records = vec![
            record(1, Trigger::Bootstrap, "arezzo-1", 1),
            record(2, Trigger::Switchover, "roubaix-1", 10),
            record(3, Trigger::PrimaryLost, "roubaix-1", 20),
            record(4, Trigger::Switchover, "arezzo-1", 25),
        ];
        records[3].outcome = Outcome::Aborted("too slow".into());
        let trend = trend(&declared.topology, &records, Timestamp(30 * DAY_MS + 5));
        let days: Vec<(&str, Option<u64>)> =
            trend.sites.iter().map(|proven| (proven.site.as_str(), proven.days)).collect();
        assert_eq!(days, [("arezzo", None), ("roubaix", Some(10))]);
        assert_eq!(trend.changes.len(), 2);
        let [first, second] = &trend.changes[..] else { panic!("two went through") };
        assert_eq!((first.drill, first.planned), (Some(DrillId(1)), true));
        assert_eq!((second.drill, second.planned), (None, false));
        assert!((first.rto_ms - 500.0).abs() < 1e-9, "without quiesce: {}", first.rto_ms);
        let text = text(&trend);
        assert!(
            text.contains("never") && text.contains("15 min") && text.contains("500 ms"),
            "{text}"
        );
    }
}
