//! A cluster that stays: `up` leaves one running under a keeper in the background, `down` ends it.
//!
//! The keeper is this program again (`baton-lab keep`), in a session of its own. It is the
//! supervisor; ended by a signal, it takes everything with it. What it writes into the state
//! folder is all that `down` needs.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::cluster::{Cluster, Options};
use super::directory::{GENEROUS, sweep};
use super::layout::{SERVICE, SITES, writable_name};
use super::process::{self, Process, end_stranger, pid_of, wait_or_kill};
use super::screen::{Screen, Tone};
use super::stop::Stop;

/// What is known about a keeper.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    pid: i32,
    started: u64,
    /// Empty until the cluster is complete.
    folder: PathBuf,
    lines: Vec<String>,
}

fn state_file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

fn read(folder: &Path) -> Option<State> {
    serde_json::from_slice(&std::fs::read(state_file(folder)).ok()?).ok()
}

fn write(folder: &Path, state: &State) -> Result<()> {
    let part = folder.join("state.part");
    std::fs::write(&part, serde_json::to_vec_pretty(state)?)?;
    std::fs::rename(&part, state_file(folder)).context("cannot write the state of the cluster")
}

/// Ends the cluster that `up` left, if there is one. Returns whether there was.
pub fn down(folder: &Path, registry: &Path) -> bool {
    let state = read(folder);
    let ended = state.is_some_and(|s| end_stranger(s.pid, s.started, Duration::from_secs(30)));
    // A keeper that was killed could not clean up; this does, from what it wrote down.
    let swept = sweep(registry) > 0;
    let _ = std::fs::remove_dir_all(folder);
    ended || swept
}

/// Starts a keeper and waits until its cluster is complete.
///
/// # Errors
/// What the keeper says.
pub fn up(folder: &Path, options: &Options, stop: &Stop, screen: Screen) -> Result<()> {
    if down(folder, &options.registry) {
        screen.progress("ended the cluster that was running");
    }
    std::fs::create_dir_all(folder)?;
    let mut keeper = start_keeper(folder, options)?;
    let mut progress = Tail::of(&folder.join("keeper.log"));
    let waited = stop.until("the cluster", GENEROUS * 3, Duration::from_millis(100), || {
        for line in progress.lines() {
            screen.line(&line);
        }
        if let Some(status) = keeper.try_wait()? {
            bail!("the cluster did not come up ({status})");
        }
        Ok(read(folder).filter(|state| !state.folder.as_os_str().is_empty()))
    });
    match waited {
        Ok(state) => {
            state.lines.iter().for_each(|line| screen.line(line));
            Ok(())
        }
        Err(error) => {
            let _ = nix::sys::signal::kill(pid_of(&keeper), nix::sys::signal::Signal::SIGTERM);
            wait_or_kill(&mut keeper, Duration::from_secs(30));
            for line in progress.lines() {
                screen.line(&line);
            }
            down(folder, &options.registry);
            Err(error)
        }
    }
}

/// A file read line by line as it grows.
struct Tail {
    path: PathBuf,
    read: usize,
}

impl Tail {
    fn of(path: &Path) -> Self {
        Self { path: path.into(), read: 0 }
    }

    /// The whole lines that are new.
    fn lines(&mut self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let Some(new) = text.get(self.read..) else { return Vec::new() };
        let whole = new.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole;
        new.get(..whole).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

fn start_keeper(folder: &Path, options: &Options) -> Result<Child> {
    let log = std::fs::File::create(folder.join("keeper.log"))?;
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let mut command = Command::new(own);
    command.arg("keep").arg("--profile").arg(&options.profile);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    process::spawn(&mut command).context("cannot start the keeper")
}

/// The keeper: makes a cluster, tells of it in the state folder, and stays until it is told to
/// end.
///
/// # Errors
/// When no cluster comes up.
pub fn keep(folder: &Path, options: &Options, stop: &Stop, screen: Screen) -> Result<()> {
    // Out of the terminal's session: it stays when the terminal goes. It cannot where it leads a
    // process group, which is when a person runs it by hand: then the terminal may end it.
    let _ = nix::unistd::setsid();
    let pid = i32::try_from(std::process::id())?;
    let started = Process::read(pid).context("this process is there")?.started;
    let mut state = State { pid, started, folder: PathBuf::new(), lines: Vec::new() };
    write(folder, &state)?;
    let mut cluster = Cluster::make(options, stop)?;
    cluster.bring_up(&mut |missing| screen.progress(missing))?;
    let link = folder.join("cluster");
    let _ = std::fs::remove_file(&link);
    symlink(&cluster.layout.folder, &link)?;
    state.folder.clone_from(&cluster.layout.folder);
    state.lines = instructions(&cluster, &link, screen);
    write(folder, &state)?;
    cluster.forget_logs();
    while stop.pause(Duration::from_secs(1)).is_ok() {
        for notice in cluster.notices() {
            screen.line(&notice);
        }
    }
    Ok(())
}

fn instructions(cluster: &Cluster, link: &Path, screen: Screen) -> Vec<String> {
    let program = std::env::current_exe().unwrap_or_default().with_file_name("baton");
    let here = std::env::current_dir().unwrap_or_default();
    let short = |path: &Path| path.strip_prefix(&here).unwrap_or(path).display().to_string();
    let baton = format!("{} --config {}/operator/baton.toml", short(&program), short(link));
    let name = writable_name().trim_end_matches('.').to_owned();
    let server = cluster.layout.name_server(SITES[0].name);
    let operator = link.join("operator");
    let file = |name: &str| short(&operator.join(name));
    let psql = format!(
        "psql \"host={name} hostaddr=$(dig +short @{} -p {} {name} A) port={} user=baton_probe \
         dbname=postgres sslmode=verify-ca sslrootcert={} sslcert={} sslkey={}\"",
        server.ip(),
        server.port(),
        cluster.layout.ports.postgres,
        file("ca.crt"),
        file("probe.crt"),
        file("probe.key")
    );
    vec![
        String::new(),
        screen.paint(Tone::Strong, "The cluster is up."),
        format!("  look        {baton} status"),
        format!("  watch       {baton} watch"),
        format!("  the page    http://{}/", cluster.layout.page(SITES[0].name)),
        format!("  why         {baton} explain {SERVICE}"),
        format!("  move it     {baton} switchover {SERVICE} --reason 'a first try'"),
        format!("  ask DNS     dig @{} -p {} {name}", server.ip(), server.port()),
        format!("  connect     {psql}"),
        format!("  logs        {}/*/*.log", short(link)),
        "  end it      make down".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_gives_whole_lines_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("log");
        let mut tail = Tail::of(&path);
        assert!(tail.lines().is_empty());
        std::fs::write(&path, "one\ntw").expect("writable");
        assert_eq!(tail.lines(), ["one"]);
        std::fs::write(&path, "one\ntwo\n").expect("writable");
        assert_eq!(tail.lines(), ["two"]);
        assert!(tail.lines().is_empty());
    }

    #[test]
    fn nothing_up_is_nothing_down() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(!down(&folder.path().join("up"), &folder.path().join("lab")));
    }
}
