//! Three real voters on loopback, real certificates: who may ask for what, and what happens when
//! one is killed.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use failover::cluster::Record;
use failover::ids::Revision;
use failover::report::Report;
use failover::topology::Topology;
use failover::zone::Zone;
use failover::{Answer, Assignment, Request};
use orchestrator::answers::{
    Accepted, DeclaredTopology, History, Status, Transitions, VoterState, WhatIf,
};
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use wire::ca::{Authority, Leaf};
use wire::http::{Client, HttpError};
use wire::role::Kind;
use wire::tls::{Files, Identity};

use crate::world::{absent, instance, topology};

type Any = serde_json::Value;

pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Group {
    pub(crate) folder: TempDir,
    authority: Authority,
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where each is monitored.
    pub(crate) monitoring: Vec<SocketAddr>,
    /// More lines of every configuration file.
    more: String,
    /// Where each shows the page.
    pub(crate) page: Vec<SocketAddr>,
    processes: Vec<Option<Child>>,
}

impl Drop for Group {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().flatten() {
            let _gone = process.kill();
            let _reaped = process.wait();
        }
    }
}

fn free_port(ip: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).expect("loopback has ports");
    listener.local_addr().expect("it is bound")
}

impl Group {
    pub(crate) fn start() -> Self {
        Self::start_with(None, "")
    }

    /// With more lines in every configuration file.
    pub(crate) fn start_saying(more: &str) -> Self {
        Self::start_with(None, more)
    }

    /// `limit`: the largest file the first voter may write, in kibibytes.
    fn start_with(limit: Option<u64>, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::create("test").expect("an authority");
        let free = |n| free_port(IpAddr::from([127, 0, n, 1]));
        let [addresses, monitoring, page] = [(); 3].map(|()| (1..=3).map(free).collect());
        let (more, processes) = (more.to_owned(), Vec::new());
        let mut group = Self { folder, authority, addresses, monitoring, more, page, processes };
        for n in 0..3 {
            group.configure(n);
            let process = group.spawn(n, limit.filter(|_| n == 0));
            group.processes.push(Some(process));
        }
        group
    }

    fn home(&self, n: usize) -> PathBuf {
        self.folder.path().join(format!("v{}", n + 1))
    }

    fn certificate(&self, folder: &Path, kind: &str, name: &str, ip: IpAddr) -> Files {
        std::fs::create_dir_all(folder).expect("a folder");
        let leaf = Leaf {
            common_name: format!("{kind}-{name}"),
            uri: format!("baton://test/{kind}/{name}"),
            addresses: vec![ip],
            names: Vec::new(),
        };
        let issued = self.authority.issue(&leaf).expect("a certificate");
        let write = |file: &str, text: &str| {
            std::fs::write(folder.join(file), text).expect("it can be written");
        };
        write("ca.crt", self.authority.certificate_pem());
        write("tls.crt", &issued.certificate_pem);
        write("tls.key", &issued.key_pem);
        let files =
            Files { ca: "ca.crt".into(), certificate: "tls.crt".into(), key: "tls.key".into() };
        files.within(folder)
    }

    fn configure(&self, n: usize) {
        let home = self.home(n);
        let id = n + 1;
        self.certificate(&home, "voter", &format!("v{id}"), self.addresses[n].ip());
        let voters: Vec<String> = (1..)
            .zip(&self.addresses)
            .map(|(id, address)| {
                format!(
                    "[[voter]]\nid = {id}\nname = \"v{id}\"\nsite = \"s{id}\"\n\
                     address = \"{address}\"\n"
                )
            })
            .collect();
        let voters = voters.concat();
        let text = format!(
            "cluster = \"test\"\nname = \"v{id}\"\nid = {id}\nsite = \"s{id}\"\n\
             listen = \"{}\"\ndata = \"data\"\n\
             [tls]\nca = \"ca.crt\"\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n\
             [raft]\nelection_timeout = \"2s\"\n[monitoring]\nlisten = \"{}\"\n\
             [page]\nlisten = \"{}\"\n{voters}{}",
            self.addresses[n], self.monitoring[n], self.page[n], self.more
        );
        std::fs::write(home.join("orchestrator.toml"), text).expect("it can be written");
    }

    fn spawn(&self, n: usize, limit: Option<u64>) -> Child {
        let log = std::fs::File::create(self.home(n).join("log")).expect("a log");
        let binary = env!("CARGO_BIN_EXE_baton-orchestrator");
        let config = self.home(n).join("orchestrator.toml");
        let mut command = match limit {
            None => Command::new(binary),
            Some(limit) => {
                // A write past the limit fails instead of ending the process.
                let mut shell = Command::new("bash");
                let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\"");
                shell.arg("-c").arg(script).arg(binary);
                shell
            }
        };
        command
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the binary was built")
    }

    pub(crate) fn kill(&mut self, n: usize) {
        if let Some(mut process) = self.processes[n].take() {
            process.kill().expect("it lives");
            process.wait().expect("it is ours");
        }
    }

    pub(crate) fn client(&self, n: usize, kind: &str, name: &str) -> Client {
        let folder = self.folder.path().join(format!("{kind}-{name}"));
        let files = self.certificate(&folder, kind, name, IpAddr::from([127, 0, 0, 1]));
        let identity = Identity::load(&files).expect("a good certificate");
        Client::new(&identity, Kind::Voter, self.addresses[n]).expect("a client")
    }

    pub(crate) fn log(&self, n: usize) -> String {
        std::fs::read_to_string(self.home(n).join("log")).unwrap_or_default()
    }

    /// Asks until the answer is good.
    async fn until(&self, operator: &Client, done: impl Fn(&Status) -> bool) -> Status {
        let asking = async {
            loop {
                let status: Result<Status, _> = operator.get("/v1/status", SOON).await;
                if let Ok(status) = status
                    && done(&status)
                {
                    return status;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, asking)
            .await
            .unwrap_or_else(|_| panic!("never\n{}\n{}\n{}", self.log(0), self.log(1), self.log(2)))
    }

    pub(crate) async fn elected(&self, operator: &Client) -> usize {
        self.elected_but(operator, usize::MAX).await
    }

    /// A follower names the leader that it knew until it misses it.
    pub(crate) async fn elected_but(&self, operator: &Client, old: usize) -> usize {
        let place = |status: &Status| {
            let leader = status.leader.as_ref()?.voter;
            Some(usize::try_from(leader.0 - 1).expect("small")).filter(|leader| *leader != old)
        };
        let status = self.until(operator, |status| place(status).is_some()).await;
        place(&status).expect("it was just seen")
    }
}

pub(crate) fn code<T>(result: Result<T, HttpError>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(HttpError::Status { code, .. }) => code,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) async fn get<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T, HttpError> {
    client.get(path, SOON).await
}

/// What is answered as soon as there is a leader to answer: one that the others did not hear for a
/// moment is replaced, and nothing was done then.
pub(crate) async fn led<T>(asking: impl AsyncFn() -> Result<T, HttpError>) -> Result<T, HttpError> {
    let begun = wire::clock::now();
    loop {
        match asking().await {
            Err(HttpError::Status { code: 503, .. }) if wire::clock::now().since(begun) < SOON => {
                sleep(Duration::from_millis(50)).await;
            }
            other => return other,
        }
    }
}

/// What is granted at once.
pub(crate) async fn granted(operator: &Client, request: &Request) -> Accepted {
    led(|| operator.post("/v1/requests", request, SOON)).await.expect("it is granted")
}

/// A report, and what its agent is told.
pub(crate) async fn reported(agent: &Client, report: &Report) -> Result<Answer, HttpError> {
    led(|| agent.post("/v1/report", report, SOON)).await
}

pub(crate) async fn declare(group: &Group, operator: &Client) {
    declare_as(group, operator, topology()).await;
}

pub(crate) async fn declare_as(group: &Group, operator: &Client, topology: Topology) {
    group.until(operator, |status| status.voters.iter().all(|voter| voter.recorded)).await;
    let request = Request::Apply { expected: 0, topology: Box::new(topology), reason: "x".into() };
    assert!(granted(operator, &request).await.revision > Revision(0));
}

/// Both instances report, each what `says` makes of what it was last told, until the changes of
/// primary are as wanted. Each says back what the leader told it last, as an agent does.
pub(crate) async fn report_until(
    group: &Group,
    operator: &Client,
    says: impl Fn(u64, u64, Option<&Answer>) -> Report,
    done: impl Fn(&[Record]) -> bool,
) {
    let agents = [group.client(0, "agent", "s1-1"), group.client(0, "agent", "s2-1")];
    let reporting = async {
        let mut told: [Option<Answer>; 2] = [None, None];
        for sequence in 1_u64.. {
            for ((agent, site), told) in agents.iter().zip([1, 2]).zip(&mut told) {
                let echo = told.as_ref().and_then(|answer| answer.echo);
                let report = Report { echo, ..says(site, sequence, told.as_ref()) };
                let answer = agent.post::<_, Answer>("/v1/report", &report, SOON).await;
                *told = answer.ok().filter(|answer| answer.echo.is_some()).or(told.take());
            }
            let all = led(|| get::<Transitions>(operator, "/v1/transitions")).await;
            let all = all.expect("it answers");
            if done(&all.transitions) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, reporting).await.expect("it comes to that");
}

/// The first primary of all is chosen among those who say that they have nothing.
pub(crate) async fn begun(group: &Group, operator: &Client) {
    let nothing = |site, sequence, _: Option<&Answer>| absent(site, sequence);
    report_until(group, operator, nothing, |all| !all.is_empty()).await;
}

#[tokio::test]
async fn i32_each_certificate_asks_for_its_own_only() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    let agent = group.client(0, "agent", "s1-1");
    let dns = group.client(0, "dns", "ns1");
    let voter = group.client(0, "voter", "v2");
    group.elected(&operator).await;

    for (who, path) in [
        (&agent, "/v1/status"),
        (&dns, "/v1/history"),
        (&voter, "/v1/topology"),
        (&agent, "/v1/what-if?hypothesis=x"),
        (&agent, "/v1/readiness"),
        (&operator, "/v1/assignment/s1-1"),
        (&agent, "/v1/assignment/s2-1"),
        (&dns, "/v1/assignment/s1-1"),
        (&agent, "/v1/zone?after=0&server=ns1"),
        (&dns, "/v1/zone?after=0&server=ns2"),
    ] {
        assert_eq!(code(get::<Any>(who, path).await), 403, "{path}");
    }
    let body = serde_json::json!({"what": "is this"});
    for (who, path, expected) in [
        (&operator, "/v1/raft", 403),
        (&agent, "/v1/forward", 403),
        (&agent, "/v1/requests", 403),
        (&operator, "/v1/report", 403),
        (&voter, "/v1/raft", 400),
        (&voter, "/v1/forward", 400),
        (&operator, "/v1/requests", 400),
        (&agent, "/v1/report", 400),
    ] {
        assert_eq!(code(who.post::<_, Any>(path, &body, SOON).await), expected, "{path}");
    }
    let other = absent(2, 1);
    assert_eq!(code(agent.post::<_, Any>("/v1/report", &other, SOON).await), 403);
    assert!(group.log(0).contains("refused"), "{}", group.log(0));
}

/// Asked of a voter that does not lead, answered by the one that does; garbage is told.
#[tokio::test]
async fn what_would_follow_is_answered_through_any_voter() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    group.elected(&operator).await;
    declare(&group, &operator).await;
    for voter in 0..3 {
        let operator = group.client(voter, "operator", "alice");
        let lost = "/v1/what-if?hypothesis=%7B%22lose-site%22%3A%22s1%22%7D";
        let told: WhatIf = get(&operator, lost).await.expect("there is a leader");
        assert!(told.rehearsal.refused.is_empty() && told.plan.is_none(), "{told:?}");
        assert!(told.rehearsal.endings.values().all(|ending| !ending.writes), "{told:?}");
        let nobody = "/v1/what-if?hypothesis=%7B%22lose-site%22%3A%22x%22%7D";
        let told: WhatIf = get(&operator, nobody).await.expect("there is a leader");
        assert!(told.rehearsal.refused.iter().any(|finding| finding.check == "site"));
        assert_eq!(code(get::<Any>(&operator, "/v1/what-if?hypothesis=%7B").await), 400);
    }
}

#[tokio::test]
async fn a_report_reaches_the_leader_through_any_voter() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    let leader = group.elected(&operator).await;
    let follower = (leader + 1) % 3;
    let agent = group.client(follower, "agent", "s1-1");
    assert_eq!(code(reported(&agent, &absent(1, 1)).await), 404);
    declare(&group, &operator).await;

    let answer = reported(&agent, &absent(1, 2)).await.expect("it is passed on");
    assert_eq!(answer.assignment.instance, instance(1));
    assert_eq!(answer.lease, None);
    let path = "/v1/assignment/s1-1?after=0";
    let current: Assignment = get(&agent, path).await.expect("it is declared");
    assert_eq!(current.instance, instance(1));

    // A poll that is ahead waits for the next change, and comes back with it.
    let path = format!("/v1/assignment/s1-1?after={}", current.revision);
    let waiting = {
        let agent = agent.clone();
        tokio::spawn(async move { get::<Assignment>(&agent, &path).await })
    };
    let other = group.client(follower, "agent", "s2-1");
    let news = async {
        // Each says back what the leader told it last, as an agent does.
        let mut told = [None, None];
        for sequence in 3_u64.. {
            for ((agent, site), told) in [(&agent, 1), (&other, 2)].into_iter().zip(&mut told) {
                let report = Report { echo: *told, ..absent(site, sequence) };
                let answer = agent.post::<_, Answer>("/v1/report", &report, SOON).await;
                *told = answer.ok().and_then(|answer| answer.echo).or(*told);
            }
            if waiting.is_finished() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, news).await.expect("news");
    let next = waiting.await.expect("no panic").expect("an assignment");
    assert!(next.revision > current.revision);

    let history: History = get(&operator, "/v1/history?limit=50").await.expect("there is one");
    assert!(history.entries.iter().any(|entry| entry.by == "alice"));
    let declared: DeclaredTopology = get(&operator, "/v1/topology").await.expect("there is one");
    assert_eq!(declared.version, 1);
    let dns = group.client(follower, "dns", "ns1");
    let zone: Zone = get(&dns, "/v1/zone?after=0&server=ns1&have=0").await.expect("a zone");
    assert!(zone.version > 0);
    let status = group
        .until(&operator, |status| status.name_servers.iter().all(|s| s.follows == Some(0)))
        .await;
    let reported = status.services[0].instances.iter().filter(|i| i.reported.is_some()).count();
    assert_eq!(reported, 2);
}

#[tokio::test]
async fn i19_a_killed_leader_is_replaced_and_returns() {
    let mut group = Group::start();
    let operator = group.client(0, "operator", "alice");
    let old = group.elected(&operator).await;
    declare(&group, &operator).await;
    group.kill(old);
    let other = group.client((old + 1) % 3, "operator", "alice");
    let new_leader = |status: &Status| {
        status.leader.as_ref().is_some_and(|leader| leader.voter.0 != old as u64 + 1)
    };
    group.until(&other, new_leader).await;
    let hold = Request::Hold { service: "clinic".parse().expect("a name"), reason: "x".into() };
    let _accepted: Accepted = other.post("/v1/requests", &hold, SOON).await.expect("granted");
    let process = group.spawn(old, None);
    group.processes[old] = Some(process);
    let returned = group.client(old, "operator", "alice");
    let status = group
        .until(&returned, |status| {
            let caught_up = |lag| lag == Some(0);
            status.leader.is_some()
                && status.services.iter().any(|service| service.hold.is_some())
                && status
                    .voters
                    .iter()
                    .all(|voter| voter.state == VoterState::Leader || caught_up(voter.lag_entries))
        })
        .await;
    assert_eq!(status.topology_version, 1);
}

/// A voter whose disk is full says so, answers nothing else, and the others go on.
#[tokio::test]
async fn i22_a_voter_with_a_full_disk_stops_and_says_so() {
    let group = Group::start_with(Some(1_100), "");
    let operator = group.client(1, "operator", "alice");
    let sick = group.client(0, "operator", "alice");
    group.elected(&operator).await;
    declare(&group, &operator).await;
    let service: failover::ServiceId = "clinic".parse().expect("a name");
    let reason = "x".repeat(60_000);
    let mut stopped = None;
    for n in 0..400 {
        let request = if n % 2 == 0 {
            Request::Hold { service: service.clone(), reason: reason.clone() }
        } else {
            Request::Resume { service: service.clone(), reason: reason.clone() }
        };
        let _answer = operator.post::<_, Accepted>("/v1/requests", &request, SOON).await;
        if let Err(HttpError::Status { code: 503, problem }) =
            get::<Status>(&sick, "/v1/status").await
            && problem.error.contains("disk")
        {
            stopped = Some(problem.error);
            break;
        }
    }
    let stopped = stopped.unwrap_or_else(|| panic!("it went on\n{}", group.log(0)));
    assert!(stopped.contains("does not act"), "{stopped}");
    assert!(group.log(0).contains("stops acting"), "{}", group.log(0));
    group.until(&operator, |status| status.leader.as_ref().is_some_and(|l| l.voter.0 != 1)).await;
}

#[tokio::test]
async fn i27_garbage_on_the_port_changes_nothing() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    group.elected(&operator).await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 255, 255, 0, 0], &[0; 4096]] {
        let mut stream = TcpStream::connect(group.addresses[0]).await.expect("it listens");
        stream.write_all(bytes).await.expect("it takes bytes");
        stream.shutdown().await.expect("it is open");
        let mut rest = Vec::new();
        let _closed = timeout(SOON, stream.read_to_end(&mut rest)).await.expect("it hangs up");
    }
    let status: Status = get(&operator, "/v1/status").await.expect("it answers");
    assert!(status.leader.is_some());
    assert!(status.services.is_empty());
}
