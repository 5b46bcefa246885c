//! The verdict for one site and one service, from what was rehearsed and what was looked at.

use super::Looked;
use super::facts::Facts;
use super::finding::{Finding, Findings, Level};
use super::remedy;
use super::rto::{self, CONTRACT, GOAL, Rto};
use crate::fitness::{Promise, zero_loss};
use crate::ids::{InstanceId, SiteId};
use crate::quorum;
use crate::rehearse::Ending;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// What would become of a service without a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its primary stays, and commits go on.
    GoesOn,
    /// Another instance becomes primary.
    FailsOver,
    /// Commits wait until a person does something, or the site is back.
    Waits,
}

/// Whether nothing acknowledged would be lost, and why that is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rpo {
    /// `Some(true)`: nothing would be. `Some(false)`: something could be. `None`: not known.
    pub zero: Option<bool>,
    /// The proof, or what speaks against it.
    pub reasons: Vec<String>,
}

/// Could a service lose a site, now?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteVerdict {
    /// The site.
    pub site: SiteId,
    /// [`Level::Good`], [`Level::Warning`]: yes. [`Level::Unknown`]: nobody knows.
    /// [`Level::Blocks`]: no.
    pub level: Level,
    /// What would follow.
    pub outcome: Outcome,
    /// Who would be primary then.
    pub target: Option<InstanceId>,
    /// What would be lost.
    pub rpo: Rpo,
    /// How long a failover would take; `None` where there would be none.
    pub rto: Option<Rto>,
    /// Where the primary stays: for how long commits would stand still, in milliseconds.
    pub interrupted_ms: Option<u64>,
    /// What stands in the way or is worth looking at, the worst first.
    pub findings: Vec<Finding>,
}

/// What would become of the service without `site`.
pub(super) fn verdict(
    facts: &Facts<'_>,
    site: &SiteId,
    ending: &Ending,
    checks: &[Looked],
) -> SiteVerdict {
    let is_home = facts.home() == Some(site);
    let outcome = match (ending.writes, ending.primary == facts.case.service.primary) {
        (true, true) => Outcome::GoesOn,
        (true, false) => Outcome::FailsOver,
        (false, _) => Outcome::Waits,
    };
    let target = ending.primary.clone().filter(|_| outcome != Outcome::Waits);
    let rpo = rpo(facts, is_home);
    let rto = target.as_ref().filter(|_| outcome == Outcome::FailsOver);
    let rto = rto.map(|target| rto::predict(facts, ending, target));
    let mut findings = own(facts, ending, (outcome, is_home), rto.as_ref());
    let concern = |finding: &&Finding| matters(facts, finding, site, is_home, target.as_ref());
    findings.extend(checks.iter().flat_map(|looked| &looked.findings).filter(concern).cloned());
    findings.sort_by_key(|finding| core::cmp::Reverse(finding.level));
    let level = level(facts, &findings);
    SiteVerdict {
        site: site.clone(),
        level,
        outcome,
        target,
        rpo,
        rto,
        interrupted_ms: ending.interrupted_ms.filter(|_| outcome == Outcome::GoesOn),
        findings,
    }
}

/// A leader that was just elected has heard nobody yet: what its law waits for then says nothing.
fn level(facts: &Facts<'_>, findings: &[Finding]) -> Level {
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Good);
    let young = facts.case.now.since(facts.case.view.since) < facts.case.timing.suspect_after;
    let deaf = facts.instances().any(|id| facts.case.report(id).is_none());
    if worst == Level::Blocks && young && deaf { Level::Unknown } else { worst }
}

/// Whether a finding of the table counts for the loss of this site.
fn matters(
    facts: &Facts<'_>,
    finding: &Finding,
    site: &SiteId,
    is_home: bool,
    target: Option<&InstanceId>,
) -> bool {
    if let Some(of) = &finding.site {
        return of == site;
    }
    let Some(id) = &finding.instance else { return is_home };
    // What is at the lost site is lost; unless it is the primary, whose commits are to be kept.
    if facts.is_primary(id) {
        return is_home || finding.check == super::heard::CHECK.name;
    }
    is_home && target.is_none_or(|target| target == id)
}

/// What the law itself says stands in the way, and what the prediction says.
fn own(
    facts: &Facts<'_>,
    ending: &Ending,
    (outcome, is_home): (Outcome, bool),
    rto: Option<&Rto>,
) -> Vec<Finding> {
    let mut all = Vec::new();
    if outcome == Outcome::Waits {
        for blocked in &ending.findings {
            let mut say = Findings::new("law", facts.case.id);
            let remedy = remedy::of(&blocked.check, facts.case.id);
            say.say(Level::Blocks, blocked.instance.as_ref(), blocked.text.clone(), remedy);
            let named = say.done().into_iter();
            all.extend(named.map(|f| Finding { check: blocked.check.clone(), ..f }));
        }
        if all.is_empty() {
            let mut say = Findings::new("commits-wait", facts.case.id);
            let text = if is_home {
                "nobody would be promoted"
            } else {
                "commits would wait for a standby: fewer than `required` are left"
            };
            say.say(Level::Blocks, None, text, "bring another standby back: `baton status`");
            all.extend(say.done());
        }
    }
    let Some(rto) = rto else { return all };
    let mut say = Findings::new("rto", facts.case.id);
    let least = Duration::from_millis(rto.at_least_ms);
    let seconds = least.as_secs_f64();
    if least > CONTRACT {
        let text = format!("{seconds:.0} s at the least, {} s are promised", CONTRACT.as_secs());
        say.say(Level::Blocks, None, text, "see which phase it is");
    } else if least > GOAL {
        let text = format!("{seconds:.1} s, the goal is {} s", GOAL.as_secs());
        let remedy = "see which phase it is: suspect_after and the TTL are yours to choose";
        say.say(Level::Warning, None, text, remedy);
    }
    for note in &rto.notes {
        say.say(Level::Warning, None, note.as_str(), "it is not guessed");
    }
    all.extend(say.done());
    all
}

fn rpo(facts: &Facts<'_>, is_home: bool) -> Rpo {
    let service = facts.case.service;
    if !is_home && service.primary.is_some() {
        let primary = service.primary.as_ref().map_or("", InstanceId::as_str);
        let text = format!("{primary} keeps every commit: it is not at that site");
        return Rpo { zero: Some(true), reasons: vec![text] };
    }
    match zero_loss(service, facts.case.view, facts.case.timing, facts.case.now) {
        Promise::Yes => {
            let rule = &service.rule;
            let names: Vec<&str> = rule.instances.iter().map(InstanceId::as_str).collect();
            let text = format!(
                "every acknowledged commit is on {} of {}: PostgreSQL is proven to wait for \
                 generation {} of the rule; {} of them are sealed before anyone is chosen, and \
                 whoever is holds what any of them holds",
                rule.required,
                names.join(", "),
                rule.generation,
                quorum::needed(rule).unwrap_or(0)
            );
            Rpo { zero: Some(true), reasons: vec![text] }
        }
        Promise::No(reasons) => Rpo { zero: Some(false), reasons },
        Promise::Unknown(reasons) => Rpo { zero: None, reasons },
        Promise::Unasked => Rpo { zero: None, reasons: vec!["nobody was asked".to_string()] },
    }
}
