//! The log: decisions, stamped with the state they were made in.

use crate::alert::{AlertChange, AlertKey};
use crate::cluster::{Examined, Hold, Rule, Step, StepRecord, Trigger, Voter};
use crate::drill::{DrillChange, Stage};
use crate::ids::{
    DrillId, Epoch, Generation, InstanceId, Lsn, ScheduleId, ServiceId, SystemIdentifier, VoterId,
};
use crate::loss::GivenUp;
use crate::people::Role;
use crate::position::Position;
use crate::readiness::Before;
use crate::request::Request;
use crate::time::Timestamp;
use crate::topology::Topology;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One entry of the replicated log. A field that a version does not know makes the entry
/// unreadable to it, and it stops rather than guess (I-28).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Who proposed it and when; for people.
    pub stamp: Stamp,
    /// `baton`, or an operator's name.
    pub by: String,
    /// Why, in the words of the decision.
    pub cause: String,
    /// The hash of the plan that this carries out, where a person asked for it: what a look at the
    /// plan before would have shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// By what right, where a person asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Authority>,
    /// What changes.
    pub change: Change,
}

impl Event {
    /// Who acted, and the step of the code that he gave, where he gave one.
    pub(crate) fn code(&self) -> Option<(&str, u64)> {
        let authority = self.authority.as_ref()?;
        let second = authority.approved.as_ref().map(|approved| approved.by.as_str());
        Some((second.unwrap_or(&self.by), authority.totp_step?))
    }

    /// As a step of a record.
    pub(crate) fn step(&self, name: &str) -> StepRecord {
        StepRecord {
            name: String::from(name),
            at: self.stamp.at,
            voter: self.stamp.voter,
            monotonic_us: self.stamp.monotonic_us,
            note: self.cause.clone(),
        }
    }
}

/// By what right a person has something done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// In which role it was asked for.
    pub role: Role,
    /// Who else said yes, where that was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<Approved>,
    /// The step of the time-based code that whoever acted gave, in 30 s since 1970: the second
    /// person's where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp_step: Option<u64>,
}

/// A second person's yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approved {
    /// Who.
    pub by: String,
    /// In which role.
    pub role: Role,
    /// Why.
    pub reason: String,
}

/// When and by which voter an event was proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Wall time.
    pub at: Timestamp,
    /// The voter.
    pub voter: VoterId,
    /// Its monotonic clock, in microseconds.
    pub monotonic_us: u64,
}

/// What changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// The declared topology is replaced, if its version is still `expected`.
    Topology {
        /// The version it was made from.
        expected: u64,
        /// The whole new topology.
        topology: Box<Topology>,
    },
    /// A voter is added or described anew.
    VoterSet {
        /// Its number.
        id: VoterId,
        /// What it is.
        voter: Voter,
    },
    /// A voter is gone.
    VoterRemoved {
        /// Its number.
        id: VoterId,
    },
    /// Something that needs two people is asked for by the first.
    Asked {
        /// The hash of its plan.
        plan: String,
        /// What is asked for.
        request: Box<Request>,
        /// What of it lowers durability or destroys.
        lowers: Vec<String>,
        /// Until when the second may say yes.
        until: Timestamp,
    },
    /// Whoever asked for something that needs two people takes it back.
    Withdrawn {
        /// The hash of its plan.
        plan: String,
    },
    /// Something that changes nothing and is on record all the same (I-34).
    Noted {
        /// What.
        note: Note,
    },
    /// An occasion of the calendar of drills is missed, or an entry of it is new.
    Occasion {
        /// Which entry.
        entry: ScheduleId,
        /// When it was due.
        due: Timestamp,
        /// Why no drill was begun; `None`: the entry is new, and held from here on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        missed: Option<String>,
    },
    /// A drill begins, goes on or ends.
    Drill {
        /// Which: one that begins has the number after the last.
        drill: DrillId,
        /// The stage the decision was made in: any difference makes the event without effect.
        /// `None`: it is not about a stage.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<Stage>,
        /// What changes.
        change: DrillChange,
    },
    /// An alert stands, is over, is acknowledged, was told.
    Alert {
        /// Which.
        key: AlertKey,
        /// What changes.
        change: AlertChange,
    },
    /// A change of one service.
    Service {
        /// Which.
        service: ServiceId,
        /// The state the decision was made in: any difference makes the event without effect.
        seen: Seen,
        /// What changes.
        change: ServiceChange,
    },
}

/// What is on record without changing anything: who came, what was asked, what was refused. Alike
/// ones that follow closely are one note that counts them. When the last of them was is in the
/// event's stamp, who it was in its `by`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// What kind of thing.
    pub kind: NoteKind,
    /// The service it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    /// What, in words.
    pub text: String,
    /// How often, 1 or more.
    pub times: u64,
    /// When the first of them was.
    pub since: Timestamp,
}

/// The kinds of notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoteKind {
    /// The record begins here.
    Began,
    /// A voter says with which key it signs evidence.
    Key,
    /// A certificate was shown.
    Login,
    /// An operator asked why something is not done, or what would follow.
    Question,
    /// Somebody was refused something.
    Refusal,
    /// A program beside an instance was run, and what became of it.
    Hook,
}

/// The part of a service's state that a decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Its epoch.
    pub epoch: Epoch,
    /// The step of its open transition.
    pub step: Option<Step>,
    /// The generation of its rule.
    pub generation: Generation,
}

/// A change of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ServiceChange {
    /// A transition begins at `step`. With a transition open past its point of no return, it
    /// supersedes that one.
    Started {
        /// What set it off.
        trigger: Trigger,
        /// Whom an operator wants.
        target: Option<InstanceId>,
        /// Where it enters.
        step: Step,
        /// The drill that it is a part of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drill: Option<DrillId>,
        /// How the service stood before, as far as whoever proposes this had looked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        readiness: Option<Before>,
        /// What a person gave up, where it cannot be had without. It supersedes one that waits for
        /// seals in vain, too.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        given_up: Option<GivenUp>,
    },
    /// The open transition leaves its step for the next.
    StepDone,
    /// The one event that moves the epoch: the point of no return.
    PrimaryChosen {
        /// The new primary.
        primary: InstanceId,
        /// Where it stands; the floor of every later choice.
        position: Option<Position>,
        /// The rule of the new epoch; its generation is set by `apply`.
        rule: Rule,
        /// Everyone examined.
        examined: Vec<Examined>,
    },
    /// The open transition is given up before its point of no return.
    Aborted,
    /// The synchronous rule is recorded anew; its generation is set by `apply`.
    RuleRecorded {
        /// The rule.
        rule: Rule,
    },
    /// PostgreSQL's identifier of the cluster becomes known.
    Identified {
        /// The identifier.
        system_identifier: SystemIdentifier,
    },
    /// Commits may have been acknowledged without the rule: a wait was cancelled, or the setting
    /// overruled.
    Doubted {
        /// The primary's WAL end when it was seen.
        position: Position,
        /// What the rule's standbys were known to hold before.
        #[serde(default)]
        from: Lsn,
        /// It may still go on, or its end is not known.
        #[serde(default)]
        open: bool,
    },
    /// W of the rule hold everything up to here: nothing before it is in doubt any more.
    Settled {
        /// Up to where.
        upto: Position,
    },
    /// A person gives up the commits in doubt, naming them.
    Forgone {
        /// Where the range begins.
        from: Lsn,
        /// Where it ends.
        to: Lsn,
    },
    /// A person pauses automation.
    Held {
        /// Who, why, since when.
        hold: Hold,
    },
    /// A person lets automation go on, and acknowledges the last automatic failover.
    Resumed,
}

impl ServiceChange {
    /// A transition that is part of no drill and gives nothing up begins.
    #[must_use]
    pub const fn started(trigger: Trigger, target: Option<InstanceId>, step: Step) -> Self {
        let (drill, readiness, given_up) = (None, None, None);
        Self::Started { trigger, target, step, drill, readiness, given_up }
    }
}
