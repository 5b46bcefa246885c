//! Names and numbers: every identifier has a type of its own, so that a site is never taken for
//! an instance nor an epoch for a timeline (two kinds of identifier in one call deleted 883 sites
//! elsewhere).

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// Why a name was refused. Names become DNS labels, PostgreSQL role names and `application_name`s,
/// so they are held to what all three take without quoting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError(pub String);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a name: use 1 to 40 of a-z, 0-9 and -, beginning and ending with a \
             letter or digit",
            self.0.escape_debug()
        )
    }
}

impl core::error::Error for NameError {}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=40).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

// Names are copied far more often than made: every judgement names whom it is about. A copy shares
// the text.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl Ord for $name {
            // Of two copies of one name nothing needs to be read.
            fn cmp(&self, other: &Self) -> Ordering {
                if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// The name as text: 1 to 40 of `a-z`, `0-9` and `-`.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                if is_name(text) { Ok(Self(text.into())) } else { Err(NameError(text.into())) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                if is_name(&text) { Ok(Self(text.into())) } else { Err(NameError(text)) }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                String::from(&*name.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// A data centre: the failure domain.
    SiteId
}
name! {
    /// One protected PostgreSQL cluster (one system identifier).
    ServiceId
}
name! {
    /// One PostgreSQL server of a service; unique in the whole cluster. It is also the instance's
    /// `application_name` and, with the prefix `baton-`, its replication role.
    InstanceId
}
name! {
    /// One entry of the calendar of drills.
    ScheduleId
}
name! {
    /// One authoritative name server run by baton.
    NameServerId
}

/// Random text that a voter's disk was born with; a copy shares the text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Incarnation(Arc<str>);

impl From<String> for Incarnation {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Incarnation {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<Incarnation> for String {
    fn from(incarnation: Incarnation) -> String {
        String::from(&*incarnation.0)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// Counts changes of primary, per service. 0: never had one. Strictly increasing (I-04).
    Epoch(u64)
}
number! {
    /// PostgreSQL's own branch number; 0 where it is unknown.
    Timeline(u32)
}
number! {
    /// Counts events that had an effect on the cluster; the version of everything derived from it.
    Revision(u64)
}
number! {
    /// Counts recordings of a service's synchronous rule.
    Generation(u64)
}
number! {
    /// Numbers transitions over the whole cluster, from 1.
    TransitionId(u64)
}
number! {
    /// Numbers drills over the whole cluster, from 1.
    DrillId(u64)
}
number! {
    /// A Raft voter's number, never used twice; 0 is nobody.
    VoterId(u64)
}

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A position in the write-ahead log, in bytes; written `0/3000A10` as PostgreSQL does.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

impl Lsn {
    /// Bytes from `earlier` to here; 0 when `earlier` is ahead.
    #[must_use]
    pub const fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff))
    }
}

/// The text was not of PostgreSQL's form `X/X` (hexadecimal, each half at most 32 bits).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LsnError(pub String);

impl fmt::Display for LsnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a WAL position such as 0/3000A10", self.0.escape_debug())
    }
}

impl core::error::Error for LsnError {}

impl FromStr for Lsn {
    type Err = LsnError;
    fn from_str(text: &str) -> Result<Self, LsnError> {
        let half = |part: &str| {
            let plain =
                (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(part, 16).ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Self((half(high)? << 32) | half(low)?)))
            .ok_or_else(|| LsnError(text.into()))
    }
}

impl TryFrom<String> for Lsn {
    type Error = LsnError;
    fn try_from(text: String) -> Result<Self, LsnError> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        format!("{lsn}")
    }
}

/// PostgreSQL's name for one cluster and all its copies. Text on the wire: it does not fit the
/// integers that JSON readers keep exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SystemIdentifier(pub u64);

impl TryFrom<String> for SystemIdentifier {
    type Error = core::num::ParseIntError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<SystemIdentifier> for String {
    fn from(identifier: SystemIdentifier) -> String {
        format!("{}", identifier.0)
    }
}

impl fmt::Display for SystemIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn lsn_reads_what_it_writes() {
        for lsn in [Lsn(0), Lsn(0x300_0A10), Lsn(0x1_0000_0000), Lsn(u64::MAX)] {
            assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }
    }

    #[test]
    fn lsn_refuses_other_text() {
        for text in ["", "/", "0/", "1/123456789", "0/+1", "x/1", "0/1/2"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_dns_labels() {
        assert!("arezzo-1".parse::<InstanceId>().is_ok());
        for text in ["", "-a", "a-", "A", "a.b", "a_b", "a b", "ä", &"a".repeat(41)] {
            assert!(text.parse::<InstanceId>().is_err(), "{text}");
        }
    }
}
