//! `baton incident collect`: one archive of everything there is to know of the last hours. What
//! cannot be had is named in it; what leaves the house has no secrets in it.

mod archive;
mod logs;
mod post_mortem;
mod timeline;

use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use failover::Timestamp;
use failover::cluster::{Outcome, Record, StepRecord};
use failover::drill::{self, Drill};
use failover::ids::{TransitionId, VoterId};
use failover::topology::Topology;
use orchestrator::answers::{
    Bundle, DeclaredTopology, Drills, Explain, History, Readiness, Status, Transitions,
};
use serde::Serialize;
use tokio::task::JoinSet;
use wire::clock;
use wire::http::Client;
use wire::role::Kind;
use wire::scrub::ServerLogWindow;
use wire::tls::Identity;

use self::archive::Archive;
use self::logs::Log;
use self::timeline::{Clocks, Timeline};
use crate::client::{Cluster, Failure};
use crate::report::witness;
use crate::screen::{print, remark};
use crate::settings::Settings;
use crate::verbs::{Collect, Globals, Incident, IncidentVerb, Since};

/// No more entries of the history than this.
const HISTORY: usize = 10_000;

/// What the archive says of itself.
#[derive(Serialize)]
struct About<'a> {
    format: u32,
    cluster: &'a str,
    since: Timestamp,
    until: Timestamp,
    version: &'static str,
    clocks: &'a Clocks,
}

/// What became of it, for programs.
#[derive(Serialize)]
struct Written<'a> {
    archive: &'a Path,
    files: usize,
    bytes: usize,
    missing: &'a [String],
}

pub async fn run(globals: &Globals, arguments: &Incident) -> Result<u8, Failure> {
    let IncidentVerb::Collect(asked) = &arguments.verb;
    let mut signals = wire::shutdown::on_signal();
    tokio::select! {
        done = collect(globals, asked) => done,
        _ = signals.wait_for(|asked| *asked) => {
            Err(Failure::failed("given up: nothing was written"))
        }
    }
}

async fn collect(globals: &Globals, asked: &Collect) -> Result<u8, Failure> {
    let settings = Settings::load(globals)?;
    let until = clock::wall();
    let since = match asked.since {
        Since::At(at) => at,
        Since::Ago(ago) => Timestamp(until.0 - i64::try_from(ago.as_millis()).unwrap_or(until.0)),
    };
    let name = format!("incident-{}-{}", settings.cluster, compact(until));
    let out = asked.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    if out.exists() {
        let error = format!("{}: is there already", out.display());
        return Err(Failure::config(error, "name another with --out"));
    }
    let mut case = Case::open(globals, &settings, (since, until))?;
    case.state().await;
    case.records().await;
    case.name_servers().await;
    case.agents().await;
    case.files(asked);
    case.witness(asked.probe.as_deref()).await;
    case.conclude();
    let Case { archive, clocks, .. } = case;
    let (files, missing) = (archive.names().count() + 1, archive.missing.clone());
    let version = env!("CARGO_PKG_VERSION");
    let about =
        About { format: 1, cluster: &settings.cluster, since, until, version, clocks: &clocks };
    let at = u64::try_from(until.0 / 1_000).unwrap_or(0);
    let packed = archive.pack(&name, at, about)?;
    let failed = |error| Failure::config(format!("{}: {error}", out.display()), "");
    wire::files::write_secret(&out, &packed).map_err(failed)?;
    let mut text = format!("{}: {files} files, {} kB", out.display(), packed.len() / 1_024);
    for line in &missing {
        let _ = write!(text, "\nnot in it: {line}");
    }
    text.push_str("\nread it before you hand it on");
    let (bytes, missing) = (packed.len(), missing.as_slice());
    print(globals.output, &Written { archive: &out, files, bytes, missing }, &text)?;
    Ok(if missing.is_empty() { wire::exit::OK } else { wire::exit::FAILED })
}

fn compact(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// What is known so far.
struct Case<'a> {
    globals: &'a Globals,
    settings: &'a Settings,
    identity: Arc<Identity>,
    cluster: Cluster,
    window: (Timestamp, Timestamp),
    archive: Archive,
    clocks: Clocks,
    status: Option<Status>,
    topology: Option<Topology>,
    records: Vec<Record>,
    drills: Vec<Drill>,
    said: Vec<(VoterId, Timestamp, String)>,
    logs: Vec<Log>,
    felt: Vec<(TransitionId, Vec<String>)>,
}

impl<'a> Case<'a> {
    fn open(
        globals: &'a Globals,
        settings: &'a Settings,
        window: (Timestamp, Timestamp),
    ) -> Result<Self, Failure> {
        let identity = Identity::load(&settings.tls)
            .map_err(|error| Failure::config(error.to_string(), ""))?;
        Ok(Self {
            globals,
            settings,
            identity: Arc::new(identity),
            cluster: Cluster::open(settings, globals)?,
            window,
            archive: Archive::default(),
            clocks: Clocks { reference: "this machine".to_owned(), ..Clocks::default() },
            status: None,
            topology: None,
            records: Vec::new(),
            drills: Vec::new(),
            said: Vec::new(),
            logs: Vec::new(),
            felt: Vec::new(),
        })
    }

    fn say(&self, text: &str) {
        remark(self.globals.output, text);
    }

    fn lacks(&mut self, what: &str, why: impl Display) {
        self.archive.missing.push(format!("{what}: {why}"));
    }

    fn is_within(&self, steps: &[StepRecord], is_open: bool) -> bool {
        let (since, until) = self.window;
        let begun = steps.first().is_some_and(|step| step.at <= until);
        begun && (is_open || steps.last().is_some_and(|step| step.at >= since))
    }

    /// How everything stands now: as each voter sees it, and as the leader explains it.
    async fn state(&mut self) {
        self.say("asking the voters");
        let mut asked = JoinSet::new();
        for client in self.cluster.clients() {
            asked.spawn(view(client.clone(), self.cluster.timeout()));
        }
        let mut views = Vec::new();
        for (address, view) in asked.join_all().await {
            match view {
                Ok((status, ahead)) => {
                    let name = status.answered_by.name.clone();
                    self.archive.answer(&format!("voters/{name}.json"), &status);
                    let leads = status.leader.as_ref().is_some_and(|l| l.name == name);
                    views.push((name, ahead));
                    if self.status.is_none() || leads {
                        self.status = Some(status);
                    }
                }
                Err(error) => self.lacks(&format!("the view of the voter at {address}"), error),
            }
        }
        self.set_clocks(&views);
        if let Some(status) = self.status.clone() {
            self.archive.answer("status.json", &status);
            for service in &status.services {
                let name = service.service.to_string();
                let file = format!("explain/{name}.json");
                let path = format!("/v1/explain/{name}");
                let told = self.cluster.get::<Explain>(&path).await;
                self.answer(&file, told);
            }
        }
        let told = self.cluster.get::<Readiness>("/v1/readiness").await;
        self.answer("readiness.json", told);
        let path = format!("/v1/history?limit={HISTORY}");
        let told = self.cluster.get::<History>(&path).await;
        self.answer("history.json", told);
        let told = self.cluster.get::<DeclaredTopology>("/v1/topology").await;
        if let Some(mut declared) = self.take("topology.json", told) {
            self.topology = Some(declared.topology.clone());
            for spec in declared.topology.services.values_mut() {
                // They may name a password of LDAP or a secret of RADIUS.
                let count = spec.client_access.len();
                spec.client_access = vec![format!("{count} lines, left out")];
            }
            self.archive.answer("topology.json", &declared);
        } else if let Ok(declared) = self.settings.topology(None) {
            self.topology = Some(declared.topology);
        }
    }

    fn take<T>(&mut self, name: &str, told: Result<T, Failure>) -> Option<T> {
        told.map_err(|failure| self.lacks(name, failure.problem.error)).ok()
    }

    fn answer<T: Serialize>(&mut self, name: &str, told: Result<T, Failure>) {
        if let Some(told) = self.take(name, told) {
            self.archive.answer(name, &told);
        }
    }

    /// The leader's clock is the reference, else any voter's.
    fn set_clocks(&mut self, views: &[(String, i64)]) {
        let leader = self.status.as_ref().and_then(|s| s.leader.as_ref()).map(|l| l.name.clone());
        let known = |name: &String| views.iter().find(|(of, _)| of == name);
        let reference = leader.as_ref().and_then(known).or_else(|| views.first());
        let Some((reference, base)) = reference.cloned() else { return };
        let of = |(name, ahead): &(String, i64)| (name.clone(), ahead - base);
        self.clocks.ahead_ms = views.iter().map(of).collect();
        self.clocks.ahead_ms.insert("this machine".to_owned(), -base);
        self.clocks.reference = reference;
    }

    /// What was decided and done: transitions and drills of the window with their evidence, the
    /// audit records, and who was the primary in which epoch.
    async fn records(&mut self) {
        self.say("collecting records and evidence");
        let told = self.cluster.get::<Transitions>("/v1/transitions").await;
        if let Some(Transitions { transitions }) = self.take("transitions", told) {
            self.archive.answer("epochs.json", &epochs(&transitions));
            self.records = transitions;
            let within = |record: &Record| {
                self.is_within(&record.steps, matches!(record.outcome, Outcome::Open))
            };
            self.records = self.records.iter().filter(|r| within(r)).cloned().collect();
        }
        let told = self.cluster.get::<Drills>("/v1/drills").await;
        if let Some(Drills { drills }) = self.take("drills", told) {
            let within = |drill: &&Drill| {
                self.is_within(&drill.steps, drill.outcome == drill::Outcome::Open)
            };
            self.drills = drills.iter().filter(within).cloned().collect();
        }
        for record in self.records.clone() {
            let name = format!("evidence/transition-{}.json", record.id);
            self.archive.answer(
                &format!("transitions/{}.json", record.id),
                &crate::report::with_phases(&record, None),
            );
            self.evidence(&name, &format!("/v1/evidence/{}", record.id)).await;
        }
        for drill in self.drills.clone() {
            let name = format!("evidence/drill-{}.json", drill.id);
            self.archive.answer(&format!("drills/{}.json", drill.id), &drill);
            self.evidence(&name, &format!("/v1/evidence/drills/{}", drill.id)).await;
        }
        match crate::audit::since(&self.cluster, self.window.0).await {
            Ok(found) => {
                let mut lines = String::new();
                for (line, listed) in found {
                    self.said.push((
                        listed.voter,
                        listed.at,
                        format!("{} (by {})", listed.text, listed.by),
                    ));
                    if archive::is_clean(&line) {
                        lines.push_str(&line);
                    } else {
                        self.lacks(
                            &format!("audit record {}", listed.number),
                            "it holds what looks like a secret",
                        );
                        let _ = write!(lines, "{{\"left_out\":{}}}", listed.number);
                    }
                    lines.push('\n');
                }
                self.archive.whole("audit.jsonl", &lines);
            }
            Err(failure) => self.lacks("audit.jsonl", failure.problem.error),
        }
    }

    async fn evidence(&mut self, name: &str, path: &str) {
        let told = self.cluster.get::<Bundle>(path).await;
        if let Some(Bundle { bundle }) = self.take(name, told) {
            self.archive.whole(name, &bundle);
        }
    }

    async fn name_servers(&mut self) {
        let Some(topology) = self.topology.clone() else {
            return self.lacks("dns.json", "no topology is known");
        };
        self.say("asking the name servers");
        let (answer, problems) = crate::dns::everywhere(&topology, self.status.as_ref()).await;
        let told = serde_json::json!({"asked": answer, "problems": problems});
        self.archive.answer("dns.json", &told);
    }

    /// What each agent reports, and its PostgreSQL's log.
    async fn agents(&mut self) {
        let Some(topology) = self.topology.clone() else { return };
        self.say("asking the agents");
        let mut asked = JoinSet::new();
        for spec in topology.services.values() {
            for (id, instance) in &spec.instances {
                let path = format!("/v1/server-log?since={}", self.window.0.0);
                let identity = Arc::clone(&self.identity);
                let (id, address) = (id.to_string(), instance.agent);
                let timeout = self.cluster.timeout();
                asked.spawn(async move {
                    let client = match Client::new(&identity, Kind::Agent, address) {
                        Ok(client) => client,
                        Err(error) => return (id, Err(error.to_string()), Err(error.to_string())),
                    };
                    let report = client.get::<serde_json::Value>("/v1/local", timeout).await;
                    let before = clock::now();
                    let window = client.get::<ServerLogWindow>(&path, timeout).await;
                    let half = clock::now().since(before).as_millis() / 2;
                    let half = i64::try_from(half).unwrap_or(0);
                    let window = window.map(|window| {
                        let ahead = window.at.0 - (clock::wall().0 - half);
                        (window, ahead)
                    });
                    let said = |error: wire::http::HttpError| error.to_string();
                    (id, report.map_err(said), window.map_err(said))
                });
            }
        }
        for (id, report, window) in asked.join_all().await {
            match report {
                Ok(report) => self.archive.answer(&format!("agents/{id}.json"), &report),
                Err(error) => self.lacks(&format!("the report of {id}'s agent"), error),
            }
            match window {
                Ok((window, ahead)) => {
                    let base = self.clocks.ahead_ms.get("this machine").copied().unwrap_or(0);
                    self.clocks.ahead_ms.insert(id.clone(), ahead + base);
                    if !window.is_whole {
                        self.lacks(
                            &format!("PostgreSQL's log of {id}"),
                            "not as far back as asked",
                        );
                    }
                    let ServerLogWindow { lines, left_out, .. } = window;
                    self.logs.push(logs::of_agent(&id, &lines, left_out, self.window.0));
                }
                Err(error) => self.lacks(&format!("PostgreSQL's log of {id}"), error),
            }
        }
    }

    /// Logs of this machine.
    fn files(&mut self, asked: &Collect) {
        self.say("reading logs");
        match logs::journal(self.window.0) {
            Ok(log) if log.lines.is_empty() => {}
            Ok(log) => self.logs.push(log),
            Err(error) => self.lacks("this machine's journal", error),
        }
        for named in &asked.log {
            let text = named.to_string_lossy();
            let stem = || named.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let (who, path) = text.split_once('=').map_or_else(
                || (stem(), named.clone()),
                |(who, path)| (who.to_owned(), PathBuf::from(path)),
            );
            match logs::file(&who, &path, self.window.0) {
                Ok(log) => self.logs.push(log),
                Err(error) => self.lacks(&path.display().to_string(), error),
            }
        }
    }

    async fn witness(&mut self, journal: Option<&Path>) {
        let Some(journal) = journal else { return };
        self.say("reading the probe writer's journal");
        for record in self.records.clone() {
            let told = match witness::witness(self.settings, &record, journal).await {
                Ok(line) => {
                    self.archive.words(&format!("probe/transition-{}.json", record.id), &line);
                    witness::read(&line, record.id)
                }
                Err(failure) => Err(failure.problem.error),
            };
            match told {
                Ok(told) => self.felt.push((record.id, witness::lines(&told))),
                Err(error) => self.lacks(&journal.display().to_string(), error),
            }
        }
    }

    /// The logs, the timeline of everything, and the post-mortem.
    fn conclude(&mut self) {
        let mut timeline = Timeline::default();
        let voters = self.status.iter().flat_map(|status| &status.voters);
        let names: Vec<(VoterId, String)> = voters.map(|v| (v.id, v.name.clone())).collect();
        let name = |id: VoterId| {
            let known = names.iter().find(|(of, _)| *of == id);
            known.map_or_else(|| format!("voter {id}"), |(_, name)| name.clone())
        };
        // Steps of transitions and drills are audit records, too: these have all of them.
        for (voter, at, text) in std::mem::take(&mut self.said) {
            timeline.add(&self.clocks, &name(voter), at, format!("RECORD {text}"));
        }
        for (number, log) in (1..).zip(std::mem::take(&mut self.logs)) {
            let mut lines = format!("# {}: {} lines left out\n", log.who, log.left_out);
            for (at, line) in log.lines {
                lines.push_str(&line);
                lines.push('\n');
                if let Some(at) = at {
                    timeline.add(&self.clocks, &log.who, at, line);
                }
            }
            let who: String =
                log.who.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            self.archive.words(&format!("logs/{number:02}-{who}.log"), &lines);
        }
        self.archive.words("timeline.txt", &timeline.text(&self.clocks));
        let post_mortem = post_mortem::text(&post_mortem::Known {
            cluster: &self.settings.cluster,
            window: self.window,
            records: &self.records,
            drills: &self.drills,
            felt: &self.felt,
            clocks: &self.clocks,
            missing: &self.archive.missing,
        });
        self.archive.words("post-mortem.md", &post_mortem);
    }
}

/// One voter's own view, and by how much its clock is ahead of ours. It was read about half-way.
async fn view(
    client: Client,
    timeout: std::time::Duration,
) -> (std::net::SocketAddr, Result<(Status, i64), wire::http::HttpError>) {
    let before = clock::now();
    let told = client.get::<Status>("/v1/status?here=true", timeout).await;
    let half = i64::try_from(clock::now().since(before).as_millis() / 2).unwrap_or(0);
    let now = clock::wall().0;
    let ahead = |status: Status| {
        let ahead = status.at.0 - (now - half);
        (status, ahead)
    };
    (client.address(), told.map(ahead))
}

/// Who was the primary of which service in which epoch, by the change that began it.
#[derive(Serialize)]
struct EpochBegun {
    service: String,
    epoch: u64,
    primary: String,
    since: Timestamp,
    transition: TransitionId,
}

fn epochs(records: &[Record]) -> Vec<EpochBegun> {
    let begun = records.iter().filter_map(|record| {
        let sealed = record.steps.iter().find(|step| step.name == "seal")?;
        Some(EpochBegun {
            service: record.service.to_string(),
            epoch: record.epoch.next().0,
            primary: record.to.as_ref()?.to_string(),
            since: sealed.at,
            transition: record.id,
        })
    });
    begun.collect()
}
