//! Reports out, assignments in: the rotation over voters as the real agent has it.

use super::Host;
use super::agent::Agent;
use super::interface::Output;
use super::queue::Task;
use super::turn::{Turn, micros};
use failover::report::{Answer, Echo, Report};
use failover::survey::Survey;
use failover::{Assignment, Epoch, Moment, Revision};
use std::sync::Arc;
use std::time::Duration;

/// Reports under way at once.
const AT_ONCE: usize = 4;
/// A report that has waited this long, in microseconds, may be at a voter that is silent.
const PATIENCE: u128 = 100_000;
/// For this long, in microseconds, a voter that failed is asked last.
const FAILED: u128 = 3_000_000;
const LONG_POLL: u64 = 25_000_000;
/// Between two surveys that say the same but for ages.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What is under way to the voters.
#[derive(Debug)]
pub struct Voters {
    count: usize,
    preferred: usize,
    /// Which start of the agent this is: grows from one to the next.
    run: u64,
    sequence: u64,
    /// What the leader that answered last said.
    echo: Option<Echo>,
    flights: Vec<Flight>,
    /// What was not answered in time: its answer is heard as well.
    late: Vec<Late>,
    /// When a report to each voter last failed.
    failed: Vec<Option<Moment>>,
    polls: [Poll; 2],
    said: Option<u64>,
    due: Moment,
    /// When a survey was last told.
    told: Option<Moment>,
    /// When the server was last measured, and in which life of it.
    measured: Option<(u64, Moment)>,
}

#[derive(Debug)]
struct Flight {
    token: u64,
    report: Report,
    /// The voters in the order in which they are tried.
    order: Vec<usize>,
    attempt: usize,
    begun: Moment,
    sent: Moment,
}

/// A report that was given up, to which voter it went, and when.
#[derive(Clone, Copy, Debug)]
struct Late {
    token: u64,
    voter: usize,
    sent: Moment,
}

impl Flight {
    fn voter(&self) -> usize {
        self.order.get(self.attempt).copied().unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Poll {
    token: u64,
    voter: usize,
    skip: usize,
    begun: Moment,
}

impl Voters {
    pub fn new(count: usize, run: u64) -> Self {
        Self {
            count: count.max(1),
            preferred: 0,
            run,
            sequence: 0,
            echo: None,
            flights: Vec::new(),
            late: Vec::new(),
            failed: vec![None; count],
            polls: [Poll::default(); 2],
            said: None,
            due: Moment(0),
            told: None,
            measured: None,
        }
    }

    /// It was measured, in a life of the server.
    pub fn note_measured(&mut self, life: u64, now: Moment) {
        self.measured = Some((life, now));
    }

    /// A survey, when one is due: when it was measured, and its clock. What the model has none of,
    /// certificates, logins, extensions, it does not tell, so nobody takes it for good.
    fn survey(&mut self, life: u64, turn: &Turn) -> Option<Box<Survey>> {
        let lately = |at: Moment| turn.now.since(at) < TOLD_EVERY;
        if self.told.is_some_and(lately) {
            return None;
        }
        self.told = Some(turn.now);
        let measured = self.measured.filter(|(of, _)| *of == life);
        let age = measured.map(|(_, at)| micros(turn.now.since(at)) / 1_000);
        let every = Duration::from_secs(20);
        let survey = Survey { measured_ms: age, every, wall: turn.wall, ..Survey::default() };
        Some(Box::new(survey))
    }

    pub fn awaits_report(&self, token: u64) -> bool {
        self.flights.iter().any(|flight| flight.token == token)
    }

    pub fn awaits_poll(&self, token: u64) -> bool {
        self.polls.iter().any(|poll| poll.token == token)
    }

    fn rotate(&mut self, from: usize) {
        if self.preferred == from {
            self.preferred = (from + 1) % self.count;
        }
    }
}

impl Host {
    /// Reports when it is due, or there is news.
    pub(super) fn speaks(&mut self, turn: &mut Turn) {
        let heartbeat = self.heartbeat();
        if self.waits_for_heal(turn, Task::Speak) {
            return;
        }
        let Some(mut agent) = self.agent.take() else { return };
        if agent.speak_at.is_some_and(|at| at <= turn.now) {
            agent.speak_at = None;
            let gist = self.gist(&agent);
            let news = agent.voters.said != Some(gist);
            let due = turn.now >= agent.voters.due;
            if (news || due) && agent.voters.flights.len() < AT_ONCE {
                agent.voters.said = Some(gist);
                agent.voters.due = Moment(turn.now.0 + heartbeat);
                let survey = agent.voters.survey(agent.life, turn);
                let survey = survey.map(|survey| self.well_surveyed(&agent, survey));
                let report = Report { survey, ..self.report(&agent, turn.now) };
                self.agent = Some(agent);
                self.send_first(turn, report);
                self.speak_within(turn, heartbeat);
                return;
            }
            let rest = agent.voters.due.since(turn.now);
            self.agent = Some(agent);
            self.speak_within(turn, micros(rest).max(1_000));
            return;
        }
        self.agent = Some(agent);
    }

    fn send_first(&mut self, turn: &mut Turn, report: Report) {
        let Some(agent) = &mut self.agent else { return };
        let voters = &mut agent.voters;
        let now = turn.now;
        let waits = |flight: &Flight| now.since(flight.begun).as_micros() >= PATIENCE;
        let first = voters.preferred + usize::from(voters.flights.iter().any(waits));
        let mut order: Vec<usize> = (0..voters.count).map(|n| (first + n) % voters.count).collect();
        let lately = |at: Moment| now.since(at).as_micros() < FAILED;
        order.sort_by_key(|voter| voters.failed.get(*voter).copied().flatten().is_some_and(lately));
        let Voters { run, sequence, echo, .. } = *voters;
        let report = Report { run, sequence, echo, ..report };
        voters.sequence += 1;
        let flight = Flight { token: 0, report, order, attempt: 0, begun: now, sent: now };
        self.send(turn, flight);
    }

    fn send(&mut self, turn: &mut Turn, mut flight: Flight) {
        if self.isolated(turn).is_some() {
            return;
        }
        let token = self.number();
        let timeout = self.heartbeat().max(200_000);
        let Some(agent) = &mut self.agent else { return };
        let voters = &mut agent.voters;
        let voter = flight.voter();
        flight.token = token;
        flight.sent = turn.now;
        let report = Box::new(flight.report.clone());
        voters.flights.push(flight);
        let voter = u8::try_from(voter).unwrap_or(u8::MAX);
        turn.out.push(Output::Report { voter, token, report });
        self.agent_task(turn, timeout, Task::ReportLost(token));
    }

    /// A report was not answered in time.
    pub(super) fn report_lost(&mut self, turn: &mut Turn, token: u64) {
        let within = self.timing().suspect_after;
        let Some(agent) = &mut self.agent else { return };
        let Voters { flights, late, .. } = &mut agent.voters;
        late.retain(|late| turn.now.since(late.sent) < within);
        let flight = flights.iter().find(|flight| flight.token == token);
        late.extend(flight.map(|it| Late { token, voter: it.voter(), sent: it.sent }));
        self.answer(turn, token, None);
    }

    /// A report was answered, refused, or not answered in time.
    pub(super) fn answer(&mut self, turn: &mut Turn, token: u64, answer: Option<Answer>) {
        let voters = self.setup.voters.len();
        let Some(agent) = &mut self.agent else { return };
        let flights = &mut agent.voters.flights;
        let Some(at) = flights.iter().position(|flight| flight.token == token) else {
            self.answer_late(turn, token, answer);
            return;
        };
        let mut flight = flights.swap_remove(at);
        let index = flight.voter();
        if let Some(failed) = agent.voters.failed.get_mut(index) {
            *failed = answer.is_none().then_some(turn.now);
        }
        if let Some(answer) = answer {
            self.take_in(turn, index, flight.sent, answer);
            return;
        }
        if self.isolated(turn).is_some() {
            return;
        }
        let Some(agent) = &mut self.agent else { return };
        agent.voters.rotate(index);
        flight.attempt += 1;
        if flight.attempt < voters {
            self.send(turn, flight);
        }
    }

    fn answer_late(&mut self, turn: &mut Turn, token: u64, answer: Option<Answer>) {
        let within = self.timing().suspect_after;
        let Some(agent) = &mut self.agent else { return };
        let late = &mut agent.voters.late;
        let Some(at) = late.iter().position(|late| late.token == token) else { return };
        let Late { voter, sent, .. } = late.swap_remove(at);
        if let Some(answer) = answer.filter(|_| turn.now.since(sent) < within) {
            self.take_in(turn, voter, sent, answer);
        }
    }

    /// Takes in what a voter answered to a report that was sent at `sent`.
    fn take_in(&mut self, turn: &mut Turn, index: usize, sent: Moment, answer: Answer) {
        // What was under way when it cut itself off is not heard.
        if self.isolated(turn).is_some() {
            return;
        }
        let Some(agent) = &mut self.agent else { return };
        let voters = &mut agent.voters;
        let own = (voters.run, voters.sequence);
        if (answer.run, answer.sequence) >= own {
            voters.run = answer.run.saturating_add(1);
        }
        let known = voters.echo;
        // Answers overtake one another.
        if answer.echo >= known {
            let leader = answer
                .leader
                .and_then(|leader| self.setup.voters.iter().position(|voter| *voter == leader));
            voters.preferred = leader.unwrap_or(index);
            voters.echo = answer.echo;
            if answer.echo.map(|echo| echo.term) > known.map(|echo| echo.term) {
                // A leader that has not heard it yet.
                voters.due = turn.now;
                self.speak(turn);
            }
        }
        self.hear(turn, answer.assignment);
        if let Some(epoch) = answer.lease {
            self.lease(turn, epoch, sent);
        }
    }

    /// An assignment arrived. True: it is news.
    pub(super) fn hear(&mut self, turn: &mut Turn, assignment: Assignment) -> bool {
        let granted = self.disk.memory.pledge.granted;
        let own = self.setup.instances.get(self.setup.own.index());
        let Some(agent) = &mut self.agent else { return false };
        if Some(&assignment.instance) != own || assignment.epoch < granted {
            return false;
        }
        let known = agent.assignment.as_deref();
        if known.is_some_and(|known| assignment.revision < known.revision) {
            return false;
        }
        let news = known != Some(&assignment);
        let first = !agent.informed;
        agent.informed = true;
        if news {
            let assignment = Arc::new(assignment);
            agent.assignment = Some(Arc::clone(&assignment));
            agent.assigned = Some(turn.now);
            if !self.full {
                self.disk.assignment.set(Some(assignment));
            }
        }
        self.take_rehearsal(turn);
        if news || first {
            self.wake(turn);
            self.speak(turn);
        }
        news
    }

    /// The orchestrator granted the lease of an epoch to a report sent at `sent`.
    fn lease(&mut self, turn: &mut Turn, epoch: Epoch, sent: Moment) {
        if epoch != self.disk.memory.pledge.granted {
            return;
        }
        let Some(agent) = &mut self.agent else { return };
        let first = agent.leased.is_none();
        agent.leased = agent.leased.max(Some(sent));
        if first || !agent.configured.admits || agent.pid.is_none() {
            self.wake(turn);
        }
    }

    /// Waits at a voter for the next assignment.
    pub(super) fn poll(&mut self, turn: &mut Turn, place: u8) {
        if self.waits_for_heal(turn, Task::Poll(place)) {
            return;
        }
        let token = self.number();
        let several = self.setup.voters.len().min(2);
        let Some(agent) = &mut self.agent else { return };
        if usize::from(place) >= several {
            return;
        }
        let count = agent.voters.count;
        let preferred = agent.voters.preferred;
        let after = revision(agent);
        let Some(poll) = agent.voters.polls.get_mut(usize::from(place)) else { return };
        poll.token = token;
        poll.voter = (preferred + usize::from(place) + poll.skip) % count;
        poll.begun = turn.now;
        let voter = u8::try_from(poll.voter).unwrap_or(u8::MAX);
        turn.out.push(Output::Poll { voter, token, after });
        self.agent_task(turn, LONG_POLL, Task::PollLost(token));
    }

    /// A poll ended.
    pub(super) fn polled(&mut self, turn: &mut Turn, token: u64, found: Option<Assignment>) {
        let heartbeat = self.heartbeat();
        let Some(agent) = &mut self.agent else { return };
        let Some(at) = agent.voters.polls.iter().position(|poll| poll.token == token) else {
            return;
        };
        let Some(poll) = agent.voters.polls.get_mut(at) else { return };
        poll.token = 0;
        let place = u8::try_from(at).unwrap_or(0);
        let quick = turn.now.0 - poll.begun.0 < 50_000;
        let Some(assignment) = found else {
            poll.skip += 1;
            self.agent_task(turn, heartbeat / 2, Task::Poll(place));
            return;
        };
        poll.skip = 0;
        let news = self.isolated(turn).is_none() && self.hear(turn, assignment);
        let takes = if !news && quick { heartbeat } else { 10 };
        self.agent_task(turn, takes, Task::Poll(place));
    }
}

fn revision(agent: &Agent) -> Revision {
    agent.assignment.as_ref().map_or(Revision(0), |assignment| assignment.revision)
}
