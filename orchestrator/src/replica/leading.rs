//! What only a leader does: decide, propose, confirm its leadership, move away from primaries.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use failover::event::{Change, Event};
use failover::ids::{DrillId, Incarnation, InstanceId, ServiceId, VoterId};
use failover::{Moment, Verdict, View, decide_one};
use raft::{ProgressState, ReadState, SnapshotStatus};

use super::drills::{Drilling, Following};
use super::notes::{Then, Why};
use super::{ELECTION_TICKS, Output, Replica, Reply, Token};
use crate::answers::Accepted;
use crate::audit::Ledger;
use crate::message::{EVENT_BYTES, Members};

/// Leadership moves at most this often.
const TRANSFER_EVERY: Duration = Duration::from_secs(10);
/// A new leader stays at least this long.
const TRANSFER_AFTER: Duration = Duration::from_secs(2);
/// How many election timeouts a snapshot may take to arrive.
const SNAPSHOT_PATIENCE: u32 = 10;

/// Whose case is to be judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Due {
    #[default]
    Nobody,
    /// Of those not judged lately: time has passed.
    Old,
    One(ServiceId),
    All,
}

impl Due {
    pub(super) fn add(&mut self, other: Self) {
        if *self == Self::Nobody {
            *self = other;
        } else if *self != other {
            *self = Self::All;
        }
    }
}

/// One leadership: all that is forgotten when it ends.
pub(super) struct Lead {
    pub(super) term: u64,
    pub(super) since: Moment,
    /// When it last judged.
    judged: Moment,
    pub(super) view: View,
    /// What was judged of each service, and when.
    pub(super) verdicts: BTreeMap<ServiceId, (Moment, Verdict)>,
    /// When each primary was last given a lease.
    pub(super) leases: BTreeMap<ServiceId, Moment>,
    /// Reports of primaries that wait for a round to begin.
    pub(super) waiting: Vec<(Token, InstanceId)>,
    pub(super) round: Option<Round>,
    pub(super) looked: BTreeMap<InstanceId, Moment>,
    pub(super) described: BTreeMap<VoterId, Moment>,
    /// Incarnations heard of voters whose log entry has none.
    pub(super) incarnations: BTreeMap<VoterId, Incarnation>,
    proposals: BTreeMap<String, Proposal>,
    pub(super) drilling: Drilling,
    pub(super) following: Following,
    /// When the proposal that begins the record was last made.
    pub(super) began: Option<Moment>,
    /// What is noted and not in the log yet.
    pub(super) ledger: Ledger,
    counter: u64,
    /// It is asked to leave the group, and must let another lead first.
    pub(super) leaves: bool,
    transferred: Option<Moment>,
    /// Since when each voter has owed the receipt of a snapshot.
    snapshots: BTreeMap<VoterId, Moment>,
}

/// The drill that a change is about.
fn about_drill(change: &Change) -> Option<DrillId> {
    if let Change::Drill { drill, .. } = change { Some(*drill) } else { None }
}

/// What waits for a second person by a change.
fn waiting(change: &Change) -> Option<String> {
    if let Change::Asked { plan, .. } = change { Some(plan.clone()) } else { None }
}

/// A round of heartbeats that confirms leadership, and the reports it answers.
pub(super) struct Round {
    context: String,
    began: Moment,
    reports: Vec<(Token, InstanceId)>,
}

struct Proposal {
    at: Moment,
    service: Option<ServiceId>,
    drill: Option<DrillId>,
    /// The plan that waits for a second person once this is committed.
    waits: Option<String>,
    then: Then,
}

impl Lead {
    pub(super) fn new(term: u64, now: Moment) -> Self {
        Self {
            term,
            since: now,
            judged: now,
            view: View::new(term, now),
            verdicts: BTreeMap::new(),
            leases: BTreeMap::new(),
            waiting: Vec::new(),
            round: None,
            looked: BTreeMap::new(),
            described: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            proposals: BTreeMap::new(),
            drilling: Drilling::default(),
            following: Following::default(),
            began: None,
            ledger: Ledger::new(super::notes::ALIKE),
            counter: 0,
            leaves: false,
            transferred: None,
            snapshots: BTreeMap::new(),
        }
    }

    /// What is proposed and not settled: of which service, of which drill.
    pub(super) fn proposed(&self) -> impl Iterator<Item = (Option<&ServiceId>, Option<DrillId>)> {
        self.proposals.values().map(|proposal| (proposal.service.as_ref(), proposal.drill))
    }

    /// The answers to everything that this leadership leaves open.
    pub(super) fn abandoned(&self) -> Vec<Output> {
        let reports = self.waiting.iter().chain(self.round.iter().flat_map(|r| &r.reports));
        let unanswered =
            reports.map(|(token, _)| Output::Reply { token: *token, reply: Reply::NoLeader });
        let in_doubt = self.proposals.values().filter_map(|proposal| {
            let in_doubt = Reply::InDoubt(
                "the leader changed before this was committed; it may yet take effect: read the \
                 history before asking again"
                    .into(),
            );
            let (token, settled) = proposal.then.as_ref()?;
            let reply = if settled.is_some() { Reply::NoLeader } else { in_doubt };
            Some(Output::Reply { token: *token, reply })
        });
        unanswered.chain(in_doubt).collect()
    }
}

impl Replica {
    /// Whether what was committed before this leadership is applied: until then it knows less
    /// than the leader before it did, and decides nothing.
    pub(super) fn is_informed(&self) -> bool {
        self.raw.raft.commit_to_current_term()
            && self.applied.index == self.raw.raft.raft_log.committed
    }

    /// Decides and proposes. `true`: Raft has new work.
    pub(super) fn lead_on(&mut self) -> bool {
        if self.lead.is_none() || !self.is_informed() {
            return false;
        }
        let recorded = self.begin_record();
        let judges = self.due != Due::Nobody;
        let decided = self.decide();
        let drilled = judges && (self.decide_drill() | self.follow_calendar());
        let described = self.describe_voters();
        let begun = self.begin_round();
        recorded || decided || drilled || described || begun
    }

    fn decide(&mut self) -> bool {
        let due = std::mem::take(&mut self.due);
        if due == Due::Nobody {
            return false;
        }
        let now = self.clocks.now;
        let patience = self.setup.election_timeout;
        let Some(lead) = &mut self.lead else { return false };
        if now.since(lead.judged) > patience {
            // It judges at every tick, so it was stopped: what it did not hear meanwhile is no
            // silence of others (I-26). Where nobody else was elected, it begins as if it had been.
            tracing::warn!("nothing was judged for a while: the evidence is gathered anew");
            lead.view = View::new(lead.term, now);
        }
        lead.judged = now;
        lead.view.follow(&self.cluster, now);
        lead.verdicts.retain(|id, _| self.cluster.services.contains_key(id));
        let lately = patience / u32::from(ELECTION_TICKS) / 2;
        for id in self.cluster.services.keys() {
            let judged = lead.verdicts.get(id).map(|(at, _)| *at);
            let wanted = match &due {
                Due::Nobody => false,
                Due::Old => judged.is_none_or(|at| now.since(at) >= lately),
                Due::One(one) => one == id,
                Due::All => true,
            };
            if wanted && let Some(verdict) = decide_one(&self.cluster, id, &lead.view, now) {
                lead.verdicts.insert(id.clone(), (now, verdict));
            }
        }
        let outstanding: Vec<&ServiceId> =
            lead.proposals.values().filter_map(|p| p.service.as_ref()).collect();
        let wanted: Vec<(ServiceId, Change, String)> = lead
            .verdicts
            .iter()
            .filter(|(service, (at, _))| *at == now && !outstanding.contains(service))
            .filter_map(|(service, (_, verdict))| {
                let (change, cause) = verdict.change.clone()?;
                Some((service.clone(), change, cause))
            })
            .collect();
        let mut proposed = false;
        for (service, change, cause) in wanted {
            tracing::info!(%service, "proposing: {cause}");
            proposed |= self.propose(change, cause, "baton", Some(service), None).is_ok();
        }
        proposed
    }

    /// Proposes a change; `service`: nothing else is proposed for it until this is done.
    pub(super) fn propose(
        &mut self,
        change: Change,
        why: impl Into<Why>,
        by: &str,
        service: Option<ServiceId>,
        then: Then,
    ) -> Result<(), String> {
        let change = self.with_readiness(change);
        let members = self.members_of(&change);
        let Why { cause, plan, authority } = why.into();
        let event = Event { stamp: self.stamp(), by: by.into(), cause, plan, authority, change };
        let drill = about_drill(&event.change);
        let waits = waiting(&event.change);
        let text = serde_json::to_string(&event).map_err(|e| e.to_string())?;
        if text.len() > EVENT_BYTES {
            return Err(format!("an event of {} bytes is too large", text.len()));
        }
        let id = self.proposal_id().ok_or("this voter does not lead")?;
        let context = id.clone().into_bytes();
        let proposed = match members {
            None => self.raw.propose(context, text.into_bytes()),
            Some((add, remove)) => {
                let change = Members { add, remove, event: text }.to_raft();
                self.raw.propose_conf_change(context, change)
            }
        };
        proposed.map_err(|e| format!("Raft: {e}"))?;
        let at = self.clocks.now;
        if let Some(lead) = &mut self.lead {
            lead.proposals.insert(id, Proposal { at, service, drill, waits, then });
        }
        Ok(())
    }

    fn proposal_id(&mut self) -> Option<String> {
        let voter = self.setup.id;
        let lead = self.lead.as_mut()?;
        lead.counter += 1;
        Some(format!("{voter}.{}.{}", lead.term, lead.counter))
    }

    /// A proposal of this leadership, if it is one, has been applied.
    pub(super) fn proposal_applied(&mut self, id: &str, had_effect: bool) {
        let Some(lead) = &mut self.lead else { return };
        let Some(proposal) = lead.proposals.remove(id) else { return };
        let (drill, waits) = (proposal.drill, proposal.waits);
        let Some((token, settled)) = proposal.then else { return };
        let reply = if let Some(reply) = settled {
            reply
        } else if let Some(hash) = waits.filter(|_| had_effect) {
            Reply::Accepted(self.waits(&hash))
        } else if had_effect {
            let newest = self.cluster.history.back();
            let open = newest
                .and_then(|entry| entry.service.as_ref())
                .and_then(|service| self.cluster.services.get(service))
                .and_then(|service| service.transition.as_ref());
            Reply::Accepted(Accepted {
                revision: self.cluster.revision,
                transition: open.map(|transition| transition.id).filter(|_| drill.is_none()),
                drill,
                text: newest.map(|entry| entry.text.clone()).unwrap_or_default(),
                waits: None,
            })
        } else {
            Reply::Refused {
                error: "the state changed before this was committed: nothing happened, ask again"
                    .into(),
                findings: Vec::new(),
            }
        };
        self.outputs.push(Output::Reply { token, reply });
    }

    /// Begins a round for all reports that wait, if none is on its way.
    fn begin_round(&mut self) -> bool {
        let now = self.clocks.now;
        let timeout = self.setup.election_timeout;
        let voter = self.setup.id;
        let Some(lead) = &mut self.lead else { return false };
        if let Some(round) = &mut lead.round {
            if now.since(round.began) < timeout {
                return false;
            }
            // Its heartbeats may be lost: those who still wait go with the next.
            lead.waiting.append(&mut round.reports);
            lead.round = None;
        }
        if lead.waiting.is_empty() {
            return false;
        }
        lead.counter += 1;
        let context = format!("{voter}.{}.{}", lead.term, lead.counter);
        let reports = std::mem::take(&mut lead.waiting);
        lead.round = Some(Round { context: context.clone(), began: now, reports });
        self.raw.read_index(context.into_bytes());
        true
    }

    /// A quorum has confirmed this leadership since the round began.
    pub(super) fn round_done(&mut self, read: &ReadState) {
        let applied = self.applied.index;
        let Some(lead) = &mut self.lead else { return };
        let Some(round) = lead.round.take() else { return };
        if round.context.as_bytes() != read.request_ctx.as_slice() || applied < read.index {
            lead.round = Some(round);
            return;
        }
        for (token, instance) in round.reports {
            let reply = self.answer_confirmed(&instance);
            self.outputs.push(Output::Reply { token, reply });
        }
    }

    /// Forgets proposals that Raft lost, and moves leadership where it should be.
    pub(super) fn lead_tick(&mut self) {
        let now = self.clocks.now;
        let timeout = self.setup.election_timeout;
        let Some(lead) = &mut self.lead else { return };
        let overdue: Vec<String> = lead
            .proposals
            .iter()
            .filter(|(_, proposal)| now.since(proposal.at) >= timeout * 2)
            .map(|(id, _)| id.clone())
            .collect();
        for proposal in overdue.iter().filter_map(|id| lead.proposals.remove(id)) {
            if let Some((token, settled)) = proposal.then {
                let in_doubt = Reply::InDoubt(
                    "not committed in time; it may yet take effect: read the history before \
                     asking again"
                        .into(),
                );
                let reply = if settled.is_some() { Reply::NoLeader } else { in_doubt };
                self.outputs.push(Output::Reply { token, reply });
            }
        }
        self.repeat_snapshots();
        self.tell_counted();
        // Only once that it was refused is on record: a leader that hands over adds nothing to it.
        if self.lead.as_ref().is_some_and(|lead| lead.leaves) {
            self.hand_over();
        }
        self.look_at_the_overdue();
        self.move_away();
    }

    /// What was sent to a voter did not arrive. A snapshot that is lost is not repeated by Raft
    /// unless it is told.
    pub(super) fn not_delivered(&mut self, voter: VoterId) {
        self.raw.report_unreachable(voter.0);
        let progress = self.raw.raft.prs().get(voter.0).map(|progress| progress.state);
        if progress == Some(ProgressState::Snapshot) {
            self.raw.report_snapshot(voter.0, SnapshotStatus::Failure);
        }
    }

    /// A snapshot may be lost behind a delivery that looked good, too.
    fn repeat_snapshots(&mut self) {
        let now = self.clocks.now;
        let patience = self.setup.election_timeout * SNAPSHOT_PATIENCE;
        let waiting: BTreeSet<VoterId> = self
            .raw
            .raft
            .prs()
            .iter()
            .filter(|(_, progress)| progress.state == ProgressState::Snapshot)
            .map(|(id, _)| VoterId(*id))
            .collect();
        let Some(lead) = &mut self.lead else { return };
        lead.snapshots.retain(|id, _| waiting.contains(id));
        let mut overdue = Vec::new();
        for id in waiting {
            let since = *lead.snapshots.entry(id).or_insert(now);
            if now.since(since) >= patience {
                lead.snapshots.remove(&id);
                overdue.push(id);
            }
        }
        for id in overdue {
            self.raw.report_snapshot(id.0, SnapshotStatus::Failure);
        }
    }

    /// Leadership belongs where no primary is: the loss of a primary's site then costs no election.
    fn move_away(&mut self) {
        let now = self.clocks.now;
        let Some(lead) = &self.lead else { return };
        let busy = self.cluster.services.values().any(|s| s.transition.is_some())
            || !lead.proposals.is_empty()
            || now.since(lead.since) < TRANSFER_AFTER
            || lead.transferred.is_some_and(|at| now.since(at) < TRANSFER_EVERY);
        if busy || !self.is_informed() {
            return;
        }
        let here = self.primaries_at(self.setup.id);
        if here > 0 && self.successor().is_some_and(|(primaries, ..)| primaries < here) {
            self.hand_over();
        }
    }

    /// Hands leadership to the voter that is placed best.
    pub(super) fn hand_over(&mut self) {
        let Some((_, _, voter)) = self.successor() else { return };
        tracing::info!(to = %voter, "handing leadership on");
        self.raw.transfer_leader(voter.0);
        let now = self.clocks.now;
        if let Some(lead) = &mut self.lead {
            lead.transferred = Some(now);
            lead.leaves = false;
        }
    }

    /// The best placed of the voters that could lead now: primaries and instances at its site.
    fn successor(&self) -> Option<(usize, usize, VoterId)> {
        let now = self.clocks.now;
        let last = self.raw.raft.raft_log.last_index();
        let patience = self.setup.election_timeout;
        self.raw
            .raft
            .prs()
            .iter()
            .filter(|(id, progress)| {
                let voter = VoterId(**id);
                voter != self.setup.id
                    && self.raw.raft.prs().conf().voters().contains(**id)
                    && progress.matched == last
                    && self.heard.get(&voter).is_some_and(|at| now.since(*at) < patience)
            })
            .map(|(id, _)| VoterId(*id))
            .map(|voter| (self.primaries_at(voter), self.instances_at(voter), voter))
            .min()
    }
}
