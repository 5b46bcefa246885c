//! What a check says: of whom, how bad it is, how old the knowledge is, and what to do.

use crate::ids::{InstanceId, ServiceId, SiteId};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// How something stands; the later the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Looked at, and as it should be.
    Good,
    /// Worth looking at; a failover would work.
    Warning,
    /// Not known, or not known any more: never good (I-37).
    Unknown,
    /// A failover would not work, or would lose or damage something.
    Blocks,
}

impl Level {
    /// Its name as people read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Blocks => "blocks",
        }
    }
}

/// One thing that is not as it should be, or not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check's name, stable.
    pub check: String,
    /// Of which service.
    pub service: ServiceId,
    /// Whom it is about; `None`: the service, or everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// It matters only where this site is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteId>,
    /// How bad it is. Never [`Level::Good`].
    pub level: Level,
    /// What it says, with the numbers.
    pub text: String,
    /// How old the knowledge is, in milliseconds, where that is not a heartbeat or two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// For how long this leader has seen it, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// What to do about it.
    pub remedy: String,
}

/// What one check finds of one service.
pub(super) struct Findings<'a> {
    check: &'static str,
    service: &'a ServiceId,
    all: Vec<Finding>,
}

impl<'a> Findings<'a> {
    pub(super) const fn new(check: &'static str, service: &'a ServiceId) -> Self {
        Self { check, service, all: Vec::new() }
    }

    /// Says something; the rest of the finding may be filled in.
    pub(super) fn say(
        &mut self,
        level: Level,
        instance: Option<&InstanceId>,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.put(level, instance, None, (text.into(), remedy.into()));
    }

    /// What is not known of an instance, or not any more: its age, if there is one.
    pub(super) fn unknown(
        &mut self,
        instance: &InstanceId,
        age: Option<Duration>,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.put(Level::Unknown, Some(instance), age, (text.into(), remedy.into()));
    }

    /// What matters only where `site` is lost.
    pub(super) fn of_site(&mut self, site: &SiteId, level: Level, text: String, remedy: &str) {
        self.put(level, None, None, (text, remedy.to_string()));
        if let Some(last) = self.all.last_mut() {
            last.site = Some(site.clone());
        }
    }

    fn put(
        &mut self,
        level: Level,
        instance: Option<&InstanceId>,
        age: Option<Duration>,
        (text, remedy): (String, String),
    ) {
        self.all.push(Finding {
            check: self.check.to_string(),
            service: self.service.clone(),
            instance: instance.cloned(),
            site: None,
            level,
            text,
            age_ms: age.map(crate::time::millis),
            since_ms: None,
            remedy,
        });
    }

    pub(super) fn done(self) -> Vec<Finding> {
        self.all
    }
}
