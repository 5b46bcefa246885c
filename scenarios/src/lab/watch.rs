//! Watching one change of primary from outside while it happens: the transition's own report, the
//! answer of every name server, and the client's first acknowledged write.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use failover::cluster::{Outcome, Record, StepRecord, Trigger};
use failover::time::Moment;
use wire::clock;

use super::cluster::Cluster;
use super::journal::Gap;
use super::names::Watched;
use super::probe::Probe;
use super::screen::Tone;
use super::stop::Stop;
use super::timeline::Timeline;

/// How a change is watched.
#[derive(Debug)]
pub struct Watch<'a> {
    /// Of which cluster.
    pub cluster: &'a Cluster,
    /// When it is to end at the latest.
    pub stop: &'a Stop,
    /// Its number.
    pub transition: u64,
    /// When it began: the fault, or the request.
    pub began: Moment,
    /// The site that is dead meanwhile: its name server is not waited for.
    pub dead: Option<&'a str>,
    /// Who answered before: `address:port`.
    pub before: Option<String>,
}

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// The transition's report.
    pub record: Record,
    /// The clients' gap.
    pub gap: Gap,
    /// When it began: the fault, or the request.
    pub began: Moment,
}

/// State of the watching.
struct Progress {
    names: Vec<(Watched, bool)>,
    old: Option<Ipv4Addr>,
    steps: usize,
    record: Option<Record>,
    written: bool,
    told: BTreeSet<String>,
}

impl Watch<'_> {
    /// Watches until the transition is done, every living name server has moved and a write is
    /// acknowledged elsewhere.
    ///
    /// # Errors
    /// When that takes longer than `bound`, or the transition was aborted.
    pub fn run(&self, probe: &mut Probe, line: &mut Timeline, bound: Duration) -> Result<Seen> {
        let names = self.cluster.watch_names()?;
        let old = self.before.as_deref().and_then(|place| place.rsplit_once(':')?.0.parse().ok());
        let mut progress = Progress {
            names: names
                .into_iter()
                .filter(|watched| self.dead != Some(watched.site.as_str()))
                .map(|watched| (watched, false))
                .collect(),
            old,
            steps: 0,
            record: None,
            written: false,
            told: BTreeSet::new(),
        };
        let over = Stop::default();
        let (say, reports) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| self.poll(&over, &say));
            let look = || {
                for record in reports.try_iter() {
                    progress.hear(record, line);
                }
                self.look(&mut progress, probe, line)?;
                line.show(clock::now());
                Ok(progress.is_over().then_some(()))
            };
            let seen = self.stop.until("the change of primary", bound, POLL, look);
            over.tell(nix::sys::signal::Signal::SIGTERM);
            line.finish();
            seen
        })?;
        let record = progress.record.context("a transition that is over has a report")?;
        if let Outcome::Aborted(why) = &record.outcome {
            anyhow::bail!("transition {} was given up: {why}", record.id);
        }
        let gap = probe.journal.gap_after(self.began.0).context("the journal has no gap")?;
        Ok(Seen { record, gap, began: self.began })
    }

    fn poll(&self, over: &Stop, say: &Sender<Record>) {
        while over.pause(Duration::from_millis(100)).is_ok() {
            if let Ok(Some(record)) = self.cluster.report(self.transition)
                && say.send(record).is_err()
            {
                return;
            }
        }
    }

    fn look(&self, progress: &mut Progress, probe: &mut Probe, line: &mut Timeline) -> Result<()> {
        for notice in self.cluster.notices() {
            line.add(clock::now(), Tone::Notable, "notice", &notice);
        }
        for (watched, moved) in progress.names.iter_mut().filter(|(_, moved)| !moved) {
            let Some(address) = watched.ask(Duration::from_millis(5)) else { continue };
            if Some(address) != progress.old {
                *moved = true;
                let text = format!("the name server of {} answers {address}", watched.site);
                line.add(clock::now(), Tone::Plain, "redirected", &text);
            }
        }
        probe.read_on()?;
        let first = probe.journal.first_after(self.began.0, self.before.as_deref());
        if let (false, Some(first)) = (progress.written, first)
            && let Some(acked) = first.acked_us
        {
            progress.written = true;
            let server = first.server.as_deref().unwrap_or("the new primary");
            let text = format!("row {} acknowledged by {server}", first.n);
            line.add(Moment(acked), Tone::Good, "writing", &text);
        }
        Ok(())
    }
}

const POLL: Duration = Duration::from_millis(10);

impl Progress {
    fn hear(&mut self, record: Record, line: &mut Timeline) {
        for step in record.steps.iter().skip(self.steps) {
            tell(&record, step, line);
        }
        self.steps = record.steps.len();
        if record.outcome != Outcome::Open && self.told.insert("outcome".into()) {
            let at = record.steps.last().map_or_else(clock::now, |step| Moment(step.monotonic_us));
            match &record.outcome {
                Outcome::Aborted(why) => line.add(at, Tone::Bad, "given up", why),
                Outcome::Superseded(by) => {
                    line.add(at, Tone::Notable, "superseded", &format!("by transition {by}"));
                }
                Outcome::Open | Outcome::Done => {}
            }
        }
        self.record = Some(record);
    }

    fn is_over(&self) -> bool {
        let ended = |record: &Record| record.outcome != Outcome::Open;
        let aborted = |record: &Record| matches!(record.outcome, Outcome::Aborted(_));
        let record = self.record.as_ref();
        record.is_some_and(aborted)
            || (self.written
                && self.names.iter().all(|(_, moved)| *moved)
                && record.is_some_and(ended))
    }
}

/// One step of a transition as a line.
fn tell(record: &Record, step: &StepRecord, line: &mut Timeline) {
    let at = Moment(step.monotonic_us);
    let note = step.note.as_str();
    let to_whom = record.to.as_ref();
    let to = to_whom.map_or_else(|| "nobody".to_owned(), ToString::to_string);
    let mut add = |word: &str, text: &str| line.add(at, Tone::Plain, word, text);
    match step.name.as_str() {
        "started" => match record.trigger {
            Trigger::PrimaryLost => add("detected", &or(&record.cause, note)),
            Trigger::Bootstrap | Trigger::Switchover | Trigger::Failover => {
                add("begun", &format!("for {}: {}", record.by, or(&record.cause, note)));
            }
        },
        "quiesce" => add("quiesced", note),
        "catch-up" => add("caught up", note),
        "seal" => {
            add("sealed", note);
            let chosen = record.examined.iter().find(|found| Some(&found.instance) == to_whom);
            match chosen.and_then(|found| found.position.as_ref()) {
                Some(position) => add("chosen", &format!("{to}, which stands at {position}")),
                None => add("chosen", &to),
            }
        }
        "promote" => add("promoted", &or(note, &format!("{to} is writable"))),
        "prove" => add("proven", &or(note, "its marker is durable under the new rule")),
        "redirect" => add("published", &or(note, "the zone has moved")),
        "verify" => line.add(at, Tone::Good, "verified", &or(note, "every server agrees")),
        other => add(other, note),
    }
}

fn or(note: &str, otherwise: &str) -> String {
    if note.is_empty() { otherwise.into() } else { note.into() }
}
