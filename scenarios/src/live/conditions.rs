//! Whether what a scenario expects is so: asked of baton as an operator would, of PostgreSQL
//! directly, and of the clients' journal.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use failover::cluster::Outcome;
use failover::time::Moment;
use wire::clock;

use super::database;
use super::stage::Stage;
use super::verbs::parts;
use crate::lab::answers::Status;
use crate::lab::layout::SERVICE;
use crate::lab::network::Spot;
use crate::script::{Expect, Places};

/// How soon after a step a commit may still be acknowledged that `writes = false` denies.
const GRACE: Duration = Duration::from_secs(1);
/// The longest time without an acknowledgement where writes must go on.
const LONGEST: Duration = Duration::from_secs(3);

/// How a condition is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// It is to come true.
    Comes,
    /// It holds all the time.
    Stays,
}

/// A condition and when its time began and ends.
pub(super) struct Asked<'e> {
    pub(super) expect: &'e Expect,
    pub(super) from: Moment,
    pub(super) until: Moment,
    pub(super) mood: Mood,
}

/// The first thing that is not so; `None`: all is.
pub(super) fn lacking(
    stage: &Stage<'_>,
    asked: &Asked<'_>,
    status: Option<&Status>,
) -> Option<String> {
    let expect = asked.expect;
    promotions(stage, expect)
        .or_else(|| clients(stage, asked))
        .or_else(|| recorded(stage, expect, status))
        .or_else(|| findings(stage, expect, status))
        .or_else(|| names(stage, expect, status))
        .or_else(|| servers(stage, expect))
        .or_else(|| voters(stage, expect, status))
        .or_else(|| whole(stage, expect, status))
}

fn promotions(stage: &Stage<'_>, expect: &Expect) -> Option<String> {
    if expect.promotions.is_none() && expect.promotions_at_most.is_none() {
        return None;
    }
    let found = stage.promoted();
    let exact = expect.promotions.is_some_and(|wanted| wanted != found);
    let most = expect.promotions_at_most.is_some_and(|most| found > most);
    (exact || most).then(|| format!("{found} promotions"))
}

fn clients(stage: &Stage<'_>, asked: &Asked<'_>) -> Option<String> {
    let journal = std::sync::Arc::clone(&stage.lock_load().journal);
    let now = clock::now();
    let one =
        |wanted: Option<bool>, what: &str, since: &dyn Fn(Moment) -> bool, last: Option<Moment>| {
            match (wanted?, asked.mood) {
                (true, Mood::Comes) => (!since(asked.from))
                    .then(|| format!("no {what} acknowledged to clients outside")),
                (true, Mood::Stays) => {
                    let silent = now.since(last.unwrap_or(asked.from).max(asked.from));
                    (silent > LONGEST)
                        .then(|| format!("no {what} for {:.1} s", silent.as_secs_f64()))
                }
                (false, mood) => {
                    if since(asked.from.after(GRACE)) {
                        return Some(format!("a {what} was acknowledged to clients outside"));
                    }
                    let rest = asked.until.since(asked.from).min(GRACE * 3);
                    let early = mood == Mood::Comes && now < asked.from.after(rest);
                    early.then(|| format!("too early to say that no {what} is acknowledged"))
                }
            }
        };
    let expect = asked.expect;
    let writes = |from| journal.acked_since(from);
    let reads = |from| journal.read_since(from);
    one(expect.writes, "write", &writes, journal.last_acked())
        .or_else(|| one(expect.reads, "read", &reads, journal.last_read()))
}

/// What the replicated state says.
fn recorded(stage: &Stage<'_>, expect: &Expect, status: Option<&Status>) -> Option<String> {
    let asks = expect.primary.is_some()
        || expect.epoch.is_some()
        || expect.transition.is_some()
        || expect.rolled_back.is_some()
        || expect.rule.is_some()
        || expect.required.is_some();
    if !asks {
        return None;
    }
    let Some(status) = status else { return Some("no voter answers".into()) };
    let Some(service) = status.service() else { return Some("no service".into()) };
    let home = status.home().unwrap_or_default();
    if let Some(places) = &expect.primary
        && !named(stage, places).contains(&home)
    {
        return Some(format!("the primary stands at `{home}`"));
    }
    if let Some(epoch) = expect.epoch
        && service.epoch.0 != epoch
    {
        return Some(format!("the epoch is {}", service.epoch));
    }
    if let Some(open) = expect.transition
        && service.transition.is_some() != open
    {
        return Some(format!("a transition is {}open", if open { "not " } else { "" }));
    }
    if expect.rolled_back == Some(true) {
        let newest = stage.newest_report();
        // Given up, or ended with the same primary as before.
        let stayed = newest.as_ref().is_some_and(|record| {
            matches!(record.outcome, Outcome::Aborted(_))
                || (record.outcome == Outcome::Done && record.from == record.to)
        });
        if !stayed {
            let outcome = newest.map(|record| record.outcome);
            return Some(format!("the newest transition ended so: {outcome:?}"));
        }
    }
    if let Some(required) = expect.required
        && service.rule.enforce.required != required
    {
        return Some(format!("{} standbys must flush", service.rule.enforce.required));
    }
    let places = expect.rule.as_ref()?;
    // What PostgreSQL itself is told, not what is recorded of it.
    let asked = "select current_setting('synchronous_standby_names')";
    let bound = Duration::from_secs(2);
    let names = database::ask(&stage.cluster, &home, asked, bound).unwrap_or_default();
    let told: BTreeSet<String> = names
        .split('"')
        .skip(1)
        .step_by(2)
        .filter_map(|name| name.strip_suffix("-1").map(str::to_owned))
        .collect();
    let wanted: BTreeSet<String> = named(stage, places).into_iter().collect();
    (told != wanted).then(|| format!("PostgreSQL is told to wait for {names}"))
}

fn findings(stage: &Stage<'_>, expect: &Expect, status: Option<&Status>) -> Option<String> {
    let asks = expect.finding.is_some() || expect.no_finding.is_some() || expect.doubts.is_some();
    if !asks {
        return None;
    }
    let Some(service) = status.and_then(Status::service) else {
        return Some("no voter answers".into());
    };
    let mut names: BTreeSet<String> =
        service.findings.iter().map(|finding| finding.check.clone()).collect();
    let explained: Option<serde_json::Value> =
        stage.cluster.ask(&["--timeout", "1s", "explain", SERVICE]).ok();
    let more = explained.as_ref().and_then(|text| text.get("findings")?.as_array());
    let name = |finding: &serde_json::Value| Some(finding.get("check")?.as_str()?.to_owned());
    names.extend(more.into_iter().flatten().filter_map(name));
    let told = || names.iter().cloned().collect::<Vec<_>>().join(", ");
    if let Some(wanted) = &expect.finding
        && !names.contains(wanted)
    {
        return Some(format!("no finding `{wanted}`, but {}", told()));
    }
    if let Some(unwanted) = &expect.no_finding
        && names.contains(unwanted)
    {
        return Some(format!("there is a finding `{unwanted}`"));
    }
    (expect.doubts.is_some_and(|least| least > 0) && !names.contains("doubt"))
        .then(|| format!("no doubt is shown, but {}", told()))
}

fn names(stage: &Stage<'_>, expect: &Expect, status: Option<&Status>) -> Option<String> {
    if expect.dns_agrees != Some(true) && expect.dns_answers.is_none() {
        return None;
    }
    let layout = &stage.cluster.layout;
    let ask = |sites: &[String]| -> Vec<Option<Ipv4Addr>> {
        let servers: Vec<_> = sites.iter().map(|site| layout.name_server(site)).collect();
        stage.lock_load().names(&stage.cluster, &servers).unwrap_or_default()
    };
    if let Some(places) = &expect.dns_answers {
        let sites = named(stage, places);
        let answers = ask(&sites);
        let silent = sites.iter().zip(&answers).find(|(_, answer)| answer.is_none());
        if let Some((site, _)) = silent {
            return Some(format!("the name server of {site} gives no address"));
        }
    }
    if expect.dns_agrees != Some(true) {
        return None;
    }
    let Some(home) = status.and_then(Status::home) else { return Some("no primary".into()) };
    let primary = layout.address(&home, Spot::Database);
    let sites = stage.all();
    let answers = ask(&sites);
    for (site, answer) in sites.iter().zip(&answers) {
        if let Some(address) = answer
            && *address != primary
        {
            return Some(format!("the name server of {site} answers {address}, not {primary}"));
        }
    }
    if answers.iter().all(Option::is_none) {
        return Some("no name server answers".into());
    }
    stage.secondaries.as_ref()?.disagreeing(stage, primary)
}

/// What PostgreSQL at sites does.
fn servers(stage: &Stage<'_>, expect: &Expect) -> Option<String> {
    let layout = &stage.cluster.layout;
    for site in expect.fenced.iter().flat_map(|places| named(stage, places)) {
        let server = layout.postgres(&site);
        let served = stage.lock_load().is_served(&stage.cluster, &site, server);
        if served.unwrap_or(true) {
            return Some(format!("PostgreSQL of {site} serves clients"));
        }
    }
    for site in expect.tail_kept.iter().flat_map(|places| named(stage, places)) {
        let folder = layout.run(&site).join("lost-tail");
        let kept = std::fs::read_dir(&folder).is_ok_and(|mut found| found.next().is_some());
        if !kept {
            return Some(format!("nothing is kept in {}", folder.display()));
        }
    }
    None
}

fn voters(stage: &Stage<'_>, expect: &Expect, status: Option<&Status>) -> Option<String> {
    let leader = status.and_then(|status| status.leader.clone());
    if expect.leaderless == Some(true)
        && let Some(leader) = &leader
    {
        return Some(format!("{} leads", leader.name));
    }
    if let Some(most) = expect.elections_at_most
        && stage.elections() > most
    {
        return Some(format!("{} changes of leader", stage.elections()));
    }
    if let Some(wanted) = expect.voters {
        let found = status.map_or(0, |status| status.voters.len());
        if usize::try_from(wanted).ok() != Some(found) {
            return Some(format!("{found} voters are in the group"));
        }
    }
    let stopped = expect.stopped.as_ref()?;
    for site in named(stage, &stopped.site) {
        for part in parts(&stopped.process) {
            // One that refuses is started again and again by its supervisor.
            if stage.cluster.part(&site, part).iter().any(|process| process.age() > GRACE) {
                return Some(format!("{part:?} of {site} runs"));
            }
        }
    }
    None
}

fn whole(stage: &Stage<'_>, expect: &Expect, status: Option<&Status>) -> Option<String> {
    if expect.whole != Some(true) {
        return None;
    }
    let Some(status) = status else { return Some("no voter answers".into()) };
    if let Some(missing) = status.missing() {
        return Some(missing);
    }
    let last = stage.lock_load().journal.last_acked();
    let lately = last.is_some_and(|last| clock::now().since(last) < GRACE * 2);
    if !lately {
        return Some("no write was acknowledged for 2 s".into());
    }
    let agree = Expect { dns_agrees: Some(true), ..Expect::default() };
    names(stage, &agree, Some(status))
}

fn named(stage: &Stage<'_>, places: &Places) -> Vec<String> {
    stage.sites(places, None).unwrap_or_default()
}
