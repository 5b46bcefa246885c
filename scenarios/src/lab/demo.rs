//! The demonstration: a site is lost, comes back, and gets the service back, while a client
//! writes a row every ten milliseconds.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use wire::clock;

use super::answers::{Reconciled, Status};
use super::cluster::{Cluster, Options};
use super::directory::GENEROUS;
use super::journal::millis;
use super::layout::{SERVICE, SITES, writable_name};
use super::phases::Phases;
use super::probe::Probe;
use super::rejoin::{Rejoined, rejoin};
use super::screen::{Screen, Tone, seconds};
use super::statistics::tenths;
use super::stop::Stop;
use super::timeline::Timeline;
use super::watch::{Seen, Watch};

/// What the demonstration found; written as JSON too.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    failover: Failover,
    rejoin: Rejoin,
    switchover: Switchover,
    /// Nothing lost, DNS agrees everywhere, and the dead site rejoined.
    pub ok: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Failover {
    rto_ms: f64,
    detect_ms: Option<f64>,
    seal_ms: Option<f64>,
    promote_ms: Option<f64>,
    prove_ms: Option<f64>,
    redirect_ms: Option<f64>,
    acked: u64,
    lost: u64,
    unknown: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Rejoin {
    ms: f64,
    method: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Switchover {
    gap_ms: f64,
    acked: u64,
    lost: u64,
}

/// How long a change of primary may take before the demonstration gives up on it.
const CHANGE: Duration = Duration::from_mins(1);

/// Runs it, and writes `report.json` into `folder`.
///
/// # Errors
/// When a part of it does not come about at all.
pub fn demo(options: &Options, folder: &Path, stop: &Stop, screen: Screen) -> Result<Report> {
    let began = clock::now();
    screen.line(&screen.paint(Tone::Strong, "baton: a site is lost, and nothing else"));
    screen
        .line("Three sites on this machine, each with a voter, PostgreSQL under its agent, and a");
    screen.line("name server. Real processes, real TLS, real DNS packets.");
    screen.heading("Starting");
    let mut cluster = Cluster::make(options, stop)?;
    let status = cluster.bring_up(&mut |missing| screen.progress(missing))?;
    steady(&cluster, &status, screen)?;

    let (lost_site, mut first, seen) = lose(&cluster, &status, stop, screen)?;
    let (rejoined, mut second) = bring_back(&cluster, &lost_site, stop, screen)?;
    let (mut third, planned) = hand_back(&cluster, &lost_site, stop, screen)?;

    screen.heading("Asking every name server, and counting rows");
    let agree = dns_agrees(&cluster, screen, stop)?;
    // Every journal is held against the last primary: what was acknowledged must have come
    // through both changes.
    let counts = [&mut first, &mut second, &mut third].map(|probe| probe.reconcile(&cluster));
    let [during, between, after] = counts;
    let (during, between, after) = (during?, between?, after?);
    let report = judge(&seen, &during, &between, &rejoined, &planned, &after, agree);
    write(&report, folder)?;
    closing(&report, &seen, &planned, &between, screen);
    screen.line(&screen.paint(
        Tone::Faint,
        &format!(
            "  {} in all · {}",
            seconds(millis(began.0, clock::now().0)),
            folder.join("report.json").display()
        ),
    ));
    if report.ok {
        cluster.forget_logs();
    }
    Ok(report)
}

fn steady(cluster: &Cluster, status: &Status, screen: Screen) -> Result<()> {
    screen.heading("Steady state");
    let output = cluster.output(&["status"], Duration::from_secs(20))?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        screen.line(&format!("  {line}"));
    }
    let service = status.service().context("the cluster protects a service")?;
    let rule: Vec<&str> = service.rule.instances.iter().map(failover::InstanceId::as_str).collect();
    screen.line(&format!(
        "  A commit is acknowledged once it is on the disk of {} of {{{}}} besides the primary.",
        service.rule.required,
        rule.join(", ")
    ));
    Ok(())
}

fn lose(
    cluster: &Cluster,
    status: &Status,
    stop: &Stop,
    screen: Screen,
) -> Result<(String, Probe, Seen)> {
    let site = status.home().context("the service has a primary")?;
    screen.heading(&format!("Losing {site}"));
    let mut probe = Probe::start(cluster, "probe-1")?;
    probe.wait_acked(stop, 200)?;
    screen.line(&format!(
        "  The probe writer has {} rows acknowledged through {}.",
        probe.journal.acked(),
        writable_name().trim_end_matches('.')
    ));
    let transition = cluster.next_transition()?;
    let before = probe.journal.server().map(str::to_owned);
    let (began, count) = cluster.kill_site(&site);
    let mut line = Timeline::new(screen, began);
    let text = format!("every process of {site}: {count}, with SIGKILL");
    line.add(began, Tone::Bad, "killed", &text);
    let watch = Watch { cluster, stop, transition, began, dead: Some(&site), before };
    let seen = watch.run(&mut probe, &mut line, CHANGE)?;
    let seen = settle(seen, &mut probe, stop, screen)?;
    Ok((site, probe, seen))
}

fn bring_back(
    cluster: &Cluster,
    site: &str,
    stop: &Stop,
    screen: Screen,
) -> Result<(Rejoined, Probe)> {
    screen.heading(&format!("{site} comes back"));
    let mut probe = Probe::start(cluster, "probe-2")?;
    probe.wait_acked(stop, 20)?;
    let began = clock::now();
    let mut line = Timeline::new(screen, began);
    cluster.start_site(site)?;
    line.add(began, Tone::Plain, "started", &format!("the daemons of {site}"));
    let rejoined = rejoin(cluster, site, began, stop, Some(&mut line))?;
    probe.wait_acked(stop, 20)?;
    probe.end()?;
    Ok((rejoined, probe))
}

fn hand_back(cluster: &Cluster, site: &str, stop: &Stop, screen: Screen) -> Result<(Probe, Seen)> {
    screen.heading(&format!("Handing the service back to {site}, planned"));
    let status = cluster.wait_redundant(GENEROUS, &mut |missing| screen.progress(missing))?;
    cluster.acknowledge(&status)?;
    let mut probe = Probe::start(cluster, "probe-3")?;
    probe.wait_acked(stop, 100)?;
    let to = format!("{site}-1");
    let before = probe.journal.server().map(str::to_owned);
    let (transition, began) = cluster.switch_over(&to)?;
    let mut line = Timeline::new(screen, began);
    line.add(began, Tone::Plain, "asked", &format!("baton switchover {SERVICE} --to {to}"));
    let watch = Watch { cluster, stop, transition, began, dead: None, before };
    let seen = watch.run(&mut probe, &mut line, CHANGE)?;
    let seen = settle(seen, &mut probe, stop, screen)?;
    Ok((probe, seen))
}

/// A second more of writing, so that the journal shows whether anything stalled afterwards.
fn settle(seen: Seen, probe: &mut Probe, stop: &Stop, screen: Screen) -> Result<Seen> {
    probe.wait_acked(stop, 100)?;
    probe.end()?;
    let gap = probe.journal.gap_after(seen.began.0).context("the journal has no gap")?;
    let text = format!("  Without writes for {}.", seconds(gap.millis()));
    screen.line(&screen.paint(Tone::Strong, &text));
    Ok(Seen { gap, ..seen })
}

/// Whether every name server comes to serve the zone of now: a standby that returns changes it.
fn dns_agrees(cluster: &Cluster, screen: Screen, stop: &Stop) -> Result<bool> {
    let mut last = None;
    let asked = stop.until("name servers that agree", GENEROUS, Duration::from_secs(1), || {
        let output = last.insert(cluster.output(&["dns", "check"], Duration::from_secs(20))?);
        Ok(output.status.success().then_some(()))
    });
    stop.check()?;
    let output = last.with_context(|| format!("nobody was asked: {asked:?}"))?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        screen.line(&format!("  {line}"));
    }
    Ok(output.status.success())
}

fn judge(
    seen: &Seen,
    during: &Reconciled,
    between: &Reconciled,
    rejoined: &Rejoined,
    planned: &Seen,
    after: &Reconciled,
    agree: bool,
) -> Report {
    let phases = seen.phases();
    let lost = during.lost + between.lost + after.lost;
    let twice = during.duplicates + between.duplicates + after.duplicates;
    Report {
        failover: Failover {
            rto_ms: tenths(seen.gap.millis()),
            detect_ms: phases.detect_ms.map(tenths),
            seal_ms: phases.seal_ms.map(tenths),
            promote_ms: phases.promote_ms.map(tenths),
            prove_ms: phases.prove_ms.map(tenths),
            redirect_ms: phases.redirect_ms.map(tenths),
            acked: during.acked,
            lost: during.lost,
            unknown: during.unknown,
        },
        rejoin: Rejoin { ms: tenths(rejoined.millis), method: rejoined.method.clone() },
        switchover: Switchover {
            gap_ms: tenths(planned.gap.millis()),
            acked: after.acked,
            lost: after.lost,
        },
        ok: lost == 0 && twice == 0 && agree,
    }
}

fn write(report: &Report, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join("report.json");
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(&file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

fn closing(report: &Report, seen: &Seen, planned: &Seen, between: &Reconciled, screen: Screen) {
    let good = |fine: bool| if fine { Tone::Good } else { Tone::Bad };
    let row = |name: &str, tone: Tone, figure: &str, text: &str| {
        let figure = screen.paint(tone, &format!("{figure:>10}"));
        screen.line(&format!("  {name:<22}{figure}   {text}"));
    };
    let failover = &report.failover;
    let acked = failover.acked + between.acked + report.switchover.acked;
    let lost = failover.lost + between.lost + report.switchover.lost;
    screen.heading("What it cost");
    let (rto, gap) = (seconds(failover.rto_ms), seconds(report.switchover.gap_ms));
    row("a site lost", Tone::Strong, &rto, &seen.phases().sentence());
    let text = format!("a synchronous standby again, by {}", report.rejoin.method);
    row("the site back", Tone::Strong, &seconds(report.rejoin.ms), &text);
    row("planned, back again", Tone::Strong, &gap, &planned.phases().sentence());
    let text = format!(
        "of {acked} acknowledged writes, through both changes ({} of unknown outcome)",
        failover.unknown + between.unknown
    );
    row("acknowledged and lost", good(lost == 0), &lost.to_string(), &text);
    let agreed = if report.ok { "yes" } else { "NO" };
    let text = format!("{} name servers, nothing lost, {} rejoined", SITES.len(), SITES[0].name);
    row("all is well", good(report.ok), agreed, &text);
}

impl Seen {
    fn phases(&self) -> Phases {
        Phases::of(&self.record, self.began.0)
    }
}

/// Whether a finished demonstration counts as passed.
///
/// # Errors
/// When it does not.
pub fn pass(report: &Report) -> Result<()> {
    ensure!(report.ok, "something was lost, doubled or disagrees: see above");
    Ok(())
}
