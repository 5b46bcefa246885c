//! What the daemons cost while nothing happens.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;
use wire::clock;

use super::cluster::{Cluster, Options};
use super::layout::site_names;
use super::process::Process;
use super::screen::Screen;
use super::stop::Stop;

/// How long is measured.
const SPAN: Duration = Duration::from_secs(20);

/// What one process cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Cost {
    site: String,
    process: String,
    core_percent: f64,
    resident_mib: f64,
}

/// Measures an idle cluster, prints a table and writes `idle.json` into `folder`.
///
/// # Errors
/// When no cluster comes up.
pub fn idle(options: &Options, folder: &Path, stop: &Stop, screen: Screen) -> Result<()> {
    let mut cluster = Cluster::make(options, stop)?;
    cluster.bring_up(&mut |missing| screen.progress(missing))?;
    screen.progress("letting it come to rest");
    stop.pause(Duration::from_secs(5))?;
    let (before, began) = (snapshot(&cluster), clock::now());
    screen.progress(&format!("measuring for {} s", SPAN.as_secs()));
    stop.pause(SPAN)?;
    let (after, ended) = (snapshot(&cluster), clock::now());
    let seconds = ended.since(began).as_secs_f64();
    let mut costs = Vec::new();
    for (pid, (site, process)) in &after {
        let Some((_, earlier)) = before.get(pid) else { continue };
        #[expect(clippy::cast_precision_loss, reason = "the KiB of one process are few")]
        let kib = process.process.resident_kib() as f64;
        let ran = process.ran.saturating_sub(earlier.ran);
        costs.push(Cost {
            site: site.clone(),
            process: name_of(&process.process),
            core_percent: ran.as_secs_f64() / seconds * 100.0,
            resident_mib: kib / 1_024.0,
        });
    }
    costs.sort_by(|a, b| (&a.process, &a.site).cmp(&(&b.process, &b.site)));
    screen.heading("Idle: per process, PostgreSQL's own not counted");
    screen.line(&table(&costs));
    cluster.forget_logs();
    std::fs::create_dir_all(folder)?;
    let file = folder.join("idle.json");
    std::fs::write(&file, serde_json::to_string_pretty(&costs)? + "\n")?;
    Ok(())
}

/// A process and how long it has run so far.
struct Seen {
    process: Process,
    ran: Duration,
}

fn snapshot(cluster: &Cluster) -> BTreeMap<i32, (String, Seen)> {
    let mut found = BTreeMap::new();
    for site in site_names() {
        for process in cluster.processes(site) {
            if process.name.starts_with("baton") {
                let ran = ran(&process);
                found.insert(process.pid, (site.to_owned(), Seen { process, ran }));
            }
        }
    }
    found
}

/// The time that the threads of a process were given, in nanoseconds where the kernel keeps them:
/// its ticks of a hundredth of a second are too coarse for what idles.
fn ran(process: &Process) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{}/task", process.pid));
    let nanoseconds = threads.ok().and_then(|threads| {
        let each = threads.flatten().filter_map(|thread| {
            let line = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        });
        Some(each.sum::<u64>()).filter(|sum| *sum > 0)
    });
    let rate =
        sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|rate| u64::try_from(rate).ok());
    let ticks = || Duration::from_millis(process.ticks.saturating_mul(1_000) / rate.unwrap_or(100));
    nanoseconds.map_or_else(ticks, Duration::from_nanos)
}

/// The program, and `guard` where it is that.
fn name_of(process: &Process) -> String {
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", process.pid));
    let words = command.unwrap_or_default();
    let mut words = words.split('\0');
    let program = words.next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let name = if program.is_empty() { process.name.as_str() } else { program };
    if words.any(|word| word == "guard") { format!("{name} guard") } else { name.to_owned() }
}

fn table(costs: &[Cost]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["process", "site", "% of a core", "MiB resident"]);
    for cost in costs {
        let (core, memory) =
            (format!("{:.2}", cost.core_percent), format!("{:.1}", cost.resident_mib));
        table.add_row([cost.process.clone(), cost.site.clone(), core, memory]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
