//! What is told, held against what is on record: the changes of primary of one service, and the
//! drill that they are a part of.

use failover::cluster::{Record, StepRecord};
use failover::drill::{Drill, DrillChange, Stage};
use failover::event::{Change, Event, ServiceChange};
use failover::ids::{ServiceId, TransitionId};

use super::Slice;
use crate::audit::{self, Head};

/// What is told.
#[derive(Clone, Debug)]
pub struct Story<'a> {
    drill: Option<&'a Drill>,
    transitions: Vec<&'a Record>,
}

/// What an audit record says that belongs to a story.
enum Said {
    /// Of a transition of the service.
    Move(Event),
    /// Of the drill.
    Stage(Event),
}

impl<'a> Story<'a> {
    /// Of one change of primary.
    #[must_use]
    pub fn of_transition(record: &'a Record) -> Self {
        Self { drill: None, transitions: vec![record] }
    }

    /// Of a drill, and every change of its service's primary that began while it was open.
    #[must_use]
    pub fn of_drill(drill: &'a Drill, transitions: &'a [Record]) -> Self {
        Self { drill: Some(drill), transitions: transitions.iter().collect() }
    }

    /// Its name in messages.
    #[must_use]
    pub fn name(&self) -> String {
        let first = self.transitions.first().map_or(TransitionId(0), |record| record.id);
        self.drill.map_or_else(|| format!("transition {first}"), |d| format!("drill {}", d.id))
    }

    fn service(&self) -> Option<&'a ServiceId> {
        let of = self.transitions.first().map(|record| &record.service);
        self.drill.map(|drill| &drill.service).or(of)
    }

    fn moves(&self) -> impl Iterator<Item = (&'a Record, &'a StepRecord)> {
        self.transitions.iter().flat_map(|record| record.steps.iter().map(|step| (*record, step)))
    }

    fn stages(&self) -> impl Iterator<Item = &'a StepRecord> + use<'a> {
        self.drill.into_iter().flat_map(|drill| &drill.steps)
    }

    /// How many steps there are.
    fn steps(&self) -> usize {
        self.moves().count() + self.stages().count()
    }

    /// The step that it begins with.
    fn first(&self) -> Option<&'a StepRecord> {
        match self.drill {
            Some(drill) => drill.steps.first(),
            None => self.moves().next().map(|(_, step)| step),
        }
    }

    fn said(&self, line: &str) -> Option<Said> {
        let read = audit::read(line).ok().filter(|read| read.effect)?;
        let event: Event = serde_json::from_value(read.event).ok()?;
        if let Change::Drill { drill, .. } = &event.change {
            let own = self.drill.is_some_and(|told| told.id == *drill);
            return own.then_some(Said::Stage(event));
        }
        let Change::Service { service, change, .. } = &event.change else { return None };
        let moves = match change {
            ServiceChange::Started { .. }
            | ServiceChange::StepDone
            | ServiceChange::PrimaryChosen { .. }
            | ServiceChange::Aborted => true,
            ServiceChange::RuleRecorded { .. }
            | ServiceChange::Identified { .. }
            | ServiceChange::Doubted { .. }
            | ServiceChange::Settled { .. }
            | ServiceChange::Forgone { .. }
            | ServiceChange::Held { .. }
            | ServiceChange::Resumed => false,
        };
        (moves && Some(service) == self.service()).then_some(Said::Move(event))
    }

    /// Whether an audit record is the first of it.
    fn begins(&self, said: &Said) -> bool {
        let event = match said {
            Said::Move(event) if self.drill.is_none() => event,
            Said::Stage(event) => event,
            Said::Move(_) => return false,
        };
        self.first().is_some_and(|step| is_step(step, event))
    }

    /// Whether an audit record is a step that it tells of.
    fn tells(&self, said: &Said) -> bool {
        match said {
            Said::Move(event) => self.moves().any(|(_, step)| is_step(step, event)),
            Said::Stage(event) => self.stages().any(|step| is_step(step, event)),
        }
    }

    /// Whether what is told is what was on record, all of it and in its order.
    ///
    /// # Errors
    /// The first thing that does not stand.
    pub(super) fn on_record(&self, Slice { after, lines, head }: &Slice) -> Result<(), String> {
        let mut reached = *after;
        let (mut moves, mut stages) = (self.moves(), self.stages());
        for line in lines {
            let number = reached.number + 1;
            reached = audit::follow(&reached, line).map_err(|e| format!("record {number}: {e}"))?;
            let told = match self.said(line) {
                None => true,
                Some(Said::Move(event)) => moves
                    .next()
                    .is_some_and(|(record, step)| is_step(step, &event) && agrees(record, &event)),
                Some(Said::Stage(event)) => {
                    stages.next().zip(self.drill).is_some_and(|(step, drill)| {
                        is_step(step, &event) && drill_agrees(drill, &event)
                    })
                }
            };
            if !told {
                return Err(format!("record {number} says something else than the report"));
            }
        }
        if reached != *head {
            return Err(format!("its records end with {reached}, and should with {head}"));
        }
        if self.first().is_none() || moves.next().is_some() || stages.next().is_some() {
            return Err("a step that it tells of is not on record".into());
        }
        Ok(())
    }
}

fn is_step(step: &StepRecord, event: &Event) -> bool {
    step.at == event.stamp.at
        && step.voter == event.stamp.voter
        && step.monotonic_us == event.stamp.monotonic_us
        && step.note == event.cause
}

/// Whether the report says of a step what its record says.
fn agrees(record: &Record, event: &Event) -> bool {
    let Change::Service { change, .. } = &event.change else { return false };
    if let ServiceChange::Started { trigger, drill, readiness, .. } = change {
        return *trigger == record.trigger
            && *readiness == record.readiness
            && *drill == record.drill
            && event.by == record.by
            && event.cause == record.cause
            && event.plan == record.plan;
    }
    if let ServiceChange::PrimaryChosen { primary, examined, .. } = change {
        return record.to.as_ref() == Some(primary) && *examined == record.examined;
    }
    true
}

fn drill_agrees(drill: &Drill, event: &Event) -> bool {
    let Change::Drill { change, stage, .. } = &event.change else { return false };
    match change {
        DrillChange::Begun { kind, service, dwell, at_most, despite, target: _, occasion: _ } => {
            (*kind, service, *dwell) == (drill.kind, &drill.service, drill.dwell)
                && *at_most == drill.at_most
                && *despite == drill.despite
                && (&event.by, &event.cause) == (&drill.by, &drill.reason)
                && event.plan == drill.plan
        }
        DrillChange::StageDone { verdicts } => {
            *stage != Some(Stage::Check) || *verdicts == drill.verdicts
        }
        DrillChange::AbortAsked => drill
            .abort
            .as_ref()
            .is_some_and(|abort| (&abort.by, &abort.reason) == (&event.by, &event.cause)),
        DrillChange::Ended { outcome, verdicts, findings } => {
            let checked = *stage != Some(Stage::Check) || *verdicts == drill.verdicts;
            checked && *outcome == drill.outcome && *findings == drill.findings
        }
    }
}

/// Finds the slice of a story while the audit chain is read from its beginning.
#[derive(Debug)]
pub struct Search<'a> {
    story: Story<'a>,
    reached: Head,
    found: Option<Slice>,
    /// How much of the slice is certain: up to the last line that is a step of the story.
    certain: usize,
    /// How many steps have not been met yet.
    left: usize,
}

impl<'a> Search<'a> {
    /// For this story.
    #[must_use]
    pub fn new(story: Story<'a>) -> Self {
        let left = story.steps();
        Self { story, reached: Head::default(), found: None, certain: 0, left }
    }

    /// Takes the next line; `true`: there is nothing more to find.
    ///
    /// # Errors
    /// When the line does not follow the one before it.
    pub fn take(&mut self, line: &str) -> Result<bool, String> {
        let before = self.reached;
        self.reached = audit::follow(&before, line)?;
        let said = self.story.said(line);
        if self.found.is_none() && said.as_ref().is_some_and(|said| self.story.begins(said)) {
            self.found = Some(Slice { after: before, lines: Vec::new(), head: before });
        }
        let Some(slice) = &mut self.found else { return Ok(false) };
        slice.lines.push(line.to_owned());
        if said.is_some_and(|said| self.story.tells(&said)) {
            self.certain = slice.lines.len();
            slice.head = self.reached;
            self.left = self.left.saturating_sub(1);
        }
        Ok(self.left == 0)
    }

    /// What was found.
    #[must_use]
    pub fn done(self) -> Option<Slice> {
        let mut slice = self.found?;
        slice.lines.truncate(self.certain);
        Some(slice)
    }
}
