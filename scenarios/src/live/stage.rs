//! One scenario being played: the cluster, its clients, and what was seen of it so far.

use std::collections::BTreeMap;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use failover::time::Moment;
use wire::clock;

use super::database;
use super::faults::outside;
use super::load::Load;
use super::secondaries::Secondaries;
use crate::lab::answers::{Report, Status};
use crate::lab::cluster::Cluster;
use crate::lab::layout::SERVICE;
use crate::lab::process::wait_or_kill;
use crate::lab::stop::Stop;
use crate::script::{Place, Places, Scenario};

/// The table that clients append to, and the procedure of F-11.
const TABLE: &str = "create table if not exists baton_probe.items (\
    id bigint generated always as identity primary key, run text not null, writer int not null, \
    n bigint not null, at timestamptz not null default clock_timestamp(), \
    unique (run, writer, n)); \
    alter table baton_probe.items owner to baton_probe; \
    create table if not exists baton_probe.lock (x int); \
    grant select on baton_probe.lock to baton_probe; \
    create table if not exists baton_probe.kept as select generate_series(1, 2000) as x; \
    create or replace procedure baton_probe.append(run text, writer int, n bigint) \
    language plpgsql as $$ begin insert into baton_probe.items (run, writer, n) \
    values (run, writer, n); commit; end $$";

/// What a site's PostgreSQL logs when it has left recovery on a timeline of its own.
const PROMOTED: &str = "selected new timeline ID";

/// How far a log was read, and what was found in it.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    offset: u64,
    promotions: u32,
}

/// What changes while a scenario is played.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The newest status.
    pub(super) status: Option<Status>,
    /// The last leader that was seen.
    leader: Option<(u64, String)>,
    /// How often it changed.
    elections: u32,
    logs: BTreeMap<String, Read>,
    /// What stands beside the cluster and ends with the scenario.
    pub(super) children: Vec<Child>,
    /// What went wrong.
    pub(super) violations: Vec<String>,
    /// What is worth knowing.
    pub(super) remarks: Vec<String>,
}

/// A scenario being played.
#[derive(Debug)]
pub struct Stage<'a> {
    /// What is played.
    pub scenario: &'a Scenario,
    pub(super) stop: Stop,
    /// Whose clients are told what; ended before the cluster is.
    pub(super) load: Mutex<Load>,
    /// Foreign name servers.
    pub(super) secondaries: Option<Secondaries>,
    /// On what.
    pub cluster: Cluster,
    /// The run's name in the table.
    pub(super) run: String,
    /// When it began.
    pub(super) began: Moment,
    parts: [String; 3],
    seen: Mutex<Seen>,
    base: u32,
}

impl<'a> Stage<'a> {
    /// Sets the scene: the table, the clients, and who plays which part.
    ///
    /// # Errors
    /// When the cluster is not as it should be.
    pub fn set(
        scenario: &'a Scenario,
        cluster: Cluster,
        secondaries: Option<Secondaries>,
        stop: &Stop,
    ) -> Result<Self> {
        let status = cluster.wait_redundant(Duration::from_secs(90), &mut |_| ())?;
        let primary = status.home().context("the service has a primary")?;
        let mut names: Vec<String> =
            cluster.layout.shape.names().into_iter().map(str::to_owned).collect();
        names.sort_by_key(|name| *name != primary);
        database::ask(&cluster, &primary, TABLE, Duration::from_secs(20))?;
        let run = scenario.id.clone();
        let load = Load::start(&cluster, &run, &scenario.setting.workload)?;
        let part = |index: usize| names.get(index).cloned().unwrap_or_default();
        let mut stage = Self {
            scenario,
            stop: stop.clone(),
            load: Mutex::new(load),
            secondaries,
            cluster,
            run,
            began: clock::now(),
            parts: [part(0), part(1), part(2)],
            seen: Mutex::default(),
            base: 0,
        };
        let first = clock::now();
        stop.until("the first rows", Duration::from_secs(20), Duration::from_millis(20), || {
            Ok((stage.lock_load().journal.acked_since(first)).then_some(()))
        })?;
        stop.pause(Duration::from_millis(700))?;
        stage.look();
        stage.base = stage.promotions();
        stage.lock().elections = 0;
        stage.began = clock::now();
        Ok(stage)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_load(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the scenario began.
    pub(super) fn now(&self) -> Duration {
        clock::now().since(self.began)
    }

    /// Something is not as it must be.
    pub(super) fn violated(&self, what: String) {
        self.lock().violations.push(what);
    }

    /// Something worth knowing.
    pub(super) fn remark(&self, what: String) {
        let mut seen = self.lock();
        if !seen.remarks.contains(&what) {
            seen.remarks.push(what);
        }
    }

    /// Asks for the status, and notes who leads. `None`: nobody can say.
    pub(super) fn look(&self) -> Option<Status> {
        let status: Option<Status> = self.cluster.ask(&["--timeout", "1s", "status"]).ok();
        let mut seen = self.lock();
        if let Some(status) = &status
            && let Some(leader) = &status.leader
        {
            let now = (status.term, leader.name.clone());
            if seen.leader.as_ref().is_some_and(|before| *before != now) {
                seen.elections += 1;
            }
            seen.leader = Some(now);
        }
        if status.as_ref().is_some_and(|status| status.leader.is_some()) || seen.status.is_none() {
            seen.status.clone_from(&status);
        }
        status
    }

    /// How often another leader was seen.
    pub(super) fn elections(&self) -> u32 {
        self.lock().elections
    }

    /// How often PostgreSQL left recovery since the scenario began.
    pub(super) fn promoted(&self) -> u32 {
        self.promotions().saturating_sub(self.base)
    }

    fn promotions(&self) -> u32 {
        use std::io::{Read as _, Seek, SeekFrom};
        let mut seen = self.lock();
        for site in self.cluster.layout.shape.holders() {
            let log = self.cluster.layout.run(site.name).join("postgres.log");
            let known = seen.logs.entry(site.name.to_owned()).or_default();
            let Ok(mut file) = std::fs::File::open(log) else { continue };
            let length = file.metadata().map_or(0, |found| found.len());
            if length < known.offset {
                known.offset = 0;
            }
            let mut text = String::new();
            let read = file
                .seek(SeekFrom::Start(known.offset))
                .and_then(|_| file.read_to_string(&mut text));
            if read.is_err() {
                continue;
            }
            // A line that is not whole yet is read again.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            let lines = text.get(..whole).unwrap_or_default();
            known.offset += u64::try_from(whole).unwrap_or(0);
            let found = lines.lines().filter(|line| line.contains(PROMOTED)).count();
            known.promotions += u32::try_from(found).unwrap_or(0);
        }
        seen.logs.values().map(|log| log.promotions).sum()
    }

    /// The sites that `places` name; `other`: what the other end of the same verb names.
    ///
    /// # Errors
    /// When nobody knows who leads or who is the primary.
    pub(super) fn sites(&self, places: &Places, other: Option<&Places>) -> Result<Vec<String>> {
        let mut sites = Vec::new();
        for place in places {
            match place {
                Place::Primary => sites.extend(self.parts.first().cloned()),
                Place::Standby => sites.extend(self.parts.get(1).cloned()),
                Place::Third => sites.extend(self.parts.get(2).cloned()),
                Place::Clients => sites.push(outside()),
                Place::Site(name) => sites.push(name.clone()),
                Place::All => sites.extend(self.all()),
                Place::Rest => {
                    let named = match other {
                        Some(other) => self.sites(other, None)?,
                        None => Vec::new(),
                    };
                    sites.extend(self.all().into_iter().filter(|site| !named.contains(site)));
                }
                Place::CurrentPrimary => {
                    sites.push(self.home()?);
                }
                Place::Leader => {
                    let leader = self.lock().leader.clone();
                    sites.push(leader.context("nobody knows the leader")?.1);
                }
            }
        }
        Ok(sites)
    }

    /// The site that holds the primary, as far as is known.
    ///
    /// # Errors
    /// When nobody knows.
    pub(super) fn home(&self) -> Result<String> {
        let home = self.lock().status.as_ref().and_then(Status::home);
        home.context("nobody knows the primary")
    }

    /// Every site.
    pub(super) fn all(&self) -> Vec<String> {
        self.cluster.layout.shape.names().into_iter().map(str::to_owned).collect()
    }

    /// Whether a site holds data.
    pub(super) fn holds_data(&self, site: &str) -> bool {
        self.cluster.layout.shape.holders().iter().any(|holder| holder.name == site)
    }

    /// Keeps what baton says of the situation, beside the logs.
    pub(super) fn explain(&self, line: u32) {
        let mut text = String::new();
        for words in [&["status"][..], &["explain", SERVICE], &["report"], &["history"]] {
            let all: Vec<&str> = ["--timeout", "1s"].iter().chain(words).copied().collect();
            if let Ok(output) = self.cluster.output(&all, Duration::from_secs(5)) {
                text.push_str(&String::from_utf8_lossy(&output.stdout));
                text.push_str(&String::from_utf8_lossy(&output.stderr));
            }
        }
        let _ = std::fs::write(self.cluster.folder().join(format!("line-{line}.log")), text);
    }

    /// The newest transition's report.
    pub(super) fn newest_report(&self) -> Option<Report> {
        let all: Vec<Report> = self.cluster.ask(&["--timeout", "1s", "report"]).ok()?;
        all.into_iter().max_by_key(|record| record.id.0)
    }

    /// Ends what stands beside the cluster.
    pub(super) fn end_children(&self) {
        let children = std::mem::take(&mut self.lock().children);
        for mut child in children {
            let _ = child.kill();
            wait_or_kill(&mut child, Duration::from_secs(2));
        }
    }
}
