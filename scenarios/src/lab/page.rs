//! The page of a real cluster in a real browser: looked at by day, by night and on a phone, during
//! a switchover, and while the voter that shows it stands still. Its pictures are those of the
//! documents.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::browser::{Browser, Sight, find};
use super::cluster::{Cluster, Options};
use super::directory::GENEROUS;
use super::layout::{Kind, SITES};
use super::probe::Probe;
use super::screen::{Screen, Tone};
use super::stop::Stop;

const DESK: Sight = Sight { width: 1_200, height: 920, mobile: false, dark: false };
const NIGHT: Sight = Sight { dark: true, ..DESK };
const PHONE: Sight = Sight { width: 360, height: 780, mobile: true, dark: false };

/// How long the page may take to show something.
const SOON: Duration = Duration::from_secs(20);
/// How long the page is drawn again after its size has changed.
const DRAWN: Duration = Duration::from_millis(1_200);

/// Whatever must be true of the page at any time, in any size: what is wrong with it.
const WRONG: &str = "[
    ...[...document.querySelectorAll('table')].filter((it) => !it.caption)
        .map(() => 'a table without a caption'),
    ...[...document.querySelectorAll('th')].filter((it) => !it.scope)
        .map((it) => 'a heading without a scope: ' + it.textContent),
    ...[...document.querySelectorAll('.mood, .sign')].filter((it) => !it.textContent.trim())
        .map(() => 'a colour alone'),
    ...(document.documentElement.scrollWidth > innerWidth ? ['wider than the screen'] : []),
    ...(document.documentElement.lang ? [] : ['no language']),
    ...(document.querySelectorAll('[aria-live]').length ? [] : ['nothing is announced']),
    ...(document.body.innerText.match(/undefined|NaN|\\[object/) ?? []),
]";

/// Notes when each step is first shown as done, by the page's own clock, and whether some were
/// while another was under way: nobody who asks now and then would see what lasts half a second.
const NOTE: &str = "window.shown = {}; window.midway = false; new MutationObserver(() => {
    const done = document.querySelectorAll('#open .done b');
    for (const step of done) window.shown[step.textContent] ??= Date.now();
    window.midway ||= done.length > 1 && document.querySelector('#open .current') !== null;
}).observe(document.getElementById('open'), { childList: true, subtree: true, attributes: true });";

/// Looks at all of it, and writes the pictures into `pictures`.
///
/// # Errors
/// What is wrong with the page; without a browser nothing is, and that is said.
pub fn page(options: &Options, pictures: Option<&Path>, stop: &Stop, screen: Screen) -> Result<()> {
    let Some(program) = find() else {
        screen.line("SKIPPED: there is no Chromium on this machine; `apt install chromium`");
        return Ok(());
    };
    screen.line(&screen.paint(Tone::Strong, "baton: the page, in a browser"));
    let mut cluster = Cluster::make(options, stop)?;
    cluster.bring_up(&mut |missing| screen.progress(missing))?;
    let mut probe = Probe::start(&cluster, "journals/page")?;
    probe.wait_acked(stop, 50)?;
    let profile = tempfile::tempdir()?;
    let browser = Browser::start(&program, profile.path())?;
    let mut looking = Looking { browser, stop, pictures, screen };
    let shown_by = &SITES[0];
    looking.open(&format!("http://{}/", cluster.layout.page(shown_by.name)))?;
    looking.look("desktop", DESK)?;
    looking.look("dark", NIGHT)?;
    looking.look("phone", PHONE)?;
    looking.by_keyboard()?;
    looking.readiness()?;
    looking.switchover(&cluster)?;
    cluster.wait_redundant(GENEROUS, &mut |missing| screen.progress(missing))?;
    looking.availability()?;
    probe.end()?;
    looking.standing_still(&cluster, shown_by.name)?;
    let complaints = &looking.browser.complaints;
    // That the voter did not answer while it stood still is what the browser is to notice.
    let own: Vec<&String> = complaints.iter().filter(|it| !it.contains("net::ERR")).collect();
    ensure!(own.is_empty(), "the page complains: {own:?}");
    cluster.forget_logs();
    screen.line(&screen.paint(Tone::Strong, "  all of it is as it should be"));
    Ok(())
}

struct Looking<'a> {
    browser: Browser,
    stop: &'a Stop,
    pictures: Option<&'a Path>,
    screen: Screen,
}

impl Looking<'_> {
    fn open(&mut self, address: &str) -> Result<()> {
        self.browser.see(DESK)?;
        self.browser.open(address)?;
        let live = "document.body?.dataset.link === 'live'";
        self.browser.until(self.stop, live, SOON)?;
        let well = "document.querySelector('.verdict')?.textContent.includes('All is well')";
        self.browser.until(self.stop, well, SOON)?;
        for expected in ["clinic", "arezzo-1", "falkenstein-1", "roubaix-1"] {
            let told = self.browser.evaluate("document.getElementById('services').innerText")?;
            let told = told.as_str().unwrap_or_default();
            ensure!(told.contains(expected), "{expected} is not on the page: {told}");
        }
        let drawn = self.browser.evaluate("document.querySelectorAll('#picture .site').length")?;
        ensure!(drawn == SITES.len(), "{drawn} sites are drawn");
        Ok(())
    }

    /// In this size nothing is wrong; and a picture of it.
    fn look(&mut self, name: &str, sight: Sight) -> Result<()> {
        self.browser.see(sight)?;
        self.stop.pause(DRAWN)?;
        let wrong = self.browser.evaluate(WRONG)?;
        ensure!(wrong.as_array().is_some_and(Vec::is_empty), "{name}: {wrong}");
        self.picture(name)
    }

    fn picture(&mut self, name: &str) -> Result<()> {
        if let Some(folder) = self.pictures {
            std::fs::create_dir_all(folder)?;
            self.browser.photograph(&folder.join(format!("page-{name}.png")))?;
        }
        self.screen.line(&format!("  looked: {name}"));
        Ok(())
    }

    /// The first thing the keyboard reaches leads past the head of the page.
    fn by_keyboard(&mut self) -> Result<()> {
        self.browser.see(DESK)?;
        self.browser.tab()?;
        let first = self.browser.evaluate("document.activeElement.className")?;
        ensure!(first == "skip", "the keyboard begins at {first}");
        self.browser.tab()?;
        let next = self.browser.evaluate("document.activeElement.getAttribute('href')")?;
        ensure!(next == "#sites", "and goes on at {next}");
        self.browser.tab()?;
        self.browser.tab()?;
        let there = self.browser.evaluate("document.activeElement.getAttribute('href')")?;
        ensure!(there == "#readiness", "the third part is {there}");
        Ok(())
    }

    /// Whether each site could be lost is said for each, in words, with its age.
    fn readiness(&mut self) -> Result<()> {
        let rows = format!(
            "document.querySelectorAll('#readiness tbody tr .mood').length === {}",
            SITES.len() * 2
        );
        self.browser.until(self.stop, &rows, SOON)?;
        let told = "document.getElementById('readiness').innerText";
        let told = self.browser.evaluate(told)?.as_str().unwrap_or_default().to_owned();
        for part in SITES.map(|site| site.name).iter().chain(&["takes over", "stays", " ago"]) {
            ensure!(told.contains(part), "{part} is not said of readiness: {told}");
        }
        Ok(())
    }

    /// Every step is shown, and how soon after it was decided.
    fn switchover(&mut self, cluster: &Cluster) -> Result<()> {
        self.browser.evaluate(NOTE)?;
        let to = SITES[1].instance();
        let (id, _) = cluster.switch_over(&to)?;
        self.browser.until(self.stop, "window.midway", SOON)?;
        self.picture("transition")?;
        let over = "document.querySelectorAll('#open article').length === 0";
        self.browser.until(self.stop, over, GENEROUS)?;
        let shown = self.browser.evaluate("window.shown")?;
        let record: Value = cluster.ask(&["report", &id.to_string()])?;
        let steps = record["steps"].as_array().cloned().unwrap_or_default();
        let mut latest = 0;
        let mut missed = Vec::new();
        // The last step ends the change, and with it the timeline.
        for step in steps.iter().skip(1).rev().skip(1) {
            let (name, at) = (step["name"].as_str().unwrap_or_default(), step["at"].as_i64());
            match (shown[name].as_i64(), at) {
                (Some(shown), Some(at)) => latest = latest.max(shown - at),
                _ => missed.push(name.to_owned()),
            }
        }
        ensure!(missed.len() < steps.len() / 2, "steps that were never shown: {missed:?}");
        self.screen.line(&format!(
            "  {} steps, the latest shown {latest} ms after it was decided",
            steps.len()
        ));
        let primary = format!("document.getElementById('services').innerText.includes('{to}')");
        self.browser.until(self.stop, &primary, SOON)
    }

    /// The interruption that the probe writer saw stands there with its cause, once its journal is
    /// read again.
    fn availability(&mut self) -> Result<()> {
        let told = "document.getElementById('sla').innerText.includes('planned switchover')";
        self.browser.until(self.stop, told, SOON * 5)?;
        self.browser.evaluate("document.getElementById('sla').scrollIntoView()")?;
        self.look("availability", DESK)?;
        self.browser.evaluate("scrollTo(0, 0)").map(drop)
    }

    /// A voter that stands still is noticed, said loudly, and found again.
    fn standing_still(&mut self, cluster: &Cluster, site: &str) -> Result<()> {
        cluster.signal(site, Kind::Voter, Signal::SIGSTOP)?;
        let lost = "document.body.dataset.link === 'lost'
            && document.getElementById('lost').innerText.includes('lost')";
        let noticed = self.browser.until(self.stop, lost, SOON);
        let old = "document.querySelectorAll('#services .old').length > 3";
        let grey = noticed.and_then(|()| self.browser.until(self.stop, old, SOON));
        let unknown = "document.querySelectorAll('#readiness tbody .mood.unknown').length > 5";
        let grey = grey.and_then(|()| self.browser.until(self.stop, unknown, SOON * 2));
        let pictured = grey.and_then(|()| self.picture("stale"));
        cluster.signal(site, Kind::Voter, Signal::SIGCONT)?;
        pictured?;
        let live = "document.body.dataset.link === 'live'";
        self.browser.until(self.stop, live, SOON * 2)
    }
}
