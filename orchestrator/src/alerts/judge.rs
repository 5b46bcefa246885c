//! What is wrong, from what a voter knows at one instant. Nothing is decided from it: whoever
//! decides knows already.

use std::collections::BTreeMap;
use std::time::Duration;

use failover::alert::{Alert, AlertKey, Severity};
use failover::fitness::Promise;
use failover::ids::ServiceId;
use failover::readiness::{CONTRACT, Level, Readiness};
use failover::report::Severity as Weight;

use crate::answers::{InstanceStatus, ServiceStatus, Status, VoterState};
use crate::replica::Sight;

/// How long a step of a transition may take.
const STEP: Duration = Duration::from_secs(30);
/// How long a primary may be without a lease.
const LEASE: Duration = Duration::from_secs(10);
/// How long anybody may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Amiss {
    pub(super) alert: Alert,
    /// The replicated state says so: it comes and goes once, and nobody needs to wait and see.
    pub(super) recorded: bool,
}

/// Everything that is wrong.
pub(super) type Wrong = BTreeMap<AlertKey, Amiss>;

/// What the replicated state says.
const RECORDED: [&str; 5] =
    ["failed-over", "commits-in-doubt", "held", "single-copy", "drill-missed"];

/// What is wrong as a leader sees it. `readiness`: of every service, where it is known.
pub(super) fn wrong(sight: &Sight, readiness: &[Readiness]) -> Wrong {
    let mut wrong = Found(Wrong::new());
    let status = &sight.status;
    let led_for = Duration::from_millis(status.led_for_ms.unwrap_or_default());
    for service in &status.services {
        let in_step = sight.in_step.get(&service.service).copied().unwrap_or_default();
        let doubts = sight.doubts.get(&service.service).copied().unwrap_or_default();
        wrong.service(service, led_for, in_step, doubts);
        for instance in &service.instances {
            wrong.instance(service, instance, led_for);
        }
    }
    for service in readiness {
        wrong.readiness(service);
    }
    wrong.others(status, led_for);
    wrong.0
}

/// For a voter that knows of no leader. The replicated state cannot say it: nobody can write it.
pub(super) fn leaderless(voter: &str) -> Option<(AlertKey, Alert)> {
    let alert = Alert {
        severity: Severity::Critical,
        service: None,
        summary: format!(
            "voter {voter} knows of no leader: if no other voter does, nothing fails over"
        ),
        remedy: "baton doctor; docs/operating.md, \"Quorum is lost\"".into(),
    };
    Some((AlertKey::new("cluster", "no-leader")?, alert))
}

/// What is told to see whether it arrives.
pub(super) fn nothing() -> Option<(AlertKey, Alert)> {
    let alert = Alert {
        severity: Severity::Warning,
        service: None,
        summary: "nothing is wrong: somebody looks whether this arrives".into(),
        remedy: "nothing needs to be done".into(),
    };
    Some((AlertKey::new("cluster", "test")?, alert))
}

struct Found(Wrong);

impl Found {
    fn add(
        &mut self,
        (about, what): (&str, &str),
        severity: Severity,
        service: Option<&ServiceId>,
        (summary, remedy): (String, String),
    ) {
        // Names are names: what could not be a key is told by nobody else either.
        if let Some(key) = AlertKey::new(about, what) {
            let alert = Alert { severity, service: service.cloned(), summary, remedy };
            self.0.insert(key, Amiss { alert, recorded: RECORDED.contains(&what) });
        }
    }

    fn service(
        &mut self,
        service: &ServiceStatus,
        led_for: Duration,
        in_step: Duration,
        doubts: usize,
    ) {
        use Severity::{Critical, Warning};
        let id = &service.service;
        let explain = format!("baton explain {id}");
        let mut say = |what: &str, severity, summary: String, remedy: &str| {
            self.add((id.as_str(), what), severity, Some(id), (summary, remedy.to_owned()));
        };
        if let Some(open) = &service.transition
            && in_step > STEP
        {
            let step = open.step.name();
            let summary = format!("{id}: transition {} waits at {step}", open.id);
            say("transition-stuck", Critical, summary, &explain);
        }
        if let Some(failover) = service.unacknowledged {
            let summary = format!("{id} failed over (transition {failover})");
            let remedy = format!("baton report {failover}; then baton resume {id}");
            say("failed-over", Warning, summary, &remedy);
        }
        if doubts > 0 {
            let summary = format!("{id}: commits may have been acknowledged by one copy alone");
            say("commits-in-doubt", Critical, summary, &explain);
        }
        if let Some(hold) = &service.hold {
            let summary = format!("{id} is held by {}: {}", hold.by, hold.reason);
            say("held", Warning, summary, &format!("baton resume {id}"));
        }
        let Some(primary) = service.primary.as_ref() else { return };
        let lost = service.findings.iter().any(|it| it.check == "primary-lost");
        if lost && service.transition.is_none() {
            let blocks = service.findings.iter().filter(|it| it.severity == Weight::Blocks);
            let why: Vec<&str> = blocks.map(|it| it.text.as_str()).collect();
            let summary = format!("{id} is lost and does not fail over: {}", why.join("; "));
            say("failover-barred", Critical, summary, &explain);
        }
        if service.transition.is_none() {
            let lease = service.lease_age_ms.map_or(led_for, Duration::from_millis);
            if lease > LEASE {
                let summary = format!("{id}: the primary {primary} has had no lease lately");
                say("no-lease", Critical, summary, &explain);
            }
            let own = service.instances.iter().find(|it| it.instance == *primary);
            if own.is_some_and(|it| it.admits == Some(false)) {
                let summary = format!("{id}: the primary {primary} admits no clients");
                say("not-admitted", Critical, summary, &explain);
            }
        }
        if service.rule.required == 0 {
            let summary = format!("{id} runs on a single copy: losing {primary} may lose commits");
            say("single-copy", Critical, summary, &explain);
        } else if !service.is_site_safe {
            let summary = format!("{id}: losing the primary's site could lose commits");
            say("not-site-safe", Warning, summary, &explain);
        }
        if let Promise::No(why) = &service.zero_loss {
            let summary = format!("{id}: zero loss is not promised: {}", why.join("; "));
            say("zero-loss", Warning, summary, &explain);
        }
    }

    fn instance(&mut self, service: &ServiceStatus, instance: &InstanceStatus, led_for: Duration) {
        let (id, name) = (&service.service, &instance.instance);
        let remedy = format!("look at the agent beside {name}; baton status {id}");
        let age = instance.age_ms.map_or(led_for, Duration::from_millis);
        if age > SILENCE {
            let summary = format!("{id}: nothing is heard of {name} at {}", instance.site);
            let told = (summary, remedy);
            self.add((name.as_str(), "silent"), Severity::Warning, Some(id), told);
        } else if instance.streaming == Some(false) && service.transition.is_none() {
            let summary = format!("{id}: {name} does not stream");
            let told = (summary, remedy);
            self.add((name.as_str(), "not-streaming"), Severity::Warning, Some(id), told);
        }
    }

    fn readiness(&mut self, service: &Readiness) {
        let id = &service.service;
        if service.primary.is_none() {
            return;
        }
        for verdict in &service.sites {
            let about = format!("{id}/{}", verdict.site);
            let remedy = format!("baton readiness {id}");
            let mut say = |what: &str, severity, summary| {
                self.add((&about, what), severity, Some(id), (summary, remedy.clone()));
            };
            let worst = verdict.findings.iter().filter(|it| it.level == verdict.level);
            let named: Vec<&str> = worst.map(|it| it.text.as_str()).collect();
            let named = named.join("; ");
            let lost = format!("{id} could not lose {} now", verdict.site);
            match verdict.level {
                Level::Blocks => {
                    say("not-ready", Severity::Critical, format!("{lost}: {named}"));
                }
                Level::Unknown => {
                    let summary = format!("whether {lost} is not known: {named}");
                    say("readiness-unknown", Severity::Warning, summary);
                }
                Level::Good | Level::Warning => {}
            }
            let total = verdict.rto.as_ref().and_then(|rto| rto.total_ms);
            if total.is_some_and(|total| Duration::from_millis(total) > CONTRACT) {
                let summary = format!("{id}: recovery from the loss of {} is slow", verdict.site);
                say("recovery-too-slow", Severity::Warning, summary);
            }
        }
        // What blocks or is not known is in the verdicts.
        for check in service.checks.iter().filter(|check| check.level == Level::Warning) {
            let named: Vec<&str> = check.findings.iter().map(|it| it.text.as_str()).collect();
            let told = (format!("{id}: {}", named.join("; ")), format!("baton readiness {id}"));
            let what = format!("check-{}", check.check);
            self.add((id.as_str(), &what), Severity::Warning, Some(id), told);
        }
    }

    fn others(&mut self, status: &Status, led_for: Duration) {
        let silent = |age: Option<u64>| age.map_or(led_for, Duration::from_millis) > SILENCE;
        for voter in &status.voters {
            if voter.id != status.answered_by.voter
                && (silent(voter.age_ms) || voter.state == VoterState::Unknown)
            {
                let summary = format!("nothing is heard of voter {} ({})", voter.id, voter.name);
                let told = (summary, "baton voters list; baton doctor".to_owned());
                let about = format!("voter-{}", voter.id);
                self.add((&about, "silent"), Severity::Warning, None, told);
            }
        }
        for server in &status.name_servers {
            if silent(server.follows_age_ms) {
                let name = server.server.as_str();
                let summary = format!("nothing is heard of name server {name}");
                let told = (summary, "baton dns".to_owned());
                self.add((name, "silent"), Severity::Warning, None, told);
            }
        }
        for missed in &status.missed_drills {
            let summary = format!("drill {} was missed: {}", missed.entry, missed.why);
            let told = (summary, "baton drill schedule".to_owned());
            self.add((missed.entry.as_str(), "drill-missed"), Severity::Warning, None, told);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failover::ids::VoterId;
    use serde_json::{Value, json};

    fn status(service: &Value) -> Status {
        let voter = |n: u64, age: Value| {
            json!({"id": n, "name": format!("v{n}"), "site": "s1", "address": null,
                "state": "follower", "age_ms": age, "lag_entries": 0, "recorded": true})
        };
        let own = json!({"voter": 1, "name": "v1", "site": "s1"});
        serde_json::from_value(json!({
            "cluster": "test", "revision": 1, "topology_version": 1, "zone_version": 1,
            "leader": own, "answered_by": own, "term": 1, "at": 0, "led_for_ms": 60_000,
            "voters": [voter(1, json!(null)), voter(2, json!(5)), voter(3, json!(31_000))],
            "sites": {}, "services": [service], "name_servers": [],
        }))
        .expect("a status")
    }

    fn service() -> Value {
        let rule = json!({"required": 1, "instances": ["b-1"]});
        let instance = |name: &str, age: Value, streaming: Value| {
            json!({"instance": name, "site": "s1", "postgres": "127.0.0.1:1", "assigned": "idle",
                "reported": null, "age_ms": age, "position": null, "lag_bytes": null,
                "streaming": streaming, "in_rule": true, "admits": true, "pledge": null,
                "enforced": null, "notes": [], "version": null, "knocks": []})
        };
        json!({
            "service": "clinic", "writable": "w", "read_only": "r", "epoch": 3, "primary": "a-1",
            "system_identifier": null,
            "rule": {"generation": 1, "required": 1, "instances": ["b-1"], "enforce": rule},
            "is_site_safe": true, "zero_loss": Promise::Yes, "hold": null, "transition": null,
            "published": null, "unacknowledged": null, "lease_age_ms": 5,
            "instances": [instance("a-1", json!(5), json!(null)),
                instance("b-1", json!(5), json!(true))],
            "findings": [],
        })
    }

    fn told(service: &Value) -> Vec<String> {
        let mut found = Found(Wrong::new());
        let status = status(service);
        let led_for = Duration::from_mins(1);
        found.service(&status.services[0], led_for, Duration::ZERO, 0);
        for instance in &status.services[0].instances {
            found.instance(&status.services[0], instance, led_for);
        }
        found.0.keys().map(ToString::to_string).collect()
    }

    fn changed(pointer: &str, value: Value) -> Vec<String> {
        let mut service = service();
        *service.pointer_mut(pointer).expect("it is there") = value;
        told(&service)
    }

    #[test]
    fn what_is_well_is_no_alert_and_each_wrong_has_its_name() {
        assert_eq!(told(&service()), [""; 0]);
        let lost = json!([
            {"check": "held", "severity": "blocks", "instance": null, "text": "on hold"},
            {"check": "primary-lost", "severity": "warning", "instance": "a-1", "text": "silent"},
        ]);
        let hold = json!({"by": "alice", "reason": "x", "since": 0});
        for (pointer, value, key) in [
            ("/unacknowledged", json!(7), "clinic/failed-over"),
            ("/hold", hold, "clinic/held"),
            ("/findings", lost, "clinic/failover-barred"),
            ("/lease_age_ms", json!(10_001), "clinic/no-lease"),
            ("/lease_age_ms", json!(null), "clinic/no-lease"),
            ("/instances/0/admits", json!(false), "clinic/not-admitted"),
            ("/rule/required", json!(0), "clinic/single-copy"),
            ("/is_site_safe", json!(false), "clinic/not-site-safe"),
            ("/zero_loss", json!(Promise::No(vec!["x".into()])), "clinic/zero-loss"),
            ("/instances/1/age_ms", json!(null), "b-1/silent"),
            ("/instances/1/age_ms", json!(30_001), "b-1/silent"),
            ("/instances/1/streaming", json!(false), "b-1/not-streaming"),
        ] {
            assert_eq!(changed(pointer, value), [key], "{pointer}");
        }
    }

    #[test]
    fn who_is_silent_is_named_and_the_voter_itself_never() {
        let mut found = Found(Wrong::new());
        let status = status(&service());
        assert_eq!(status.answered_by.voter, VoterId(1));
        found.others(&status, Duration::from_mins(1));
        let keys: Vec<String> = found.0.keys().map(ToString::to_string).collect();
        assert_eq!(keys, ["voter-3/silent"]);
    }
}
