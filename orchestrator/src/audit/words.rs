//! Events and requests in words, for those who read the record.

use failover::Request;
use failover::drill::{DrillChange, Stage};
use failover::event::{Change, Event, NoteKind, ServiceChange};
use failover::ids::{DrillId, ServiceId};

/// A request in one line, without what may be long.
#[must_use]
pub fn asked(request: &Request) -> String {
    match request {
        Request::Apply { expected, .. } => format!("replace topology {expected}"),
        Request::Switchover { service, to: None, .. } => format!("switch {service} over"),
        Request::Switchover { service, to: Some(to), .. } => {
            format!("switch {service} over to {to}")
        }
        Request::Failover { service, .. } => format!("fail {service} over"),
        Request::Hold { service, .. } => format!("hold {service}"),
        Request::Resume { service, .. } => format!("resume {service}"),
        Request::Forgo { service, from, to, .. } => {
            format!("give up commits of {service} in doubt at {from}..{to}")
        }
        Request::AcceptLoss { service, kept, bytes, .. } => format!(
            "fail {service} over and lose what is behind {kept}, {}",
            failover::loss::told(*bytes)
        ),
        Request::Drill { kind, service, .. } => {
            format!("drill {service}: {}", kind.name())
        }
        Request::AbortDrill { drill, .. } => format!("give drill {drill} up"),
        Request::Acknowledge { alert, .. } => format!("acknowledge alert {alert}"),
        Request::AddVoter { id, voter, .. } => format!("add voter {id}, {}", voter.name),
        Request::RemoveVoter { id, .. } => format!("remove voter {id}"),
        Request::Approve { plan, .. } => format!("approve {plan}"),
        Request::Withdraw { plan, .. } => format!("withdraw {plan}"),
    }
}

/// What kind of record an event makes.
#[must_use]
pub fn kind(event: &Event) -> &'static str {
    match &event.change {
        Change::Noted { note } => match note.kind {
            NoteKind::Began => "began",
            NoteKind::Key => "key",
            NoteKind::Login => "login",
            NoteKind::Question => "question",
            NoteKind::Refusal => "refusal",
            NoteKind::Hook => "hook",
        },
        // What a drill decides to do is its own, though it says by which drill.
        Change::Service { change: ServiceChange::Started { drill: Some(_), .. }, .. }
        | Change::Drill { change: DrillChange::Begun { occasion: Some(_), .. }, .. } => "decision",
        Change::Topology { .. }
        | Change::VoterSet { .. }
        | Change::VoterRemoved { .. }
        | Change::Asked { .. }
        | Change::Withdrawn { .. }
        | Change::Drill { .. }
        | Change::Occasion { .. }
        | Change::Alert { .. }
        | Change::Service { .. } => {
            if event.by == "baton" {
                "decision"
            } else {
                "command"
            }
        }
    }
}

/// Whether an event is there for the record only.
#[must_use]
pub fn is_note(event: &Event) -> bool {
    matches!(event.change, Change::Noted { .. })
}

/// The service that an event is about.
#[must_use]
pub fn about(event: &Event) -> Option<&ServiceId> {
    match &event.change {
        Change::Service { service, .. }
        | Change::Drill { change: DrillChange::Begun { service, .. }, .. } => Some(service),
        Change::Noted { note } => note.service.as_ref(),
        Change::Asked { request, .. } => request.service(),
        Change::Topology { .. }
        | Change::VoterSet { .. }
        | Change::VoterRemoved { .. }
        | Change::Withdrawn { .. }
        | Change::Occasion { .. }
        | Change::Alert { .. }
        | Change::Drill { .. } => None,
    }
}

/// What an event says, in one line.
#[must_use]
pub fn what(event: &Event) -> String {
    let text = match &event.change {
        Change::Topology { expected, .. } => format!("topology after version {expected}"),
        Change::VoterSet { id, voter } => {
            format!("voter {id} is {} at {}", voter.name, voter.address)
        }
        Change::VoterRemoved { id } => format!("voter {id} is removed"),
        Change::Noted { note } if note.times > 1 => format!("{} ({} times)", note.text, note.times),
        Change::Noted { note } => note.text.clone(),
        Change::Service { change, .. } => of_service(change),
        Change::Asked { plan, request, .. } => {
            format!("a second person is to approve {plan}: {}", asked(request))
        }
        Change::Withdrawn { plan } => format!("what waited under {plan} is withdrawn"),
        Change::Occasion { entry, missed: None, .. } => {
            format!("calendar: {entry} is held from here on")
        }
        Change::Occasion { entry, missed: Some(why), .. } => {
            format!("calendar: {entry} is missed: {why}")
        }
        Change::Drill { drill, stage, change } => of_drill(*drill, *stage, change),
        Change::Alert { key, change } => change.words(key),
    };
    let text = if event.cause.is_empty() { text } else { format!("{text}: {}", event.cause) };
    match event.authority.as_ref().and_then(|authority| authority.approved.as_ref()) {
        Some(yes) => format!("{text}; approved by {} ({}): {}", yes.by, yes.role, yes.reason),
        None => text,
    }
}

fn of_drill(drill: DrillId, stage: Option<Stage>, change: &DrillChange) -> String {
    match change {
        DrillChange::Begun { kind, service, .. } => {
            format!("drill {drill} of {service} begins: {}", kind.name())
        }
        DrillChange::StageDone { .. } => {
            let stage = stage.map_or("", Stage::name);
            format!("drill {drill}: {stage} is done")
        }
        DrillChange::AbortAsked => format!("drill {drill} is given up"),
        DrillChange::Ended { outcome, .. } => format!("drill {drill} {}", outcome.told()),
    }
}

fn of_service(change: &ServiceChange) -> String {
    match change {
        ServiceChange::Started { target: None, step, .. } => {
            format!("a transition begins at {}", step.name())
        }
        ServiceChange::Started { target: Some(target), step, .. } => {
            format!("a transition to {target} begins at {}", step.name())
        }
        ServiceChange::StepDone => String::from("a step is done"),
        ServiceChange::PrimaryChosen { primary, .. } => format!("{primary} is chosen"),
        ServiceChange::Aborted => String::from("the transition is rolled back"),
        ServiceChange::RuleRecorded { rule } => {
            format!("synchronous rule: {}", failover::quorum::describe(rule))
        }
        ServiceChange::Identified { system_identifier } => {
            format!("system identifier {system_identifier}")
        }
        ServiceChange::Doubted { from, position, .. } => {
            format!("commits at {from}..{} in doubt", position.lsn)
        }
        ServiceChange::Settled { upto } => format!("nothing up to {upto} is in doubt any more"),
        ServiceChange::Forgone { from, to } => {
            format!("commits at {from}..{to}, perhaps acknowledged, are given up")
        }
        ServiceChange::Held { .. } => String::from("automation on hold"),
        ServiceChange::Resumed => String::from("automation resumed"),
    }
}
