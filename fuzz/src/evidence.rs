//! What agents and voters say to the leader, and what an agent is told (I-27).
//!
//! Nothing that an instance says about itself makes the law propose what `apply` then refuses to
//! do, moves the epoch by more than one, or takes the recorded rule off what is enforced.

use std::time::Duration;

use failover::checks::Checks;
use failover::cluster::Cluster;
use failover::comply::{Action, Configured, Divergence, Local};
use failover::drill::{Progress, Rehearsed};
use failover::event::{Change, Event, Stamp};
use failover::position::{Position, Switch};
use failover::readiness::{Scope, readiness};
use failover::rehearse::{Hypothesis, Voters, rehearse};
use failover::report::{
    Down, Knock, NameServerAnswer, Observation, Pledge, Port, Proof, Receiver, Report, Server,
    Stream,
};
use failover::{
    Answer, DrillId, Epoch, Generation, Lsn, Moment, Revision, SystemIdentifier, Timeline,
    Timestamp, View, VoterId, comply, decide, lease, quorum, zone,
};

use crate::draw::Draw;
use crate::place;

const INPUTS: usize = 128;

/// A leader with its state and its evidence.
struct Leader {
    cluster: Cluster,
    view: View,
    now: Moment,
}

impl Leader {
    fn new(which: u8) -> Self {
        let now = Moment(60_000_000);
        Self { cluster: place::cluster(which), view: View::new(1, now), now }
    }

    fn hear(&mut self, mut report: Report) {
        // Most agents say back what this leader said last.
        if report.sequence % 8 != 0 {
            report.echo = Some(self.view.echo(self.now));
        }
        let _epoch = lease::grant(&self.cluster, &report);
        self.view.hear(&self.cluster, report, self.now);
        self.view.compare_clocks(Timestamp(0), self.now);
    }

    /// Decides, and does what was decided.
    fn decide(&mut self) {
        self.view.follow(&self.cluster, self.now);
        for verdict in decide(&self.cluster, &self.view, self.now).into_values() {
            if let Some((change, cause)) = verdict.change {
                self.change(change, cause);
            }
        }
    }

    /// What would follow, if: it stands, too.
    fn rehearse(&self) {
        let seats = [(VoterId(1), (None, true))].into();
        let voters = Voters { leader: VoterId(1), seats };
        let lost = Hypothesis::LoseSite(place::site(0));
        let _told = rehearse(&self.cluster, &self.view, &voters, &lost, self.now);
        let all = readiness(&self.cluster, &self.view, &voters, &Scope::default(), self.now);
        let remedies = all.iter().flat_map(|service| &service.checks).flat_map(|c| &c.findings);
        assert!(remedies.into_iter().all(|finding| !finding.remedy.is_empty()));
    }

    fn change(&mut self, change: Change, cause: String) {
        let before = self.cluster.clone();
        let event = Event {
            stamp: Stamp::default(),
            by: "baton".into(),
            cause,
            plan: None,
            authority: None,
            change,
        };
        let text = serde_json::to_vec(&event).expect("an event is JSON");
        let event: Event = serde_json::from_slice(&text).expect("what is written is read");
        assert!(failover::apply(&mut self.cluster, &event), "decided for nothing: {event:?}");
        assert!(!failover::apply(&mut before.clone(), &unseen(&event)), "a stale event counts");
        let (old, new) =
            (&before.services[&place::service()], &self.cluster.services[&place::service()]);
        assert!(new.epoch >= old.epoch && new.epoch.0 <= old.epoch.0 + 1, "I-04");
        let narrowed = new.epoch == old.epoch && !quorum::may_follow(&old.rule, &new.rule);
        assert!(new.rule == old.rule || !narrowed, "I-07: {:?} {:?}", old.rule, new.rule);
        assert!(zone(&self.cluster).version >= zone(&before).version, "I-29");
    }
}

/// The same event, judged in an epoch that has not come yet.
fn unseen(event: &Event) -> Event {
    let mut event = event.clone();
    if let Change::Service { seen, .. } = &mut event.change {
        seen.epoch = Epoch(seen.epoch.0 + 7);
    }
    event
}

/// Reports and observations as the wire has them, one a line; any other line lets time pass, a
/// tenth of a second a byte.
pub fn agent_report(bytes: &[u8]) {
    let mut leader = Leader::new(bytes.first().copied().unwrap_or(0));
    for line in bytes.split(|byte| *byte == b'\n').take(INPUTS) {
        if let Ok(report) = serde_json::from_slice::<Report>(line) {
            let again = serde_json::to_vec(&report).expect("a report is JSON");
            assert_eq!(serde_json::from_slice::<Report>(&again).ok(), Some(report.clone()));
            leader.hear(report);
        } else if let Ok(observation) = serde_json::from_slice::<Observation>(line) {
            leader.view.observe(observation, leader.now);
        } else {
            let tenths = u64::try_from(line.len()).unwrap_or(0).min(100);
            leader.now = leader.now.after(Duration::from_millis(100 * tenths));
        }
        leader.decide();
    }
    if rehearses(bytes) {
        leader.rehearse();
    }
}

/// Whether what would follow is rehearsed at the end, too: that takes as long as a hundred inputs,
/// so only every sixteenth has it.
fn rehearses(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).is_multiple_of(16)
}

/// The same with reports drawn from the bytes: the law sees every mixture of instances that lag,
/// fork, lie and come back.
pub fn evidence(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let mut leader = Leader::new(draw.byte());
    for sequence in 0..INPUTS {
        if draw.is_over() {
            break;
        }
        match draw.below(8) {
            0 => {
                let tenths = u64::from(draw.byte());
                leader.now = leader.now.after(Duration::from_millis(100 * tenths));
            }
            1 => {
                let observation = observation(&mut draw, leader.cluster.zone_version);
                leader.view.observe(observation, leader.now);
            }
            _ => {
                let report = report(&mut draw, &leader.cluster, sequence as u64);
                leader.hear(report);
            }
        }
        leader.decide();
    }
    if rehearses(bytes) {
        leader.rehearse();
    }
}

fn position(draw: &mut Draw<'_>) -> Position {
    let timeline = 1 + draw.below(3);
    let history = (1..timeline)
        .map(|left| Switch {
            timeline: Timeline(u32::try_from(left).unwrap_or(1)),
            at: Lsn(10 * left + draw.below(2)),
        })
        .collect();
    let timeline = Timeline(u32::try_from(timeline).unwrap_or(1));
    Position { timeline, history, lsn: Lsn(draw.near(10)) }
}

fn server(draw: &mut Draw<'_>) -> Server {
    match draw.below(12) {
        0 | 1 => Server::Absent,
        2 => Server::Refused("x".into()),
        3 => Server::Down(Down::Crashed),
        4 => Server::Down(Down::Fenced),
        5 => Server::Down(Down::Clean(position(draw))),
        6 => Server::Down(Down::NotStarted),
        7 => Server::Starting,
        8 | 9 => Server::Recovery {
            position: position(draw),
            replayed: Lsn(draw.near(10)),
            admits: draw.yes(),
        },
        _ => Server::Writable {
            position: position(draw),
            admits: draw.yes(),
            checkpoint: Timeline(u32::try_from(1 + draw.below(3)).unwrap_or(1)),
        },
    }
}

fn report(draw: &mut Draw<'_>, cluster: &Cluster, sequence: u64) -> Report {
    let service = &cluster.services[&place::service()];
    let age = |draw: &mut Draw<'_>| Duration::from_millis(draw.near(20).saturating_mul(50));
    let epoch = |draw: &mut Draw<'_>| Epoch(draw.near(service.epoch.0));
    let streams = (0..draw.below(4))
        .map(|_| Stream {
            instance: place::instance(usize::from(draw.byte())),
            streaming: draw.yes(),
            flushed: Lsn(draw.near(10)),
            caught_up: draw.yes(),
        })
        .collect();
    Report {
        service: place::service(),
        instance: place::instance(usize::from(draw.byte())),
        run: draw.below(2),
        sequence,
        echo: None,
        revision: Revision(draw.near(service.revision.0)),
        pledge: Pledge { sealed: epoch(draw), granted: epoch(draw), isolated: None },
        server: server(draw),
        system_identifier: draw.yes().then(|| SystemIdentifier(draw.below(2))),
        sealed_at: draw.yes().then(|| position(draw)),
        proof: draw.yes().then(|| Proof { epoch: epoch(draw), age: age(draw) }),
        enforced: draw.yes().then(|| Generation(draw.near(service.rule.generation.0))),
        prepared: draw.yes().then(|| epoch(draw)),
        streams,
        receiver: draw.yes().then(|| Receiver {
            upstream: place::instance(usize::from(draw.byte())),
            streaming: draw.yes(),
            age: age(draw),
        }),
        doubt: (draw.below(8) == 0).then(|| position(draw)),
        knock: draw.yes().then(|| knock(draw)),
        notes: Vec::new(),
        checks: Checks { exposed: draw.below(8) == 0, ..Checks::default() },
        version: "15.18".into(),
        rehearsed: draw.yes().then(|| Rehearsed {
            drill: DrillId(draw.below(3)),
            stands: match draw.below(3) {
                0 => Progress::UnderWay(String::new()),
                1 => Progress::Done(String::new()),
                _ => Progress::Failed(String::new()),
            },
        }),
        survey: None,
        // Last, and known where nothing is left to draw: the kept inputs mean what they meant.
        looked: (!draw.yes()).then(|| age(draw)),
    }
}

const PORTS: [Port; 3] = [Port::Open, Port::Refused, Port::Silent];

fn knock(draw: &mut Draw<'_>) -> Knock {
    Knock {
        target: place::instance(usize::from(draw.byte())),
        from: place::site(usize::from(draw.byte())),
        agent: *draw.one(&PORTS),
        postgres: *draw.one(&PORTS),
        age: Duration::from_millis(draw.near(20).saturating_mul(50)),
    }
}

fn observation(draw: &mut Draw<'_>, zone: u32) -> Observation {
    let version = u32::try_from(draw.near(u64::from(zone))).unwrap_or(u32::MAX);
    let server = place::server(usize::from(draw.byte()));
    match draw.below(5) {
        0 => Observation::Follows { server, version },
        1 => Observation::Asked { server, answer: NameServerAnswer::Refused },
        2 => Observation::Asked { server, answer: NameServerAnswer::Silent },
        3 => {
            let writable = vec![(place::service(), vec![[127, 0, 0, 1].into()])];
            let canaries = vec![(place::service(), vec![[127, 0, 0, 1].into()])];
            let answer = NameServerAnswer::Serves { version, writable, canaries };
            Observation::Asked { server, answer }
        }
        _ => Observation::Knocked(knock(draw)),
    }
}

/// What an agent is told, first as JSON and then judged on every kind of machine. Whatever it is:
/// a promise that was given stands (I-06), and what is foreign is not touched (I-18).
pub fn assignment(bytes: &[u8]) {
    let cut = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (head, rest) = bytes.split_at(cut);
    let Ok(answer) = serde_json::from_slice::<Answer>(rest) else { return };
    let again = serde_json::to_vec(&answer).expect("an answer is JSON");
    assert_eq!(serde_json::from_slice::<Answer>(&again).ok(), Some(answer.clone()));
    let mut draw = Draw(head);
    let now = Moment(60_000_000);
    let assigned = &answer.assignment;
    for _ in 0..16 {
        let local = local(&mut draw, assigned.epoch, assigned.generation, now);
        let action = comply(Some(assigned), &local, now);
        let sealed = local.pledge.sealed >= assigned.epoch;
        match &action {
            Some(Action::Follow { .. } | Action::Rewind { .. } | Action::Clone { .. }) => {
                assert!(!sealed, "I-06: {action:?} of {local:?}");
            }
            Some(Action::Promote) => assert!(local.pledge.granted >= assigned.epoch, "I-04"),
            Some(Action::Admit) if matches!(local.server, Server::Writable { .. }) => {
                assert!(lease::is_valid(&local, &assigned.timing, now), "no proof, and admits");
            }
            _ => {}
        }
        let foreign = assigned.system_identifier.zip(local.system_identifier);
        if foreign.is_some_and(|(ours, theirs)| ours != theirs) {
            assert!(matches!(action, None | Some(Action::Fence { .. })), "I-18: {action:?}");
        }
    }
}

fn local(draw: &mut Draw<'_>, epoch: Epoch, generation: Generation, now: Moment) -> Local {
    let ago = |draw: &mut Draw<'_>| now.before(Duration::from_millis(draw.near(20) % 100_000));
    let near = |draw: &mut Draw<'_>| Epoch(draw.near(epoch.0));
    Local {
        server: server(draw),
        system_identifier: draw.yes().then(|| SystemIdentifier(draw.below(2))),
        pledge: Pledge { sealed: near(draw), granted: near(draw), isolated: None },
        configured: Configured {
            standby: draw.yes(),
            upstream: draw.yes().then(|| place::instance(usize::from(draw.byte()))),
            generation: draw.yes().then(|| Generation(draw.near(generation.0))),
            admits: draw.yes(),
        },
        sealed: draw.yes(),
        serves: draw.yes(),
        proven: draw.yes().then(|| near(draw)),
        enforced: draw.yes().then(|| Generation(draw.near(generation.0))),
        prepared: draw.yes().then(|| near(draw)),
        divergence: *draw.one(&[Divergence::None, Divergence::Suspected, Divergence::Beyond]),
        leased: draw.yes().then(|| ago(draw)),
        committed: draw.yes().then(|| ago(draw)),
        started: ago(draw),
        down_since: ago(draw),
        informed: draw.yes(),
        assigned: draw.yes().then(|| ago(draw)),
        isolated: draw.yes().then(|| now.after(Duration::from_millis(draw.below(2)))),
    }
}
