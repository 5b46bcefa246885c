//! What the agent knows now, and the two accounts it gives of it: [`Local`] to the law, and the
//! [`Report`] to the orchestrator.

use crate::admission;
use crate::history;
use crate::layout::Layout;
use crate::pledge::Memory;
use crate::probe::Facts;
use crate::settings::Dynamic;
use crate::survey::Looked;
use failover::checks::Checks;
use failover::comply::{Configured, Divergence, Local};
use failover::fitness::has_no_room;
use failover::hang::{Hang, Look};
use failover::position::{Position, reaches};
use failover::report::{Down, Knock, Note, Proof, Receiver, Report, Server, Severity, Stream};
use failover::serving::MUTE_AFTER;
use failover::{
    Assignment, Epoch, Generation, InstanceId, Lsn, Moment, Revision, ServiceId, SystemIdentifier,
};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

mod seen;

/// Everything known, none of it on disk.
#[derive(Debug)]
pub struct State {
    /// Counts starts and ends of the server: what was begun in an earlier life means nothing.
    pub life: u64,
    /// The postmaster's number while it runs.
    pub pid: Option<u32>,
    /// The last postmaster that was seen to end.
    pub ended: Option<u32>,
    /// Why it does not run.
    pub down: Down,
    /// Since when.
    pub down_since: Moment,
    /// The data directory may not be touched: why.
    pub refusal: Option<String>,
    /// The identifier in the data directory.
    pub system_identifier: Option<SystemIdentifier>,
    /// The newest probe of this life.
    pub facts: Option<Facts>,
    /// When it began.
    pub looked: Moment,
    /// When the first probe since then began that was not answered.
    pub unanswered: Option<Moment>,
    /// The pulse under way: its session and when it began.
    pub commit: Option<(i32, Moment)>,
    /// For how long it has done nothing of what it must do by itself.
    hang: Hang,
    /// Where the facts say it stands.
    pub position: Position,
    /// What the files say.
    pub configured: Configured,
    /// Where it stands, sealed and still.
    pub sealed_at: Option<Position>,
    /// See [`Local::serves`].
    pub serves: bool,
    /// See [`Local::proven`].
    pub proven: Option<Epoch>,
    /// See [`Local::enforced`].
    pub enforced: Option<Generation>,
    /// See [`Local::prepared`].
    pub prepared: Option<Epoch>,
    /// See [`Local::leased`].
    pub leased: Option<Moment>,
    /// See [`Local::committed`].
    pub committed: Option<Moment>,
    /// See [`Local::started`].
    pub started: Moment,
    /// See [`Local::informed`].
    pub informed: bool,
    /// See [`Local::assigned`].
    pub assigned: Option<Moment>,
    /// See [`Local::isolated`].
    pub isolated: Option<Moment>,
    /// The newest assignment.
    pub assignment: Option<Assignment>,
    /// A proof of the marker is under way: in which life, for which epoch.
    pub proving: Option<(u64, Epoch)>,
    /// A proof of the rule is under way.
    pub enforcing: Option<(u64, Generation)>,
    /// When the newest cancelled wait was heard of.
    pub doubted: Option<Moment>,
    /// Commits were seen to wait in this life of the server, and nothing has put that in question
    /// since (F-15).
    pub waits: bool,
    /// A doubt could not be written down yet.
    pub unwritten: bool,
    /// Somebody overruled the rule, and it is not proven again yet (F-13).
    pub overruled: bool,
    /// The newest values of `synchronous_standby_names` of our own making.
    pub names: VecDeque<String>,
    /// A rewind is under way: the memory calls the directory beyond help until it is done.
    pub rewinding: bool,
    /// A stop was ordered.
    pub stopping: bool,
    /// The primary's log end at the last probes.
    ends: VecDeque<(Moment, Lsn)>,
    /// The stamp of the last message from the upstream, and when it can have come at the earliest.
    message: (f64, Moment),
    /// The last knock.
    pub knock: Option<(Knock, Moment)>,
    /// What was measured at leisure.
    pub checks: Checks,
    /// What was looked at rarely.
    pub survey: Looked,
    /// For people, by subject.
    pub notes: BTreeMap<String, Note>,
    /// How far the newest rehearsal is.
    pub rehearsed: Option<failover::drill::Rehearsed>,
}

/// Who speaks in a report.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// The service.
    pub service: ServiceId,
    /// The instance.
    pub instance: InstanceId,
    /// PostgreSQL's version.
    pub version: String,
}

impl State {
    /// Nothing known yet.
    pub fn new(now: Moment) -> Self {
        Self {
            life: 0,
            pid: None,
            ended: None,
            down: Down::NotStarted,
            down_since: now,
            refusal: None,
            system_identifier: None,
            facts: None,
            looked: Moment(0),
            unanswered: None,
            commit: None,
            hang: Hang::default(),
            position: Position::default(),
            configured: Configured::default(),
            sealed_at: None,
            serves: false,
            proven: None,
            enforced: None,
            prepared: None,
            leased: None,
            committed: None,
            started: now,
            informed: false,
            assigned: None,
            isolated: None,
            assignment: None,
            proving: None,
            enforcing: None,
            doubted: None,
            waits: false,
            unwritten: false,
            overruled: false,
            names: VecDeque::new(),
            rewinding: false,
            stopping: false,
            ends: VecDeque::new(),
            message: (0.0, now),
            knock: None,
            checks: Checks::default(),
            survey: Looked::default(),
            notes: BTreeMap::new(),
            rehearsed: None,
        }
    }

    /// The server was started, or found running.
    pub fn begin_life(&mut self, pid: u32) {
        self.forget();
        self.pid = Some(pid);
        self.stopping = false;
    }

    /// The server ended, and nothing of it is left.
    pub fn end_life(&mut self, down: Down, now: Moment) {
        self.forget();
        self.pid = None;
        self.down = down;
        self.down_since = now;
        self.stopping = false;
    }

    fn forget(&mut self) {
        self.life += 1;
        self.facts = None;
        self.unanswered = None;
        self.commit = None;
        self.hang = Hang::default();
        self.sealed_at = None;
        self.serves = false;
        self.proven = None;
        self.enforced = None;
        self.proving = None;
        self.enforcing = None;
        self.waits = false;
        self.checks = Checks::default();
        self.survey = Looked::default();
        self.ends.clear();
    }

    /// Takes over what a probe that began at `began` saw.
    pub fn note_facts(&mut self, facts: Facts, began: Moment, layout: &Layout) {
        if let Some(receiver) = &facts.receiver
            && receiver.stamp.to_bits() != self.message.0.to_bits()
        {
            self.message = (receiver.stamp, self.looked.max(began.before(receiver.age)));
        }
        let (timeline, lsn) = if facts.recovery {
            let lsn = reaches(facts.received, facts.replayed);
            let streamed = facts.receiver.as_ref().map(|r| r.timeline).filter(|t| t.0 > 0);
            let timeline = streamed.or_else(|| history::timeline_at(&layout.data, lsn));
            (timeline.unwrap_or(facts.checkpoint), lsn)
        } else {
            self.ends.push_back((began, facts.end));
            (facts.timeline, facts.end)
        };
        while self.ends.len() > 64 {
            self.ends.pop_front();
        }
        self.position = history::position(&layout.data, timeline, lsn).unwrap_or(Position {
            timeline,
            history: Vec::new(),
            lsn,
        });
        if let Some(before) = &self.facts {
            self.survey.note_replay((self.looked, before), (began, &facts));
        }
        self.looked = began;
        self.unanswered = None;
        self.facts = Some(facts);
    }

    /// A pulse begins, in this life of the server only.
    pub fn begin_commit(&mut self, life: u64, commit: (i32, Moment)) -> bool {
        if self.life == life {
            self.commit = Some(commit);
        }
        self.life == life
    }

    /// It is over, and enough hold it or not. True: it is the first that they do; `None`: the life
    /// in which it began is over.
    pub fn end_commit(&mut self, life: u64, begun: Moment, counts: bool) -> Option<bool> {
        if self.life != life {
            return None;
        }
        self.commit = None;
        let first = counts && self.committed.is_none();
        if counts {
            self.committed = self.committed.max(Some(begun));
        }
        Some(first)
    }

    /// A probe was answered; `waits` is the pulse that waits for the server's own disk, if it does.
    pub fn note_answer(&mut self, waits: Option<(i32, Moment)>, now: Moment) {
        let same = waits.filter(|_| self.commit == waits);
        self.hang.look(same.map_or(Look::Well, |(_, begun)| Look::Writes(begun)), now);
    }

    /// A probe that began at `began` was not answered. One that is being stopped need not.
    pub fn note_silence(&mut self, began: Moment, now: Moment) {
        self.unanswered.get_or_insert(began);
        let serves = self.facts.as_ref().is_some_and(|facts| !facts.recovery) && !self.stopping;
        self.hang.look(if serves { Look::Silent } else { Look::Well }, now);
    }

    /// The log's end at least `age` before the newest probe; `None`: not known that long.
    fn end_before(&self, age: Duration) -> Option<Lsn> {
        let limit = self.looked.before(age);
        self.ends.iter().rev().find(|(at, _)| *at <= limit).map(|(_, lsn)| *lsn)
    }

    /// Reads again what the files tell PostgreSQL to be.
    pub fn read_files(&mut self, layout: &Layout) {
        let dynamic = Dynamic::load(layout);
        self.configured = Configured {
            standby: layout.is_standby(),
            upstream: dynamic.upstream.map(|upstream| upstream.instance),
            generation: dynamic.generation,
            admits: admission::is_open(layout),
        };
    }

    /// How the server stands.
    pub fn server(&self, layout: &Layout) -> Server {
        if let Some(reason) = &self.refusal {
            return Server::Refused(reason.clone());
        }
        if self.pid.is_none() {
            let there = layout.has_cluster();
            return if there { Server::Down(self.down.clone()) } else { Server::Absent };
        }
        let admits = self.configured.admits;
        let position = self.position.clone();
        match &self.facts {
            None => Server::Starting,
            Some(facts) if facts.recovery => {
                Server::Recovery { position, replayed: facts.replayed, admits }
            }
            Some(facts) => Server::Writable { position, admits, checkpoint: facts.checkpoint },
        }
    }

    /// The account to the law.
    pub fn local(&self, layout: &Layout, memory: &Memory) -> Local {
        Local {
            server: self.server(layout),
            system_identifier: self.system_identifier,
            pledge: memory.pledge,
            configured: self.configured.clone(),
            sealed: self.sealed_at.is_some(),
            serves: self.serves,
            proven: self.proven,
            enforced: self.enforced,
            prepared: self.prepared,
            divergence: divergence(memory, self.rewinding),
            leased: self.leased,
            committed: self.committed,
            started: self.started,
            down_since: self.down_since,
            informed: self.informed,
            assigned: self.assigned,
            isolated: self.isolated,
        }
    }

    /// The account to the orchestrator; `run` and `sequence` are for the sender to fill in.
    pub fn report(
        &self,
        layout: &Layout,
        memory: &Memory,
        speaker: &Speaker,
        now: Moment,
    ) -> Report {
        let facts = self.facts.as_ref();
        let heartbeat = self.assignment.as_ref().map(|a| a.timing.heartbeat).unwrap_or_default();
        let earlier = self.end_before(heartbeat);
        let stream = |row: &crate::probe::StreamFacts| {
            let instance: InstanceId = row.name.parse().ok()?;
            (row.role == format!("baton-{instance}")).then(|| Stream {
                instance,
                streaming: row.streaming,
                flushed: row.flushed,
                caught_up: earlier.is_some_and(|end| row.flushed >= end),
            })
        };
        let receiver = facts.and_then(|facts| facts.receiver.as_ref()).and_then(|receiver| {
            Some(Receiver {
                upstream: self.configured.upstream.clone()?,
                streaming: receiver.streaming,
                age: now.since(self.message.1),
            })
        });
        let doubt = memory.doubt.clone().filter(|(epoch, _)| *epoch >= memory.pledge.granted);
        Report {
            service: speaker.service.clone(),
            instance: speaker.instance.clone(),
            run: 0,
            sequence: 0,
            echo: None,
            revision: self.assignment.as_ref().map_or(Revision(0), |a| a.revision),
            pledge: memory.pledge,
            server: if self.is_mute(now) { Server::Starting } else { self.server(layout) },
            looked: Some(self.pid.map_or(Duration::ZERO, |_| now.since(self.looked))),
            system_identifier: self.system_identifier,
            sealed_at: self.sealed_at.clone(),
            proof: self.proven.map(|epoch| Proof {
                epoch,
                age: self.committed.map_or(Duration::from_hours(1), |at| now.since(at)),
            }),
            enforced: self.enforced,
            prepared: self.prepared,
            streams: facts
                .map(|facts| facts.streams.iter().filter_map(stream).collect())
                .unwrap_or_default(),
            receiver,
            doubt: doubt.map(|(_, position)| position),
            knock: self
                .knock
                .as_ref()
                .map(|(knock, at)| Knock { age: now.since(*at), ..knock.clone() }),
            notes: self.notes.values().cloned().collect(),
            version: speaker.version.clone(),
            checks: self.checks(memory),
            rehearsed: self.rehearsed.clone(),
            // Told now and then only.
            survey: None,
        }
    }

    /// A server that runs and does not answer: how it stood is no news any more. The law goes on
    /// from it all the same, so that what was writable is still fenced when its proof runs out.
    fn is_mute(&self, now: Moment) -> bool {
        self.facts.is_some() && self.unanswered.is_some_and(|at| now.since(at) >= MUTE_AFTER)
    }

    /// What was measured, and whether commits are in doubt of which the end is not known yet.
    fn checks(&self, memory: &Memory) -> Checks {
        Checks {
            exposed: memory.doubt_pending || self.unwritten,
            hangs: self.hang.lasts(),
            ..self.checks.clone()
        }
    }

    /// Says something to people until it is said otherwise.
    pub fn note(&mut self, subject: &str, severity: Severity, text: impl Into<String>) {
        let note = Note { subject: subject.to_owned(), severity, text: text.into() };
        self.notes.insert(subject.to_owned(), note);
    }
}

/// Once a primary, its end may be in nobody else's history until a rewind or a clean comparison
/// says otherwise.
fn divergence(memory: &Memory, rewinding: bool) -> Divergence {
    if memory.beyond && !rewinding {
        Divergence::Beyond
    } else if memory.led.is_some() || memory.refused {
        Divergence::Suspected
    } else {
        Divergence::None
    }
}

/// What of a report is worth sending at once: everything but numbers that grow by themselves.
pub fn gist(report: &Report) -> Report {
    let mut gist = report.clone();
    (gist.sequence, gist.looked) = (0, None);
    match &mut gist.server {
        Server::Recovery { position, replayed, .. } => {
            position.lsn = Lsn(0);
            *replayed = Lsn(0);
        }
        Server::Writable { position, .. } => position.lsn = Lsn(0),
        Server::Absent | Server::Refused(_) | Server::Down(_) | Server::Starting => {}
    }
    if let Some(proof) = &mut gist.proof {
        proof.age = Duration::ZERO;
    }
    for stream in &mut gist.streams {
        stream.flushed = Lsn(0);
    }
    if let Some(receiver) = &mut gist.receiver {
        receiver.age = Duration::ZERO;
    }
    if let Some(knock) = &mut gist.knock {
        knock.age = Duration::ZERO;
    }
    let full = has_no_room(&gist.checks);
    gist.checks.hangs = Duration::ZERO;
    gist.checks.wal_free = gist.checks.wal_free.map(|_| u64::from(!full));
    gist
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i27_what_answers_no_more_is_not_reported_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(&folder.path().join("pgdata"), &folder.path().join("run"));
        let layout = layout.unwrap();
        let speaker = Speaker {
            service: "clinic".parse().unwrap(),
            instance: "a".parse().unwrap(),
            version: String::new(),
        };
        let (begun, second) = (Moment(1_000_000), Duration::from_secs(1));
        let mut state = State::new(begun);
        state.begin_life(1);
        state.note_facts(Facts::default(), begun, &layout);
        let said = |state: &State, seconds| {
            let now = begun.after(second * seconds);
            let report = state.report(&layout, &Memory::default(), &speaker, now);
            (matches!(report.server, Server::Writable { .. }), report.looked)
        };
        assert_eq!(said(&state, 60), (true, Some(second * 60)), "one resumed heard no silence");
        state.unanswered = Some(begun);
        assert_eq!(said(&state, 2), (true, Some(second * 2)));
        assert_eq!(said(&state, 3), (false, Some(second * 3)));
        assert!(matches!(state.server(&layout), Server::Writable { .. }), "the law fences it");
        state.note_facts(Facts::default(), begun.after(second * 4), &layout);
        assert_eq!(said(&state, 5), (true, Some(second)));
        state.end_life(Down::Crashed, begun.after(second * 5));
        assert_eq!(said(&state, 6), (false, Some(Duration::ZERO)), "it knows that nothing runs");
    }
}
