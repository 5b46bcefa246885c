//! The calendar of drills, followed by whoever leads: what is due is asked for as a person would
//! ask, and what could not be held in time is missed, on record.

use std::time::Duration;

use failover::calendar::Entry;
use failover::drill::DrillChange;
use failover::event::Change;
use failover::ids::ScheduleId;
use failover::{Moment, Request, Ruling, Timestamp};

use crate::answers::{CalendarTold, EntryTold, MissedDrill};
use crate::calendar;
use crate::replica::notes::Why;
use crate::replica::{Clocks, Replica};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// What a leader remembers of the calendar.
#[derive(Default)]
pub(in crate::replica) struct Following {
    looked: Option<Moment>,
    /// Why what is due was refused last.
    refused: Option<(ScheduleId, String)>,
}

impl Replica {
    /// Tells the law what the calendar says of a drill that would begin now.
    pub(in crate::replica) fn tell_calendar(&mut self, request: &Request) {
        let Request::Drill { dwell, .. } = request else { return };
        let closed = self.closed(*dwell);
        if let Some(lead) = &mut self.lead {
            lead.view.closed = closed;
        }
    }

    pub(in crate::replica) fn closed(&self, dwell: Duration) -> Option<String> {
        calendar::closed(&self.cluster.topology.drills, self.clocks.wall, dwell)
    }

    /// Begins what is due, and records what was missed. `true`: Raft has new work.
    pub(in crate::replica) fn follow_calendar(&mut self) -> bool {
        if self.cluster.topology.drills.schedule.is_empty() {
            return false;
        }
        let Clocks { now, wall } = self.clocks;
        let Some(lead) = &mut self.lead else { return false };
        if lead.following.looked.is_some_and(|at| now.since(at) < EVERY) {
            return false;
        }
        lead.following.looked = Some(now);
        let declared = self.cluster.topology.drills.clone();
        let mut proposed = false;
        for (id, entry) in &declared.schedule {
            let due = match calendar::around(&declared, entry.when, wall) {
                Ok((Some(due), _)) => due,
                Ok((None, _)) => continue,
                Err(error) => {
                    tracing::warn!("the calendar of drills cannot be followed: {error}");
                    return proposed;
                }
            };
            proposed |= match self.cluster.calendar.get(id).map(|occasion| occasion.due) {
                // A clock was wrong: what it said was held has not been yet.
                Some(known) if known > wall => self.note_occasion(id, due, None),
                Some(known) if known >= due => false,
                Some(_) => self.hold_or_miss((id, entry), due),
                None => self.note_occasion(id, due, None),
            };
        }
        proposed
    }

    fn note_occasion(&mut self, id: &ScheduleId, due: Timestamp, missed: Option<String>) -> bool {
        let change = Change::Occasion { entry: id.clone(), due, missed };
        self.propose(change, String::new(), "baton", None, None).is_ok()
    }

    fn hold_or_miss(&mut self, (id, entry): (&ScheduleId, &Entry), due: Timestamp) -> bool {
        let Clocks { now, wall } = self.clocks;
        let late = Duration::from_millis(wall.0.saturating_sub(due.0).max(0).unsigned_abs());
        if late > entry.within {
            let refused = self.lead.as_ref().and_then(|lead| lead.following.refused.clone());
            let why = refused.filter(|(of, _)| of == id).map(|(_, why)| why);
            let why = why.unwrap_or_else(|| "nobody led who could have begun it".into());
            tracing::warn!(entry = %id, "a drill is missed: {why}");
            return self.note_occasion(id, due, Some(why));
        }
        let request = Request::Drill {
            kind: entry.kind,
            service: entry.service.clone(),
            to: entry.to.clone(),
            dwell: entry.dwell,
            at_most: entry.at_most,
            despite_hours: false,
            reason: format!("calendar: {id}"),
        };
        self.tell_calendar(&request);
        let plan = self.plan_of(&request);
        let Some(lead) = &mut self.lead else { return false };
        if lead.proposed().any(|(_, drill)| drill.is_some()) {
            return false;
        }
        lead.view.follow(&self.cluster, now);
        let asker = ("calendar", wall);
        match failover::rule_on(&self.cluster, &lead.view, &request, asker, now) {
            Ruling::Refused(findings) => {
                let why = findings.first().map_or_else(String::new, |f| f.text.clone());
                if lead.following.refused.as_ref().map(|(_, known)| known) != Some(&why) {
                    tracing::warn!(entry = %id, "a drill is due and cannot begin: {why}");
                }
                lead.following.refused = Some((id.clone(), why));
                false
            }
            Ruling::Granted { mut change, cause } => {
                if let Change::Drill { change: DrillChange::Begun { occasion, .. }, .. } =
                    &mut *change
                {
                    *occasion = Some((id.clone(), due));
                }
                self.propose(*change, Why { cause, plan, authority: None }, "calendar", None, None)
                    .is_ok()
            }
        }
    }

    /// What was missed and not made up for.
    pub(in crate::replica) fn missed_drills(&self) -> Vec<MissedDrill> {
        let missed = self.cluster.calendar.iter().filter_map(|(entry, occasion)| {
            let (due, why) = (occasion.due, occasion.missed.clone()?);
            Some(MissedDrill { entry: entry.clone(), due, why })
        });
        missed.collect()
    }

    pub(in crate::replica) fn calendar(&self) -> CalendarTold {
        let declared = &self.cluster.topology.drills;
        let wall = self.clocks.wall;
        let entries = declared.schedule.iter().map(|(id, entry)| {
            let next = calendar::around(declared, entry.when, wall).ok().and_then(|(_, next)| next);
            EntryTold {
                entry: id.clone(),
                declared: entry.clone(),
                next,
                next_shown: next.map(|next| calendar::shown(declared, next)),
                last: self.cluster.calendar.get(id).cloned(),
            }
        });
        CalendarTold {
            at: wall,
            now: calendar::shown(declared, wall),
            time_zone: declared.time_zone.clone(),
            protected: declared.protected.clone(),
            blackouts: declared.blackouts.clone(),
            closed: self.closed(Duration::ZERO),
            entries: entries.collect(),
        }
    }
}
