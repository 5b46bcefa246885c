//! Programs that an operator ties to what this instance serves: start an application's units
//! beside the primary, move an address.
//!
//! They run here and not at a voter, because what they start or move stands on this machine. Each
//! is one fixed program with fixed arguments, without a shell; what it is told comes in variables
//! of the environment that only ever hold names and numbers. None of them can hold fencing up:
//! they are a task of their own, have a time each, and are ended as soon as what they were started
//! for is over. What became of each stands in the agent's notes, which every report carries.

use crate::instance::Instance;
use crate::monitoring::level;
use failover::hook::{Level, is_news};
use failover::report::Severity;
use failover::serving::Serves;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use wire::clock::now;

/// How often it is looked whether the level is still what programs were told.
const LOOK: Duration = Duration::from_millis(100);
/// How soon a program that failed is run again, at first and at most: each time goes on record.
const AGAIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(10));
/// The longest time that one may be given, and the shortest.
const TIMES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_mins(10));
/// More than anybody needs.
const MOST: usize = 16;
/// What a program finds in `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One `[[hook]]` of `agent.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Its name in logs, in `baton status` and in the record.
    pub name: String,
    /// What this instance must begin to serve for it to be run.
    pub on: BTreeSet<Serves>,
    /// The program: an absolute path.
    pub program: PathBuf,
    /// Its arguments, as they are.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// How long it may take; then it is killed, with all that it started and did not detach.
    #[serde(default = "half_a_minute", with = "wire::config::duration")]
    pub timeout: Duration,
}

impl Hook {
    /// Whether its program is there and can be run, by somebody at least.
    ///
    /// # Errors
    /// Which is not, and why.
    pub fn find(&self) -> io::Result<()> {
        let of = |reason: &str| {
            let text = format!("hook `{}`: {}: {reason}", self.name, self.program.display());
            io::Error::other(text)
        };
        let found = std::fs::metadata(&self.program).map_err(|error| of(&error.to_string()))?;
        if found.is_file() && found.permissions().mode() & 0o111 != 0 {
            return Ok(());
        }
        Err(of("is no program: `chmod +x` it, or name another"))
    }
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

/// What is wrong with the hooks of a file.
///
/// # Errors
/// A sentence that says which, and what would be right.
pub fn check(hooks: &[Hook]) -> Result<(), String> {
    if hooks.len() > MOST {
        return Err(format!("there are {}; at most {MOST} are run", hooks.len()));
    }
    let mut names = BTreeSet::new();
    for hook in hooks {
        let name = &hook.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !(1..=40).contains(&name.len()) || !name.chars().all(plain) || !names.insert(name) {
            return Err(format!(
                "`{}`: a name has 1 to 40 letters, digits or hyphens, and belongs to one hook",
                name.escape_debug()
            ));
        }
        if !hook.program.is_absolute() {
            let program = hook.program.display();
            return Err(format!("{name}: `{program}` must be an absolute path; there is no shell"));
        }
        if hook.on.is_empty() {
            return Err(format!("{name}: `on` names nothing; write \"primary\", for example"));
        }
        if !(TIMES.0..=TIMES.1).contains(&hook.timeout) {
            return Err(format!("{name}: `timeout` is between 100ms and 10m"));
        }
    }
    Ok(())
}

/// Runs what is configured, for as long as the agent does.
pub async fn run(instance: Arc<Instance>) {
    let mut told: Option<Level> = None;
    loop {
        let now = level(&instance);
        if is_news(told, now, settling(&instance)) {
            told = Some(now);
            tell(&instance, now).await;
        } else {
            sleep(LOOK).await;
        }
    }
}

/// For how much longer an agent that has begun may not know yet what its server is.
fn settling(instance: &Instance) -> Duration {
    let begun = instance.state().started;
    instance.timing().suspect_after.saturating_sub(now().since(begun))
}

/// Runs every program that waits for this level, those that fail again and again, until all are
/// done or the level is another.
async fn tell(instance: &Arc<Instance>, level: Level) {
    let configured = instance.config.hooks.iter();
    let mut left: Vec<&Hook> = configured.filter(|hook| hook.on.contains(&level.serves)).collect();
    let (mut attempt, mut pause) = (1, AGAIN.0);
    while !left.is_empty() {
        let mut failed = Vec::new();
        for hook in left {
            let begun = now();
            let outcome = tokio::select! {
                outcome = run_one(instance, hook, level) => outcome,
                () = over(instance, level) => Err(String::from("ended: it serves something else")),
            };
            let over = is_news(Some(level), self::level(instance), Duration::ZERO);
            record(instance, hook, level, (attempt, &outcome, now().since(begun)));
            if over {
                return;
            }
            if outcome.is_err() {
                failed.push(hook);
            }
        }
        left = failed;
        attempt += 1;
        pause = (pause * 2).min(AGAIN.1);
        if !left.is_empty() {
            tokio::select! {
                () = sleep(pause) => {}
                () = over(instance, level) => return,
            }
        }
    }
}

/// Until something else is served than programs were told.
async fn over(instance: &Instance, told: Level) {
    while !is_news(Some(told), level(instance), Duration::ZERO) {
        sleep(LOOK).await;
    }
}

/// Kills a program and what it started, whatever becomes of the task that waits for it.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _gone = killpg(group, Signal::SIGKILL);
        }
    }
}

async fn run_one(instance: &Instance, hook: &Hook, level: Level) -> Result<(), String> {
    let mut command = Command::new(&hook.program);
    command
        .args(&hook.arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("BATON_SERVES", level.serves.name())
        .env("BATON_EPOCH", level.epoch.to_string())
        .env("BATON_SERVICE", instance.config.service.as_str())
        .env("BATON_INSTANCE", instance.config.instance.as_str())
        .env("BATON_SITE", instance.config.site.as_str())
        .env("BATON_POSTGRES", instance.config.postgres.listen.to_string())
        .stdin(Stdio::null())
        .current_dir("/")
        .process_group(0)
        .kill_on_drop(true);
    let program = hook.program.display();
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let mut group = Group(group);
    match timeout(hook.timeout, child.wait()).await {
        Ok(Ok(status)) => {
            // What it left running on purpose stays.
            group.0 = None;
            if status.success() { Ok(()) } else { Err(said(status)) }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("killed after {} ms", hook.timeout.as_millis())),
    }
}

fn said(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("it ended with status {code}"))
}

/// Says what became of it in the log, in `baton status`, and through a voter in the record.
fn record(
    instance: &Instance,
    hook: &Hook,
    level: Level,
    (attempt, outcome, took): (u32, &Result<(), String>, Duration),
) {
    let (name, ms) = (&hook.name, took.as_millis());
    let what = match level.serves {
        Serves::Primary => format!("primary of epoch {}", level.epoch),
        Serves::Replica | Serves::Nobody => level.serves.name().to_owned(),
    };
    let (severity, end) = match outcome {
        Ok(()) => (Severity::Info, String::from("done")),
        Err(reason) => (Severity::Warning, reason.clone()),
    };
    let text = format!("for {what}, attempt {attempt}: {end}, after {ms} ms");
    tracing::info!(hook = name, "{text}");
    instance.state().note(&format!("{}{name}", failover::hook::SUBJECT), severity, text);
    instance.speak.notify_one();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(text: &str) -> Hook {
        #[derive(Deserialize)]
        struct File {
            hook: Vec<Hook>,
        }
        let text = format!("[[hook]]\n{text}");
        let mut file: File =
            wire::config::parse(std::path::Path::new("agent.toml"), &text).unwrap();
        file.hook.remove(0)
    }

    #[test]
    fn a_hook_is_read_and_checked() {
        let good = "name = \"address\"\non = [\"primary\", \"nobody\"]\nprogram = \"/bin/true\"\n";
        let read = hook(good);
        assert_eq!(read.on, BTreeSet::from([Serves::Primary, Serves::Nobody]));
        assert_eq!(read.timeout, Duration::from_secs(30));
        assert!(read.find().is_ok());
        for (program, what) in [("/bin", "no program"), ("/nowhere/at/all", "No such file")] {
            let wrong = Hook { program: program.into(), ..read.clone() };
            let error = wrong.find().unwrap_err().to_string();
            assert!(error.contains("hook `address`") && error.contains(what), "{error}");
        }
        assert_eq!(check(std::slice::from_ref(&read)), Ok(()));
        assert!(check(&[read.clone(), read]).unwrap_err().contains("belongs to one hook"));
        for (change, what) in [
            (("address", "the address"), "letters, digits or hyphens"),
            (("/bin/true", "true"), "absolute path"),
            (("\"primary\", \"nobody\"", ""), "names nothing"),
            (("program", "timeout = \"1h\"\nprogram"), "between 100ms and 10m"),
        ] {
            let wrong = hook(&good.replacen(change.0, change.1, 1));
            let error = check(&[wrong]).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }
}
