//! When drills are held, and when none may be; when services are promised: as declared, in words
//! of people's clocks.
//!
//! The law knows no time zones and reads no clock. Whoever leads works out what the calendar says
//! of this moment and tells it: [`crate::View::closed`], and which occasion is due. What became of
//! each occasion is in the replicated state, so that one that was missed is missed for everybody.

mod words;

use crate::cluster::Cluster;
use crate::drill::{Kind, LONGEST_DWELL, LONGEST_ISOLATION};
use crate::ids::{DrillId, InstanceId, ScheduleId, ServiceId};
use crate::time::{Timestamp, maybe_millis, millis};
use crate::topology::Topology;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use serde::{Deserialize, Serialize};

pub use words::{Blackout, CalendarError, Days, Hours, Minute, Objective, WEEK, Weekday, When};

/// The calendar of drills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// In whose clock everything here is written: `Europe/Rome`.
    pub time_zone: String,
    /// Hours in which nothing is rehearsed that clients may notice.
    pub protected: Vec<Hours>,
    /// Days on which nothing is.
    pub blackouts: Vec<Blackout>,
    /// What is held by itself.
    pub schedule: BTreeMap<ScheduleId, Entry>,
}

/// In whose clock everything is written, unless something else is.
const TIME_ZONE: &str = "Europe/Rome";

/// Monday to Saturday, 07 to 21.
fn day() -> Hours {
    let days = (Weekday::Mon, Weekday::Sat);
    Hours { days, begin: Minute(7 * 60), end: Minute(21 * 60) }
}

impl Default for Calendar {
    fn default() -> Self {
        Self {
            time_zone: String::from(TIME_ZONE),
            protected: vec![day()],
            blackouts: Vec::new(),
            schedule: BTreeMap::new(),
        }
    }
}

impl Calendar {
    /// Whether nothing was declared.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// When a service is promised to be there, and for how much of that time. It is measured against;
/// nothing is decided by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sla {
    /// In whose clock everything here is written.
    pub time_zone: String,
    /// The hours in which it is promised. Never empty.
    pub hours: Vec<Hours>,
    /// Days on which it is not.
    pub holidays: Vec<Blackout>,
    /// For how much of them.
    pub objective: Objective,
}

impl Default for Sla {
    fn default() -> Self {
        Self {
            time_zone: String::from(TIME_ZONE),
            hours: vec![day()],
            holidays: Vec::new(),
            objective: Objective(999_500),
        }
    }
}

/// What is held, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What is rehearsed.
    pub kind: Kind,
    /// With which service.
    pub service: ServiceId,
    /// Who is to take over; `None`: the best candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<InstanceId>,
    /// How long the service is to run there.
    #[serde(rename = "dwell_ms", with = "millis")]
    pub dwell: Duration,
    /// How long the primary may be cut off, where that is rehearsed; `None`: as is usual.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_millis")]
    pub at_most: Option<Duration>,
    /// On which days, and when.
    pub when: When,
    /// How late it may still begin. 1 minute to 24 hours.
    #[serde(rename = "within_ms", with = "millis")]
    pub within: Duration,
}

/// What became of the newest occasion of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occasion {
    /// When it was due.
    pub due: Timestamp,
    /// The drill that was begun.
    pub drill: Option<DrillId>,
    /// Why none was; with neither, the calendar begins after it.
    pub missed: Option<String>,
}

/// An occasion takes effect; what happened, or nothing if it is known.
pub(crate) fn enact(
    cluster: &mut Cluster,
    entry: &ScheduleId,
    occasion: Occasion,
) -> Option<String> {
    if !cluster.topology.drills.schedule.contains_key(entry) {
        return None;
    }
    let text = match (&occasion.drill, &occasion.missed) {
        (_, Some(_)) => format!("calendar: {entry} is missed"),
        (Some(drill), None) => format!("calendar: {entry} is drill {drill}"),
        (None, None) => format!("calendar: {entry} is held from here on"),
    };
    let known = cluster.calendar.insert(entry.clone(), occasion.clone());
    (known != Some(occasion)).then_some(text)
}

/// What a calendar must keep to.
pub(crate) fn validate(topology: &Topology, say: &mut impl FnMut(&str, String)) {
    for (id, entry) in &topology.drills.schedule {
        let key = format!("drills.schedule.{id}");
        match topology.services.get(&entry.service) {
            None => say(&format!("{key}.service"), format!("no service `{}`", entry.service)),
            Some(spec) => {
                if let Some(to) = entry.to.as_ref().filter(|to| !spec.instances.contains_key(*to)) {
                    let text = format!("service `{}` has no instance `{to}`", entry.service);
                    say(&format!("{key}.to"), text);
                }
            }
        }
        if entry.dwell > LONGEST_DWELL {
            let text = format!("at most {} hours", LONGEST_DWELL.as_secs() / 3_600);
            say(&format!("{key}.dwell"), text);
        }
        if entry.at_most.is_some() && entry.kind != Kind::Isolate {
            say(&format!("{key}.at_most"), "only a drill `isolate` has one".to_string());
        }
        let shortest = topology.timing.suspect_after * 2;
        if entry.at_most.is_some_and(|at_most| at_most < shortest || at_most > LONGEST_ISOLATION) {
            let (least, most) = (millis(shortest), LONGEST_ISOLATION.as_secs());
            say(&format!("{key}.at_most"), format!("from {least} ms to {most} s"));
        }
        let within = entry.within.as_secs();
        if !(60..=86_400).contains(&within) {
            say(&format!("{key}.within"), "must be from 1 minute to 24 hours".to_string());
        }
    }
}
