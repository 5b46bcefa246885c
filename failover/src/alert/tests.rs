//! Who is told of what, and when no more.

use super::*;
use crate::event::Stamp;

fn key() -> AlertKey {
    AlertKey::new("clinic", "no-lease").expect("a key")
}

fn alert(severity: Severity) -> Alert {
    Alert { severity, service: None, summary: "no lease".into(), remedy: "look".into() }
}

fn happens(cluster: &mut Cluster, second: i64, change: AlertChange) -> bool {
    let stamp = Stamp { at: Timestamp(second * 1_000), ..Stamp::default() };
    let change = Change::Alert { key: key(), change };
    let (by, cause) = ("alice".into(), String::new());
    crate::apply(cluster, &Event { stamp, by, authority: None, cause, plan: None, change })
}

fn raised(severity: Severity) -> AlertChange {
    AlertChange::Raised { alert: alert(severity) }
}

fn told(standing: Option<i64>, over: Option<i64>) -> AlertChange {
    let at = |second: i64| Timestamp(second * 1_000);
    let told = Told { standing: standing.map(at), over: over.map(at), failed: None };
    AlertChange::Told { channel: "mail".into(), told }
}

fn refused(cluster: &Cluster) -> String {
    match acknowledge(cluster, &key(), "x") {
        Ruling::Refused(findings) => findings[0].text.clone(),
        Ruling::Granted { cause, .. } => cause,
    }
}

fn due(cluster: &Cluster, least: Severity, second: i64) -> Option<Tell> {
    let again = Duration::from_mins(15);
    cluster.alerts.get(&key())?.due("mail", least, again, Timestamp(second * 1_000))
}

#[test]
fn an_alert_is_told_once_and_that_it_is_over_to_whoever_was_told() {
    let mut cluster = Cluster::default();
    assert!(happens(&mut cluster, 1, raised(Severity::Warning)));
    assert!(!happens(&mut cluster, 2, raised(Severity::Warning)), "it stands already");
    assert_eq!(due(&cluster, Severity::Critical, 2), None);
    assert_eq!(due(&cluster, Severity::Warning, 2), Some(Tell::Standing));
    assert!(happens(&mut cluster, 3, told(Some(3), None)));
    assert!(!happens(&mut cluster, 3, told(Some(3), None)));
    assert_eq!(due(&cluster, Severity::Warning, 9_000), None, "a warning reminds nobody");
    assert!(happens(&mut cluster, 4, AlertChange::Over));
    assert!(!happens(&mut cluster, 5, AlertChange::Over));
    assert_eq!(due(&cluster, Severity::Warning, 5), Some(Tell::Over));
    assert!(happens(&mut cluster, 6, told(Some(3), Some(6))));
    assert!(cluster.alerts.is_empty(), "everybody knows");
}

#[test]
fn what_is_critical_reminds_until_a_person_takes_it_on() {
    let mut cluster = Cluster::default();
    happens(&mut cluster, 0, raised(Severity::Critical));
    happens(&mut cluster, 0, told(Some(0), None));
    assert_eq!(due(&cluster, Severity::Critical, 899), None);
    assert_eq!(due(&cluster, Severity::Critical, 900), Some(Tell::Standing));
    let reason = String::from("I look");
    assert!(matches!(acknowledge(&cluster, &key(), "x"), Ruling::Granted { .. }));
    assert!(happens(&mut cluster, 901, AlertChange::Acknowledged { reason }));
    assert_eq!(due(&cluster, Severity::Critical, 9_000), None);
    assert_eq!(refused(&cluster), "alice has acknowledged it already: I look");
}

#[test]
fn what_gets_worse_is_told_anew_and_what_gets_better_is_not() {
    let mut cluster = Cluster::default();
    happens(&mut cluster, 0, raised(Severity::Warning));
    happens(&mut cluster, 0, told(Some(0), None));
    happens(&mut cluster, 1, AlertChange::Acknowledged { reason: "x".into() });
    assert!(happens(&mut cluster, 2, raised(Severity::Critical)));
    assert_eq!(due(&cluster, Severity::Critical, 2), Some(Tell::Standing));
    happens(&mut cluster, 2, told(Some(2), None));
    assert!(happens(&mut cluster, 3, raised(Severity::Warning)));
    assert_eq!(due(&cluster, Severity::Warning, 3), None);
}

#[test]
fn what_comes_back_before_everybody_knew_that_it_was_over_is_told_to_the_others() {
    let mut cluster = Cluster::default();
    happens(&mut cluster, 0, raised(Severity::Warning));
    happens(&mut cluster, 0, told(Some(0), None));
    happens(&mut cluster, 1, AlertChange::Over);
    assert!(happens(&mut cluster, 2, raised(Severity::Warning)));
    assert_eq!(due(&cluster, Severity::Warning, 2), None, "it believes that already");
    assert_eq!(cluster.alerts[&key()].since, Timestamp(2_000));
    assert!(!happens(&mut cluster, 3, AlertChange::Forgotten), "it stands");
    happens(&mut cluster, 4, AlertChange::Over);
    assert!(happens(&mut cluster, 9, AlertChange::Forgotten));
    assert!(cluster.alerts.is_empty());
}

#[test]
fn what_nobody_was_told_of_is_gone_when_it_is_over() {
    let mut cluster = Cluster::default();
    happens(&mut cluster, 0, raised(Severity::Critical));
    assert!(happens(&mut cluster, 1, AlertChange::Over));
    assert!(cluster.alerts.is_empty());
    assert_eq!(refused(&cluster), "no alert stands");
}

#[test]
fn what_goes_into_the_log_is_bounded() {
    let mut cluster = Cluster::default();
    let long = Alert { summary: "ä".repeat(5_000), ..alert(Severity::Warning) };
    assert!(happens(&mut cluster, 0, AlertChange::Raised { alert: long }));
    assert!(cluster.alerts[&key()].alert.summary.len() <= TEXT_BYTES);
    for text in ["", "a", "a/", "A/b", "a/b/c/d", "a b/c", "a/b\n"] {
        assert!(text.parse::<AlertKey>().is_err(), "{text}");
    }
}
