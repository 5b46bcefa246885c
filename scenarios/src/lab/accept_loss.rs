//! The way out of the worst day, from end to end: whoever holds the last commits is gone, a person
//! looks at what that costs, another agrees, and the service goes on without them.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use failover::time::Moment;
use nix::sys::signal::Signal;
use serde_json::Value;
use wire::clock;

use super::binaries::{self, complaint};
use super::cluster::control::Part;
use super::cluster::{Cluster, Options};
use super::directory::GENEROUS;
use super::layout::{Kind, SERVICE, SITES};
use super::probe::Probe;
use super::screen::{Screen, Tone};
use super::stop::Stop;

const LOOK: Duration = Duration::from_millis(200);
/// Longer than a write takes.
const ON_ITS_WAY_US: u64 = 1_000_000;
const BOUND: Duration = Duration::from_mins(1);
/// Exit statuses of `baton`.
const CONFIG: Option<i32> = Some(2);
const REFUSED: Option<i32> = Some(4);

/// Loses what only lost instances hold, and no more than was shown.
///
/// # Errors
/// Whatever is not as it should be.
pub fn accept_loss(options: &Options, stop: &Stop, screen: Screen) -> Result<()> {
    screen.line(&screen.paint(Tone::Strong, "baton: a loss is accepted"));
    let mut cluster = Cluster::make(options, stop)?;
    cluster.bring_up(&mut |missing| screen.progress(missing))?;
    let bob = two_people(&cluster, stop)?;
    let home = cluster.status()?.home().context("the service has a primary")?;
    let others: Vec<&str> = SITES.iter().map(|site| site.name).filter(|it| *it != home).collect();
    let [survivor, holder] = others[..] else { bail!("there are other sites than three") };
    let mut probe = Probe::start(&cluster, "loss")?;
    let day = Day { cluster: &cluster, stop, home: &home, survivor, holder };
    let began = day.breaks(&mut probe)?;
    screen.line(&screen.paint(
        Tone::Bad,
        &format!("  {home} and {holder} are gone, and {survivor} lacks the last writes"),
    ));
    let bytes = day.shown()?;
    // Nobody acknowledges any more. What was on its way when it fell behind may be missing, too.
    probe.read_on()?;
    let most = probe.journal.acked_after(began.0.saturating_sub(ON_ITS_WAY_US));
    screen.line(&format!("  the loss is {bytes} bytes, of {most} writes at the most"));
    let ended = day.accepted(&bytes, &bob)?;
    ensure!(ended.status.success(), "it was approved: {}", complaint(&ended));
    day.is_told()?;
    probe.wait_first(stop, clock::now(), None, GENEROUS)?;
    let now = cluster.status()?.home();
    ensure!(now.as_deref() == Some(survivor), "the primary is at {now:?}");
    for site in [&*home, holder] {
        cluster.start_daemon(site, Kind::Agent)?;
    }
    cluster.wait_redundant(GENEROUS * 2, &mut |missing| screen.progress(missing))?;
    let found = probe.reconcile(&cluster)?;
    screen.line(&format!("  acknowledged {}, and lost {}", found.acked, found.lost));
    ensure!((1..=most).contains(&found.lost), "{} of at most {most} are lost", found.lost);
    ensure!(found.duplicates == 0, "{found:?}");
    cluster.forget_logs();
    screen.line(&screen.paint(Tone::Strong, "  no more than was shown, by two people"));
    Ok(())
}

/// From here on two people are needed, and the service goes on with a single copy rather than wait
/// for another; where the second person's configuration is.
fn two_people(cluster: &Cluster, stop: &Stop) -> Result<PathBuf> {
    let topology = cluster.folder().join("two.toml");
    let text = cluster.layout.topology().replace("two_persons = false\n", "");
    std::fs::write(&topology, text.replace("\"block\"", "\"single-copy\""))?;
    let named = topology.to_string_lossy();
    cluster.must(&["apply", &named, "--yes", "--reason", "nobody does this alone"], BOUND)?;
    let mut init = cluster.baton_without_config();
    init.arg("init").arg(&topology).arg("--out").arg(&cluster.layout.folder);
    init.args(["--operator", "lab", "--update", "--person", "bob:approver"]);
    let output = binaries::run(stop, &mut init, BOUND)?;
    ensure!(output.status.success(), "bob gets no certificate: {}", complaint(&output));
    Ok(cluster.layout.folder.join("people/bob-approver/baton.toml"))
}

fn words<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["failover", SERVICE, "--accept-loss"].into_iter().chain(more.iter().copied()).collect()
}

struct Day<'a> {
    cluster: &'a Cluster,
    stop: &'a Stop,
    /// Where the primary stands.
    home: &'a str,
    /// Whose instance falls behind, and is all that is left.
    survivor: &'a str,
    /// Whose instance holds the last commits, besides the primary.
    holder: &'a str,
}

impl Day<'_> {
    /// The survivor falls behind, the others are lost; since when it lacks what was acknowledged.
    fn breaks(&self, probe: &mut Probe) -> Result<Moment> {
        let Self { cluster, stop, home, survivor, holder } = self;
        probe.wait_acked(stop, 50)?;
        let began = clock::now();
        cluster.signal_part(survivor, Part::Postgres, Signal::SIGSTOP);
        let counts = |instance: &super::answers::Instance| {
            instance.site.as_str() == *survivor && instance.in_rule
        };
        stop.until("the rule without the survivor", GENEROUS, LOOK, || {
            let Ok(status) = cluster.status() else { return Ok(None) };
            let service = status.service().context("there is a service")?;
            Ok((!service.instances.iter().any(counts)).then_some(()))
        })?;
        probe.wait_acked(stop, 50)?;
        for site in [home, holder] {
            for part in [Part::Daemon(Kind::Agent), Part::Guard, Part::Postgres] {
                cluster.kill_part(site, part);
            }
        }
        cluster.signal_part(survivor, Part::Postgres, Signal::SIGCONT);
        Ok(began)
    }

    /// The bytes that are lost, once they stay the same; `unknown` to a leader that did not hear
    /// the primary.
    fn shown(&self) -> Result<String> {
        let look = words(&["--dry-run", "--reason", "a look", "-o", "json"]);
        let (mut before, mut said) = (None, String::new());
        let found = self.stop.until("a loss that may be accepted", GENEROUS, LOOK, || {
            let output = self.cluster.output(&look, BOUND)?;
            // What follows is what would come of it.
            let mut told = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
            let loss = told.next().and_then(Result::ok).unwrap_or(Value::Null);
            let number = |it: &Value| it.as_u64().map_or("unknown".into(), |it| it.to_string());
            let bytes: Option<String> = loss.pointer("/loss/bytes").map(number);
            let same = bytes.clone().filter(|_| bytes == before);
            (before, said) = (bytes, complaint(&output));
            Ok(same)
        });
        found.with_context(|| format!("`baton` said last: {said}"))
    }

    /// Asked for with another number, then rightly; approved by who may.
    fn accepted(&self, bytes: &str, bob: &Path) -> Result<Output> {
        let cluster = self.cluster;
        let other = if bytes == "1" { "2" } else { "1" };
        let journal = cluster.folder().join("loss.jsonl");
        let journal = journal.to_string_lossy();
        let say = |number| {
            let more = ["--loss-bytes", number, "--journal", &journal, "--reason", "both burned"];
            cluster.output(&words(&more), BOUND * 2)
        };
        let refused = say(other)?;
        let said = complaint(&refused);
        ensure!(refused.status.code() == CONFIG, "another number is no word for it: {said}");
        for part in ["nothing was changed", "acknowledged writes of the probe writer"] {
            ensure!(said.contains(part), "{part}: {said}");
        }
        ensure!(cluster.status()?.home().as_deref() == Some(self.home), "nothing was changed");
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| say(bytes));
            let approved = self.approved(bob);
            let ended = asked.join();
            approved?;
            ended.unwrap_or_else(|_| bail!("nobody waits"))
        })
    }

    fn approved(&self, bob: &Path) -> Result<()> {
        let plan: String = self.stop.until("what waits", GENEROUS, LOOK, || {
            let Ok(all) = self.cluster.ask::<Value>(&["approve"]) else { return Ok(None) };
            let all = all.get("requests").and_then(Value::as_object).cloned().unwrap_or_default();
            let waits = |told: &Value| told.get("waits") == Some(&Value::Bool(true));
            Ok(all.into_iter().find_map(|(plan, told)| waits(&told).then_some(plan)))
        })?;
        let yes = ["approve", &plan, "--reason", "nothing is left there"];
        let own = self.cluster.output(&yes, BOUND)?;
        ensure!(own.status.code() == REFUSED, "nobody approves his own: {}", complaint(&own));
        let mut baton = self.cluster.baton_without_config();
        baton.arg("--config").arg(bob).args(yes);
        let approved = binaries::run(self.stop, &mut baton, BOUND)?;
        ensure!(approved.status.success(), "bob may: {}", complaint(&approved));
        Ok(())
    }

    /// The report says what was given up and who agreed, and so does the signed page of it.
    fn is_told(&self) -> Result<()> {
        let id = (self.cluster.next_transition()? - 1).to_string();
        let page = self.cluster.folder().join("loss.html");
        let named = page.to_string_lossy();
        self.cluster.must(&["report", &id, "--format", "html", "--out", &named], BOUND)?;
        self.cluster.must(&["verify", &named], BOUND)?;
        let text = self.cluster.output(&["report", &id], BOUND)?.stdout;
        let text = String::from_utf8_lossy(&text).into_owned();
        for told in [text, std::fs::read_to_string(&page)?] {
            for part in ["bob (approver): nothing is left there", "giving up what is behind"] {
                ensure!(told.contains(part), "{part}: {told}");
            }
        }
        Ok(())
    }
}
