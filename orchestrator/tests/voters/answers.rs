//! How soon voters answer, at three sites and twenty services: a benchmark, run by
//! `make bench-answers`. Agents are played; everything else is real.

use std::collections::BTreeMap;
use std::time::Duration;

use failover::assignment::Role;
use failover::ids::{Epoch, InstanceId, Lsn, ServiceId, SystemIdentifier, Timeline};
use failover::position::{Position, Switch};
use failover::report::{Down, Proof, Receiver, Report, Server, Stream};
use failover::topology::{Instance, ServiceSpec, Topology};
use failover::{Answer, Assignment, Request};
use orchestrator::answers::{Accepted, Explain, Readiness, Status, WhatIf};
use tokio::time::{Instant, sleep};
use wire::http::Client;

use crate::http::{Group, SOON, get};
use crate::page::told_after_commit;
use crate::world::{absent, topology};

const SERVICES: u64 = 20;
const SITES: u64 = 3;
/// How often each is asked, after a few that nobody counts.
const TIMES: usize = 100;
const FIRST: usize = 5;
/// What every answer must keep below, nine times of ten and more.
const TARGET: Duration = Duration::from_millis(150);
/// How often an agent reports.
const HEARTBEAT: Duration = Duration::from_millis(500);

fn service(n: u64) -> ServiceId {
    match n {
        0 => "clinic".parse().expect("a name"),
        n => format!("clinic-{n}").parse().expect("a name"),
    }
}

fn instance(of: u64, site: u64) -> InstanceId {
    format!("i{of}-{site}").parse().expect("a name")
}

fn large() -> Topology {
    let mut topology = topology();
    let one: ServiceSpec = topology.services.values().next().expect("there is one").clone();
    topology.services.clear();
    // Nobody answers as a name server here.
    topology.dns.servers.clear();
    for n in 0..SERVICES {
        let place = |site: u64| Instance {
            site: format!("s{site}").parse().expect("a name"),
            postgres: format!("127.{n}.{site}.9:5432").parse().expect("an address"),
            agent: format!("127.{n}.{site}.9:7500").parse().expect("an address"),
            public: None,
        };
        let first = n % SITES + 1;
        let preference = (0..SITES).map(|turn| instance(n, (first + turn - 1) % SITES + 1));
        let spec = ServiceSpec {
            writable: service(n).to_string(),
            read_only: format!("{}-ro", service(n)),
            instances: (1..=SITES).map(|site| (instance(n, site), place(site))).collect(),
            preference: preference.collect(),
            ..one.clone()
        };
        topology.services.insert(service(n), spec);
    }
    topology
}

/// Where everybody stands in an epoch: each has a timeline of its own (decision 0012).
fn place(epoch: Epoch) -> Position {
    let last = u32::try_from(epoch.0.max(1)).expect("small");
    let lsn = |timeline: u32| Lsn(0x300_0000 + u64::from(timeline) * 0x200);
    let left = |timeline| Switch { timeline: Timeline(timeline), at: lsn(timeline) };
    Position { timeline: Timeline(last), history: (1..last).map(left).collect(), lsn: lsn(last) }
}

/// An agent that is at once what it is told to be.
struct Puppet {
    client: Client,
    report: Report,
}

impl Puppet {
    fn new(group: &Group, of: u64, site: u64) -> Self {
        let name = instance(of, site).to_string();
        let voter = usize::try_from(site - 1).expect("small");
        let client = group.client(voter, "agent", &name);
        let report =
            Report { service: service(of), instance: instance(of, site), ..absent(site, 0) };
        Self { client, report }
    }

    async fn go_on(mut self) {
        loop {
            self.report.sequence += 1;
            let answer = self.client.post::<_, Answer>("/v1/report", &self.report, SOON).await;
            if let Ok(answer) = answer {
                self.report.echo = answer.echo.or(self.report.echo);
                self.report.run = answer.run.max(self.report.run);
                self.comply(&answer.assignment);
            }
            sleep(HEARTBEAT).await;
        }
    }

    fn comply(&mut self, told: &Assignment) {
        let report = &mut self.report;
        report.revision = told.revision;
        report.system_identifier = told.system_identifier;
        match &told.role {
            Role::Primary { prepare, .. } => {
                report.pledge.granted = told.epoch;
                report.system_identifier = Some(SystemIdentifier(7));
                report.enforced = Some(told.generation);
                report.prepared = Some(told.epoch).filter(|_| *prepare);
                report.proof = Some(Proof { epoch: told.epoch, age: Duration::ZERO });
                let position = place(told.epoch);
                let (flushed, checkpoint) = (position.lsn, position.timeline);
                report.server = Server::Writable { position, admits: true, checkpoint };
                (report.receiver, report.sealed_at) = (None, None);
                let others = told.peers.keys().filter(|peer| **peer != report.instance);
                let stream = |id: &InstanceId| Stream {
                    instance: id.clone(),
                    streaming: true,
                    flushed,
                    caught_up: true,
                };
                report.streams = others.map(stream).collect();
            }
            Role::Standby { upstream } => {
                let (position, replayed) = (place(told.epoch), place(told.epoch).lsn);
                report.server = Server::Recovery { position, replayed, admits: true };
                let (upstream, age) = (upstream.clone(), Duration::ZERO);
                report.receiver = Some(Receiver { upstream, streaming: true, age });
                (report.sealed_at, report.proof, report.enforced) = (None, None, None);
                report.streams.clear();
            }
            // On a machine that has much else to do a primary may pass for lost: go on with it.
            Role::Sealed => {
                report.receiver = None;
                if let Server::Recovery { position, .. } = &report.server {
                    report.pledge.sealed = told.epoch;
                    report.sealed_at = Some(position.clone());
                }
            }
            Role::Stopped | Role::Fenced => {
                report.server = Server::Down(Down::Fenced);
                report.streams.clear();
            }
            Role::Idle => {}
        }
    }
}

fn percentile(sorted: &[Duration], of: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get(sorted.len() * of / 100).or(sorted.get(last)).copied().unwrap_or_default()
}

fn told(what: &str, mut took: Vec<Duration>, target: Duration) -> bool {
    took.sort();
    let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
    let (median, late) = (percentile(&took, 50), percentile(&took, 99));
    let verdict = if late <= target { "kept" } else { "MISSED" };
    println!(
        "{what:<38} {:>8.1} ms {:>8.1} ms  below {} ms: {verdict}",
        ms(median),
        ms(late),
        target.as_millis()
    );
    late <= target
}

async fn ask<T: serde::de::DeserializeOwned>(clients: &[Client], path: &str) -> Vec<Duration> {
    let mut took = Vec::new();
    for turn in 0..TIMES + FIRST {
        let client = &clients[turn % clients.len()];
        let began = Instant::now();
        let _answer: T = get(client, path).await.expect("it is answered");
        if turn >= FIRST {
            took.push(began.elapsed());
        }
    }
    took
}

/// Medians and 99th percentiles, through every voter in turn: the leader, and followers that pass
/// the question on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark: make bench-answers"]
async fn bench() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    let leader = group.elected(&operator).await;
    let request = Request::Apply { expected: 0, topology: Box::new(large()), reason: "x".into() };
    let deadline = Instant::now() + SOON;
    while let Err(error) = operator.post::<_, Accepted>("/v1/requests", &request, SOON).await {
        assert!(Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(100)).await;
    }
    let agents: Vec<_> = (0..SERVICES)
        .flat_map(|of| (1..=SITES).map(move |site| (of, site)))
        .map(|(of, site)| tokio::spawn(Puppet::new(&group, of, site).go_on()))
        .collect();
    let deadline = Instant::now() + SOON * 2;
    let mut standing = BTreeMap::new();
    loop {
        let status: Status = get(&operator, "/v1/status").await.expect("it is answered");
        standing.clear();
        for service in &status.services {
            let step = service.transition.as_ref().map_or("none", |it| it.step.name());
            let settled = service.primary.is_some() && service.published.is_some();
            *standing.entry((settled, step)).or_insert(0) += 1;
        }
        let running = standing.get(&(true, "none")).copied().unwrap_or(0)
            + standing.get(&(true, "verify")).copied().unwrap_or(0);
        if running == SERVICES {
            break;
        }
        assert!(Instant::now() < deadline, "primary and published, step: {standing:?}");
        sleep(Duration::from_millis(200)).await;
    }
    let clients: Vec<Client> = (0..3).map(|n| group.client(n, "operator", "alice")).collect();
    println!("{SITES} sites, {SERVICES} services, {} agents played", agents.len());
    println!("{:<38} {:>11} {:>11}", "", "median", "p99");
    let lose = "/v1/what-if?hypothesis=%7B%22lose-site%22%3A%22s1%22%7D";
    let mut kept = told("status", ask::<Status>(&clients, "/v1/status").await, TARGET);
    kept &= told("explain clinic", ask::<Explain>(&clients, "/v1/explain/clinic").await, TARGET);
    kept &= told("readiness", ask::<Readiness>(&clients, "/v1/readiness").await, TARGET);
    kept &= told("what-if lose s1", ask::<WhatIf>(&clients, lose).await, TARGET);
    let shown = told_after_commit(&group, leader, 30).await;
    kept &= told("the page, after a commit", shown, Duration::from_millis(300));
    println!("standing of services (settled, step): {standing:?}");
    if let Some(seconds) = std::env::var("BATON_STAY").ok().and_then(|text| text.parse().ok()) {
        println!("for {seconds} s the page is at http://{}/", group.page[leader]);
        sleep(Duration::from_secs(seconds)).await;
    }
    agents.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(kept, "slower than what is promised");
}
