//! What somebody must know: alerts that stand, who was told of them, and who has taken them on.
//!
//! What is wrong is worked out elsewhere, from what everyone may see; nothing is decided from it.
//! Here is what outlives a leader: that an alert stands since when, that a person has acknowledged
//! it, and which channel was told of what. So a new leader tells nobody twice, and forgets nobody.

use crate::cluster::Cluster;
use crate::event::{Change, Event};
use crate::ids::{NameError, ServiceId};
use crate::request::{Ruling, refuse};
use crate::time::Timestamp;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// How many alerts are kept at the most; what is raised beyond them has no effect.
pub const MOST: usize = 300;
/// The longest text of an alert, in bytes.
const TEXT_BYTES: usize = 1_000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// In working hours.
    Warning,
    /// Now, also at night.
    Critical,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What an alert is about, the same for as long as it stands: the service or thing, a slash, what
/// is wrong with it. Receivers recognise by it what they were told before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AlertKey(String);

impl AlertKey {
    /// `about/wrong`, or `None` where a part is no name.
    #[must_use]
    pub fn new(about: &str, wrong: &str) -> Option<Self> {
        format!("{about}/{wrong}").parse().ok()
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AlertKey {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::try_from(String::from(text))
    }
}

impl TryFrom<String> for AlertKey {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        let part = |part: &str| {
            let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            (1..=60).contains(&part.len()) && part.bytes().all(good)
        };
        let parts = text.split('/').count();
        if (2..=3).contains(&parts) && text.split('/').all(part) {
            Ok(Self(text))
        } else {
            Err(NameError(text))
        }
    }
}

impl From<AlertKey> for String {
    fn from(key: AlertKey) -> String {
        key.0
    }
}

impl fmt::Display for AlertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// How bad it is.
    pub severity: Severity,
    /// The service it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    /// What is wrong, in one sentence.
    pub summary: String,
    /// What to do about it: a command, or where to read on.
    pub remedy: String,
}

impl Alert {
    /// The same with texts of a bounded length: what goes into the log is bounded.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for text in [&mut self.summary, &mut self.remedy] {
            if text.len() > TEXT_BYTES {
                let end = (0..=TEXT_BYTES).rev().find(|end| text.is_char_boundary(*end));
                text.truncate(end.unwrap_or_default());
            }
        }
        self
    }
}

/// A person who has taken an alert on: nobody is reminded of it any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// Who.
    pub by: String,
    /// What the person says.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// What one channel knows of an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// When it was last told that the alert stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Timestamp>,
    /// When it was told that it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Timestamp>,
    /// Why it could not be told, when it was last tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// An alert that stands, or is over and not everybody knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// What is wrong.
    pub alert: Alert,
    /// Since when.
    pub since: Timestamp,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Timestamp>,
    /// Who has taken it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledgement>,
    /// What each channel knows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub told: BTreeMap<String, Told>,
}

/// What changes about an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AlertChange {
    /// It stands; or stands already, and is better or worse now.
    Raised {
        /// What is wrong.
        alert: Alert,
    },
    /// It does not stand any more.
    Over,
    /// A person takes it on.
    Acknowledged {
        /// What the person says.
        reason: String,
    },
    /// A channel was told, or could not be.
    Told {
        /// Which.
        channel: String,
        /// What it knows now.
        told: Told,
    },
    /// It is over, and whoever does not know by now is not told any more.
    Forgotten,
}

/// What a channel is to be told next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// That the alert stands.
    Standing,
    /// That it is over.
    Over,
}

impl Standing {
    /// What is to be told now to a channel that is told of everything from `least` on: once, and
    /// of what is critical every `again` until a person has acknowledged it. That it is over, only
    /// where it was told that it stands.
    #[must_use]
    pub fn due(
        &self,
        channel: &str,
        least: Severity,
        again: Duration,
        wall: Timestamp,
    ) -> Option<Tell> {
        let told = self.told.get(channel);
        let standing = told.and_then(|told| told.standing);
        if self.over.is_some() {
            let knows = told.is_some_and(|told| told.over.is_some());
            return (standing.is_some() && !knows).then_some(Tell::Over);
        }
        if self.alert.severity < least {
            return None;
        }
        let Some(at) = standing else { return Some(Tell::Standing) };
        let reminds = self.alert.severity == Severity::Critical && self.acknowledged.is_none();
        let passed = Duration::from_millis(u64::try_from(wall.0 - at.0).unwrap_or_default());
        (reminds && passed >= again).then_some(Tell::Standing)
    }

    /// Whether it is over and nobody believes otherwise.
    fn is_settled(&self) -> bool {
        let believes = |told: &Told| told.standing.is_some() && told.over.is_none();
        self.over.is_some() && !self.told.values().any(believes)
    }
}

impl AlertChange {
    /// In words.
    #[must_use]
    pub fn words(&self, key: &AlertKey) -> String {
        match self {
            Self::Raised { alert } => {
                format!("alert {key} ({}): {}", alert.severity, alert.summary)
            }
            Self::Over => format!("alert {key} is over"),
            Self::Acknowledged { .. } => format!("alert {key} is acknowledged"),
            Self::Told { channel, told } => match (&told.failed, told.over) {
                (Some(why), _) => format!("alert {key} could not be told to {channel}: {why}"),
                (None, Some(_)) => format!("{channel} was told that alert {key} is over"),
                (None, None) => format!("{channel} was told of alert {key}"),
            },
            Self::Forgotten => format!("nobody else is told that alert {key} is over"),
        }
    }
}

/// What changed, in words; `None`: nothing.
pub(crate) fn enact(
    cluster: &mut Cluster,
    event: &Event,
    key: &AlertKey,
    change: &AlertChange,
) -> Option<String> {
    let alerts = &mut cluster.alerts;
    let at = event.stamp.at;
    let changed = match (change, alerts.get_mut(key)) {
        (AlertChange::Raised { alert }, Some(known)) => raise(known, alert, at),
        (AlertChange::Raised { alert }, None) => {
            let fits = alerts.len() < MOST;
            if fits {
                alerts.insert(key.clone(), raised(alert, at, BTreeMap::new()));
            }
            fits
        }
        (AlertChange::Over, Some(known)) => {
            let stood = known.over.is_none();
            known.over.get_or_insert(at);
            stood
        }
        (AlertChange::Acknowledged { reason }, Some(known)) => {
            let first = known.acknowledged.is_none();
            let by = event.by.clone();
            let said = Acknowledgement { by, reason: reason.clone(), at };
            known.acknowledged.get_or_insert(said);
            first
        }
        (AlertChange::Told { channel, told }, Some(known)) => {
            known.told.insert(channel.clone(), told.clone()).as_ref() != Some(told)
        }
        (AlertChange::Forgotten, Some(known)) => {
            let over = known.over.is_some();
            if over {
                known.told.clear();
            }
            over
        }
        (_, None) => false,
    };
    if alerts.get(key).is_some_and(Standing::is_settled) {
        alerts.remove(key);
    }
    changed.then(|| change.words(key))
}

/// What stands already, or stood, is raised; whether that is news.
fn raise(known: &mut Standing, alert: &Alert, at: Timestamp) -> bool {
    let before = known.alert.severity;
    if known.over.is_some() {
        // Whoever was not told that it was over still believes that it stands.
        let mut told = core::mem::take(&mut known.told);
        told.retain(|_, told| told.over.is_none());
        *known = raised(alert, at, told);
    } else if before == alert.severity {
        return false;
    } else {
        if before < alert.severity {
            // Everybody is told of what has become worse, whoever has taken it on.
            known.acknowledged = None;
            known.told.clear();
        }
        known.alert = alert.clone().bounded();
    }
    true
}

fn raised(alert: &Alert, since: Timestamp, told: BTreeMap<String, Told>) -> Standing {
    Standing { alert: alert.clone().bounded(), since, over: None, acknowledged: None, told }
}

/// A person takes an alert on.
pub(crate) fn acknowledge(cluster: &Cluster, key: &AlertKey, reason: &str) -> Ruling {
    let Some(known) = cluster.alerts.get(key).filter(|known| known.over.is_none()) else {
        let standing = cluster.alerts.iter().filter(|(_, known)| known.over.is_none());
        let keys: Vec<&str> = standing.map(|(key, _)| key.as_str()).collect();
        return if keys.is_empty() {
            refuse("alert", "no alert stands")
        } else {
            let text = format!("no alert `{key}` stands; there are: {}", keys.join(", "));
            refuse("alert", text)
        };
    };
    if let Some(by) = &known.acknowledged {
        let text = format!("{} has acknowledged it already: {}", by.by, by.reason);
        return refuse("alert", text);
    }
    let change = AlertChange::Acknowledged { reason: reason.to_string() };
    let change = Box::new(Change::Alert { key: key.clone(), change });
    Ruling::Granted { change, cause: reason.to_string() }
}

#[cfg(test)]
mod tests {
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
}
