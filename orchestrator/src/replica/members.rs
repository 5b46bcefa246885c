//! Who is in the group, and who may speak for whom.

use std::collections::BTreeSet;
use std::time::Duration;

use failover::cluster::Voter;
use failover::event::Change;
use failover::ids::VoterId;
use raft::StateRole;

use super::{LEADERLESS_TICKS, Replica, Reply};
use crate::message::{Envelope, Refusal};

/// The same refusal of a voter's messages is logged this often.
const SAID_AGAIN: Duration = Duration::from_mins(1);
/// Another one this often.
const SAID_LATELY: Duration = Duration::from_secs(1);
/// How often a voter's description is proposed again while it has no effect.
const DESCRIBE_EVERY: Duration = Duration::from_secs(5);

/// What a voter's place in the order of candidates depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ranked {
    term: u64,
    applied: u64,
    joined: usize,
    leaderless: bool,
}

impl Replica {
    /// A leader is not removed by its own hand, but one that is elected with its removal in its
    /// log finds itself outside the group. The library would let it lead on, unable to propose,
    /// and panic when it next counts itself.
    pub(super) fn step_down_when_removed(&mut self) {
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Leader && !raft.prs().conf().voters().contains(raft.id) {
            raft.become_follower(raft.term, 0);
        }
    }

    /// What is known of a voter: the log has the last word; before it has spoken, the
    /// configuration; for one that joined while this voter was away, those who were there.
    pub fn voter(&self, id: VoterId) -> Option<&Voter> {
        let recorded = self.cluster.voters.get(&id);
        let initial = || self.setup.group.get(&id).filter(|_| !self.is_recorded());
        recorded.or_else(initial).or_else(|| self.joined.get(&id))
    }

    /// Everyone this voter may send to.
    pub fn peers(&self) -> Vec<(VoterId, Voter)> {
        let mut all: BTreeSet<VoterId> = self.group_members();
        all.extend(self.cluster.voters.keys());
        all.extend(self.joined.keys());
        if !self.is_recorded() {
            all.extend(self.setup.group.keys());
        }
        all.remove(&self.setup.id);
        all.into_iter().filter_map(|id| Some((id, self.voter(id)?.clone()))).collect()
    }

    /// An empty envelope for `to`.
    pub fn envelope(&self, to: VoterId) -> Envelope {
        let joined = self.cluster.voters.iter();
        let joined = joined.filter(|(id, _)| !self.setup.group.contains_key(id));
        Envelope {
            cluster: self.setup.cluster.clone(),
            from: self.setup.id,
            to,
            incarnation: self.setup.incarnation.clone(),
            expects: self.cluster.voters.get(&to).and_then(|voter| voter.incarnation.clone()),
            joined: joined.map(|(id, voter)| (*id, voter.clone())).collect(),
            look: Vec::new(),
            lacks: None,
            records: Vec::new(),
            messages: Vec::new(),
        }
    }

    /// The members as Raft counts them, in a joint phase those before it too.
    pub(super) fn group_members(&self) -> BTreeSet<VoterId> {
        self.raw.raft.prs().iter().map(|(id, _)| VoterId(*id)).collect()
    }

    /// Whether every member is described in the log; from then on the configuration's initial
    /// group means nothing, so that a removed voter stays removed.
    fn is_recorded(&self) -> bool {
        !self.cluster.voters.is_empty()
            && self.group_members().iter().all(|id| self.cluster.voters.contains_key(id))
    }

    /// Whether the log says of every member what its disk was born with.
    pub(super) fn is_described(&self) -> bool {
        self.raw.raft.prs().iter().all(|(id, _)| {
            let recorded = self.cluster.voters.get(&VoterId(*id));
            recorded.is_some_and(|voter| voter.incarnation.is_some())
        })
    }

    pub(super) fn check_sender(&self, name: &str, envelope: &Envelope) -> Result<(), Refusal> {
        let refuse = |reason: String| Err(Refusal(reason));
        if envelope.cluster != self.setup.cluster || envelope.to != self.setup.id {
            return refuse(format!(
                "meant for voter {} of cluster `{}`",
                envelope.to, envelope.cluster
            ));
        }
        if envelope.from == self.setup.id {
            return refuse("it claims to come from this voter".into());
        }
        let Some(voter) = self.voter(envelope.from) else {
            return refuse(format!("voter {} is not of this group", envelope.from));
        };
        if voter.name != name {
            return refuse(format!(
                "voter {} is `{}`, and the certificate says `{name}`",
                envelope.from, voter.name
            ));
        }
        if voter.incarnation.as_ref().is_some_and(|known| *known != envelope.incarnation) {
            return refuse(format!(
                "voter {} has lost its disk since it joined (I-22): remove it and add it again \
                 under a new number",
                envelope.from
            ));
        }
        Ok(())
    }

    pub(super) fn note_refusal(&mut self, from: VoterId, name: &str, refusal: Refusal) {
        let now = self.clocks.now;
        let said = self.refusals.get(&from).is_some_and(|(at, text)| {
            now.since(*at) < SAID_AGAIN && (*text == refusal.0 || now.since(*at) < SAID_LATELY)
        });
        if said || (self.refusals.len() >= 64 && !self.refusals.contains_key(&from)) {
            return;
        }
        tracing::warn!(%from, name, "message refused: {refusal}");
        self.refusals.insert(from, (now, refusal.0));
    }

    /// As leader: remembers what a voter's disk was born with, to be recorded.
    pub(super) fn note_incarnation(&mut self, envelope: &Envelope) {
        if let Some(lead) = &mut self.lead {
            let newly = lead.incarnations.insert(envelope.from, envelope.incarnation.clone());
            if newly.is_none() {
                lead.described.remove(&envelope.from);
            }
        }
    }

    /// What a change means for the group: whom to add, whom to remove. A description of a member
    /// changes nothing.
    pub(super) fn members_of(&self, change: &Change) -> Option<(Vec<u64>, Vec<u64>)> {
        let members = self.group_members();
        match change {
            Change::VoterSet { id, .. } if !members.contains(id) => Some((vec![id.0], Vec::new())),
            Change::VoterRemoved { id } if members.contains(id) => Some((Vec::new(), vec![id.0])),
            Change::VoterSet { .. }
            | Change::VoterRemoved { .. }
            | Change::Topology { .. }
            | Change::Asked { .. }
            | Change::Withdrawn { .. }
            | Change::Noted { .. }
            | Change::Drill { .. }
            | Change::Occasion { .. }
            | Change::Alert { .. }
            | Change::Service { .. } => None,
        }
    }

    /// One change of the group at a time, and only of a group that the log describes.
    pub(super) fn group_can_change(&mut self, change: &Change) -> Result<(), Reply> {
        let Some((_, remove)) = self.members_of(change) else { return Ok(()) };
        let refuse =
            |error: &str| Err(Reply::Refused { error: error.into(), findings: Vec::new() });
        if !self.is_recorded() {
            return refuse("not every voter is recorded yet: ask again in a few seconds");
        }
        let joint = !self.raw.raft.prs().conf().to_conf_state().voters_outgoing.is_empty();
        if joint || self.raw.raft.has_pending_conf() {
            return refuse("another change of the group is under way: ask again when it is done");
        }
        if !remove.is_empty() && self.group_members().len() <= 1 {
            return refuse("the last voter cannot be removed");
        }
        if remove.contains(&self.setup.id.0) {
            // A leader that is no member could neither decide nor let another lead.
            if let Some(lead) = &mut self.lead {
                lead.leaves = true;
            }
            return refuse("this voter leads: it hands leadership on; ask again in a few seconds");
        }
        Ok(())
    }

    /// How much this voter should lead: most at a witness, least at a site with a primary. After
    /// a while without a leader nobody is preferred: a preferred voter whose log is behind could
    /// otherwise keep the only electable one from office for ever.
    pub(super) fn priority(&self, id: VoterId) -> i64 {
        if self.leaderless > LEADERLESS_TICKS || self.primaries_at(id) > 0 {
            return 0;
        }
        if self.instances_at(id) > 0 { 1 } else { 2 }
    }

    /// A voter's place in the order of candidates, from 0: by priority, then by a throw of the
    /// dice that is another one in every term, and the same for all who know the same.
    pub(super) fn rank_of(&self, id: VoterId) -> usize {
        let term = self.raw.raft.term;
        let standing = |id: VoterId| {
            let mixed = (term ^ self.setup.seed ^ (id.0 << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (-self.priority(id), mixed >> 32, id)
        };
        let own = standing(id);
        self.group_members().into_iter().filter(|other| standing(*other) < own).count()
    }

    /// Takes this voter's rank and priority anew when what they are made from has changed.
    pub(super) fn take_rank(&mut self) {
        let ranked = Ranked {
            term: self.raw.raft.term,
            applied: self.applied.index,
            joined: self.joined.len(),
            leaderless: self.leaderless > LEADERLESS_TICKS,
        };
        if self.ranked != Some(ranked) {
            self.ranked = Some(ranked);
            self.raw.set_priority(self.priority(self.setup.id));
            self.rank = self.rank_of(self.setup.id);
        }
    }

    /// How many primaries stand at a voter's site.
    pub(super) fn primaries_at(&self, id: VoterId) -> usize {
        let Some(voter) = self.voter(id) else { return 0 };
        self.cluster
            .services
            .values()
            .filter(|service| {
                let primary = service.primary.as_ref();
                primary.and_then(|primary| service.site_of(primary)) == Some(&voter.site)
            })
            .count()
    }

    /// How many instances stand at a voter's site.
    pub(super) fn instances_at(&self, id: VoterId) -> usize {
        let Some(voter) = self.voter(id) else { return 0 };
        let all = self.cluster.services.values().flat_map(|s| s.spec.instances.values());
        all.filter(|instance| instance.site == voter.site).count()
    }

    /// Records voters of the initial group, and what every voter's disk was born with.
    pub(super) fn describe_voters(&mut self) -> bool {
        if self.is_described() {
            return false;
        }
        let now = self.clocks.now;
        let mut due: Vec<(VoterId, Voter)> = Vec::new();
        let Some(lead) = &self.lead else { return false };
        // Not those who leave in a joint phase: their removal is what the log says last of them.
        for id in self.raw.raft.prs().conf().to_conf_state().voters.into_iter().map(VoterId) {
            let Some(mut voter) = self.voter(id).cloned() else { continue };
            let recorded = self.cluster.voters.get(&id);
            if recorded.is_some_and(|voter| voter.incarnation.is_some()) {
                continue;
            }
            let own = (id == self.setup.id).then_some(&self.setup.incarnation);
            voter.incarnation = own.or(lead.incarnations.get(&id)).cloned();
            let lately = lead.described.get(&id).is_some_and(|at| now.since(*at) < DESCRIBE_EVERY);
            if !lately && recorded != Some(&voter) {
                due.push((id, voter));
            }
        }
        let mut proposed = false;
        for (id, voter) in due {
            let cause = format!("voter {id} is {}", voter.name);
            let change = Change::VoterSet { id, voter };
            proposed |= self.propose(change, cause, "baton", None, None).is_ok();
            if let Some(lead) = &mut self.lead {
                lead.described.insert(id, now);
            }
        }
        proposed
    }
}
