//! What an agent looks at rarely and says now and then: what a failover rests on that no decision
//! does. Facts only; what they mean is judged in [`crate::readiness`].
//!
//! A survey comes with every tenth second's report or so, not with each: most of it changes once a
//! month. Every part tells its own age, because what was true an hour ago is not known any more
//! (I-37). Every field may be missing: not looked at yet, or an agent of another version.

use crate::ids::InstanceId;
use crate::time::{Timestamp, millis};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// At most this many [`Login`]s are kept of a survey.
pub const LOGINS: usize = 64;
/// At most this many [`Extension`]s are kept of a survey.
pub const EXTENSIONS: usize = 64;
/// At most this many [`Collation`]s are kept of a survey, and names of databases not seen.
pub const COLLATIONS: usize = 16;
/// No text of a survey is kept beyond this many characters.
pub const TEXT: usize = 160;

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Survey {
    /// How long before this was sent [`crate::Report::checks`] were measured; `None`: never yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_ms: Option<u64>,
    /// How often it measures: what is much older than this was not measured again.
    #[serde(rename = "every_ms", with = "millis")]
    pub every: Duration,
    /// Its wall clock when this was sent.
    pub wall: Timestamp,
    /// For how many seconds more its certificate is good; negative: it has expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_seconds: Option<i64>,
    /// Whether it could log in at the other instances of its service.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logins: Vec<Login>,
    /// As a primary: transactions that were prepared and not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Prepared>,
    /// The programs that the data needs beside PostgreSQL itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software: Option<Software>,
    /// As a standby: the most bytes of log it was seen to replay in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replays: Option<u64>,
    /// As a standby: replay was paused by somebody.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub paused: bool,
}

/// One attempt to log in at another instance, as replication and `pg_rewind` do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// At whose PostgreSQL.
    pub to: InstanceId,
    /// What for.
    pub purpose: Purpose,
    /// Why it failed; `None`: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How long before this was sent it was tried.
    #[serde(rename = "age_ms", with = "millis")]
    pub age: Duration,
}

/// What a login is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// To stream, or to copy.
    Replication,
    /// To read what a rewind needs.
    Rewind,
}

/// Transactions that were prepared and not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// How many.
    pub count: u64,
    /// For how long the oldest has waited for its end.
    #[serde(rename = "oldest_ms", with = "millis")]
    pub oldest: Duration,
}

/// The programs that the data needs beside PostgreSQL itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Software {
    /// Extensions that some database has, by name; the first of them.
    pub extensions: Vec<Extension>,
    /// What was sorted by another version of a collation than this machine has; the first of them.
    pub collations: Vec<Collation>,
    /// `shared_preload_libraries`
    pub preloads: String,
    /// Databases that could not be looked into.
    pub unseen: Vec<String>,
    /// How long before this was sent it was looked at.
    #[serde(rename = "age_ms", with = "millis")]
    pub age: Duration,
}

/// An extension that some database has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// The version in the database: the same on every copy.
    pub installed: String,
    /// The version that this machine would install; `None`: its files are not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<String>,
}

/// Something sorted by another version of its collation than this machine has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collation {
    /// `database clinic`, `clinic: de_DE`
    pub name: String,
    /// The version recorded when it was made.
    pub recorded: String,
    /// The version here.
    pub actual: String,
}

impl Survey {
    /// The same with nothing beyond the bounds: what comes over a wire may be as long as a body.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.logins.truncate(LOGINS);
        for login in &mut self.logins {
            if let Some(failure) = &mut login.failure {
                shorten(failure);
            }
        }
        if let Some(software) = &mut self.software {
            software.extensions.truncate(EXTENSIONS);
            software.collations.truncate(COLLATIONS);
            software.unseen.truncate(COLLATIONS);
            shorten(&mut software.preloads);
            software.unseen.iter_mut().for_each(shorten);
            for extension in &mut software.extensions {
                shorten(&mut extension.name);
                shorten(&mut extension.installed);
                extension.available.iter_mut().for_each(shorten);
            }
            for collation in &mut software.collations {
                shorten(&mut collation.name);
                shorten(&mut collation.recorded);
                shorten(&mut collation.actual);
            }
        }
        self
    }
}

fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(TEXT) {
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    #[test]
    fn what_is_kept_is_bounded() {
        let login = Login {
            to: "a".parse().unwrap(),
            purpose: Purpose::Rewind,
            failure: Some("ü".repeat(1_000)),
            age: Duration::ZERO,
        };
        let extension = Extension { name: "x".repeat(1_000), ..Extension::default() };
        let software = Software {
            extensions: vec![extension; 100],
            collations: vec![Collation::default(); 100],
            unseen: vec!["db".to_string(); 100],
            ..Software::default()
        };
        let survey =
            Survey { logins: vec![login; 100], software: Some(software), ..Survey::default() };
        let kept = survey.bounded();
        assert_eq!(kept.logins.len(), LOGINS);
        assert_eq!(kept.logins[0].failure.as_ref().unwrap().chars().count(), TEXT);
        let software = kept.software.unwrap();
        assert_eq!(software.extensions[0].name.len(), TEXT);
        let counts = (software.extensions.len(), software.collations.len(), software.unseen.len());
        assert_eq!(counts, (EXTENSIONS, COLLATIONS, COLLATIONS));
    }
}
