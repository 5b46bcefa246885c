//! A drill's bundle of evidence as one page, made of the same parts as that of a change of primary.

use std::fmt::Write as _;
use std::time::Duration;

use failover::drill::Drill;
use failover::readiness::SiteVerdict;
use orchestrator::evidence::drill::{DrillEvidence, Verified};

use super::told;
use crate::report::html::{
    Made, before, begin, deviations, end, escaped, examined, headings, list, named, pairs, records,
    row, seen, steps, timeline,
};
use crate::screen::span;
use crate::words;

/// The page of a drill's bundle.
pub fn page(bundle: &str, verified: &Verified) -> String {
    let evidence = &verified.evidence;
    let drill = &evidence.drill;
    let title = format!("Drill {}: {} of {}", drill.id, drill.kind.name(), drill.service);
    let mut page = begin(&title);
    facts(&mut page, evidence);
    let _ = write!(page, "<h2>Timeline</h2>\n{}", timeline(&drill.steps));
    steps(&mut page, &drill.steps);
    verdicts(&mut page, drill);
    deviations(&mut page, &evidence.deviations);
    for record in &evidence.transitions {
        let (outcome, _) = words::outcome(&record.outcome);
        let heading = format!("Transition {}: {outcome}: {}", record.id, record.cause);
        let _ = write!(page, "<h1>{}</h1>\n{}", escaped(&heading), timeline(&record.steps));
        before(&mut page, record);
        steps(&mut page, &record.steps);
        examined(&mut page, record);
    }
    seen(&mut page, evidence.made_at, &evidence.instances, &evidence.name_servers);
    records(&mut page, &evidence.audit);
    let (by, at, version) = (&*evidence.made_by, evidence.made_at, &*evidence.version);
    end(&mut page, &Made { by, at, version }, &verified.key, bundle);
    page
}

fn facts(page: &mut String, evidence: &DrillEvidence) {
    let drill = &evidence.drill;
    let or = |text: &Option<String>, none: &str| text.clone().unwrap_or_else(|| none.to_owned());
    let given_up = drill.abort.as_ref().map(|abort| format!("by {}: {}", abort.by, abort.reason));
    pairs(
        page,
        &[
            ("Cluster", evidence.cluster.clone()),
            ("Service", drill.service.to_string()),
            ("Kind", drill.kind.name().to_owned()),
            ("Asked for by", drill.by.clone()),
            ("Why", drill.reason.clone()),
            ("Plan", or(&drill.plan, "none: it moves nothing")),
            ("Primary before", named(drill.home.as_ref())),
            ("Who took over", named(drill.target.as_ref())),
            ("Cut off for at most", drill.at_most.map_or_else(|| "nobody is".to_owned(), span)),
            ("Dwell", span(drill.dwell)),
            ("Against the calendar", or(&drill.despite, "no")),
            ("Given up", or(&given_up, "no")),
            ("Outcome", told::outcome(drill)),
            ("Topology", format!("version {}", evidence.topology_version)),
        ],
    );
}

fn verdicts(page: &mut String, drill: &Drill) {
    page.push_str("<h2>Could each site be lost when it began</h2>\n");
    headings(page, &["Site", "Ready", "Then the primary is", "Loss", "Recovery"]);
    for verdict in &drill.verdicts {
        row(page, &cells(verdict));
    }
    page.push_str("</table>\n");
    let found = drill.findings.iter().chain(drill.verdicts.iter().flat_map(|v| &v.findings));
    let mut lines: Vec<String> = Vec::new();
    for finding in found {
        let who = finding.instance.as_ref().map_or_else(String::new, |id| format!("{id}: "));
        let (check, level) = (&finding.check, finding.level.name());
        let line = format!("{check} ({level}): {who}{}", finding.text);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    list(page, "odd", &lines);
}

fn cells(verdict: &SiteVerdict) -> [String; 5] {
    let loss = match verdict.rpo.zero {
        Some(true) => "proven to be none",
        Some(false) => "possible",
        None => "unknown",
    };
    let recovery = verdict.rto.as_ref().map_or_else(
        || "no failover".to_owned(),
        |rto| format!("at least {}", span(Duration::from_millis(rto.at_least_ms))),
    );
    [
        verdict.site.to_string(),
        verdict.level.name().to_owned(),
        named(verdict.target.as_ref()),
        loss.to_owned(),
        recovery,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{guarded, record};
    use failover::Timestamp;
    use failover::drill::{Kind, Outcome, Stage};
    use failover::ids::{DrillId, TransitionId};
    use orchestrator::audit::Head;
    use orchestrator::evidence::{FORMAT, Slice};

    fn drill() -> Drill {
        Drill {
            id: DrillId(4),
            kind: Kind::Switchover,
            service: "clinic".parse().expect("a name"),
            home: None,
            target: None,
            dwell: Duration::from_mins(5),
            at_most: None,
            by: "anna".into(),
            reason: "<b>&amp; \"quarterly\"</pre>".into(),
            despite: None,
            plan: None,
            stage: Stage::Check,
            there: None,
            back: None,
            after: TransitionId(0),
            upto: None,
            until: None,
            abort: None,
            steps: record(&[("started", 1, 0), ("check", 1, 100), ("ended", 1, 200)]).steps,
            verdicts: Vec::new(),
            findings: Vec::new(),
            outcome: Outcome::Failed("it was <not> ready".into()),
        }
    }

    /// I-34, I-36: a page is refused after one changed byte, wherever it stands.
    #[test]
    fn i34_i36_a_changed_byte_of_a_drills_page_is_refused() {
        let evidence = DrillEvidence {
            format: FORMAT,
            cluster: "test".into(),
            made_by: "v1".into(),
            made_at: Timestamp(1_700_000_000_000),
            version: "0".into(),
            drill: drill(),
            transitions: Vec::new(),
            topology_version: 1,
            topology: failover::topology::Topology::default(),
            instances: Vec::new(),
            name_servers: Vec::new(),
            deviations: vec!["a <deviation>".into()],
            audit: Slice { after: Head::default(), lines: Vec::new(), head: Head::default() },
        };
        let bundle = serde_json::to_string(&evidence).expect("JSON");
        let verified = Verified { evidence, key: "00".into() };
        let page = page(&bundle, &verified);
        assert!(
            page.contains("failed: it was &lt;not&gt; ready") && page.contains("<svg"),
            "{page}"
        );
        guarded(&page, &bundle, || super::page(&bundle, &verified));
    }
}
