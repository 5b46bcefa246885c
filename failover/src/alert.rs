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
mod tests;
