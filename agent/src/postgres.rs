//! PostgreSQL's programs.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncReadExt;

/// The oldest version whose behaviour the agent knows.
const OLDEST: u32 = 15;

/// PostgreSQL cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// It was not found.
    #[error(
        "PostgreSQL {OLDEST} or newer was not found{0}: install it (Debian and Ubuntu: apt install \
         postgresql; Fedora: dnf install postgresql-server), or set postgres.bin in agent.toml to \
         the folder that holds `postgres`, `initdb`, `pg_basebackup` and `pg_rewind`"
    )]
    Missing(String),
    /// One of its programs failed.
    #[error("{program}: {message}")]
    Tool {
        /// Which.
        program: String,
        /// The end of what it wrote.
        message: String,
    },
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    bin: PathBuf,
    /// `15.18`.
    pub version: String,
}

impl Programs {
    /// Looks where the configuration says, else where packages put PostgreSQL, newest first, else
    /// along PATH.
    ///
    /// # Errors
    /// [`PostgresError::Missing`], with how to install it.
    pub fn find(configured: Option<&Path>) -> Result<Self, PostgresError> {
        if let Some(bin) = configured {
            let place = format!(" in {}", bin.display());
            return Self::at(bin).ok_or(PostgresError::Missing(place));
        }
        packaged().iter().find_map(|bin| Self::at(bin)).ok_or(PostgresError::Missing(String::new()))
    }

    fn at(bin: &Path) -> Option<Self> {
        let needed = ["postgres", "initdb", "pg_basebackup", "pg_rewind", "psql"];
        if !needed.iter().all(|program| bin.join(program).exists()) {
            return None;
        }
        let output =
            std::process::Command::new(bin.join("postgres")).arg("--version").output().ok()?;
        // postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split_ascii_whitespace().nth(2)?.to_owned();
        let major: u32 = version
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .and_then(|text| text.parse().ok())?;
        (major >= OLDEST).then(|| Self { bin: bin.to_owned(), version })
    }

    /// The path of one program.
    pub fn path(&self, program: &str) -> PathBuf {
        self.bin.join(program)
    }

    /// Runs a program to its end and gives its standard output. Dropping the future kills it and
    /// everything it started.
    ///
    /// # Errors
    /// [`PostgresError::Tool`] with the end of its standard error.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<String, PostgresError> {
        let failed = |message: String| PostgresError::Tool { program: program.to_owned(), message };
        let mut child = tokio::process::Command::new(self.path(program))
            .args(arguments)
            .env("LC_ALL", "C")
            .env_remove("PGOPTIONS")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let _group = Group(child.id());
        let (mut output, mut errors) = (child.stdout.take(), child.stderr.take());
        let (mut text, mut complaint) = (Vec::new(), Vec::new());
        let read_output = async {
            if let Some(output) = output.as_mut() {
                drop(output.take(1 << 20).read_to_end(&mut text).await);
            }
        };
        let read_errors = async {
            if let Some(errors) = errors.as_mut() {
                drop(errors.read_to_end(&mut complaint).await);
            }
        };
        tokio::join!(read_output, read_errors);
        let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        let complaint = String::from_utf8_lossy(&complaint);
        let lines: Vec<&str> = complaint.lines().collect();
        let tail = lines.split_at(lines.len().saturating_sub(3)).1.join(" / ");
        Err(failed(format!("{status}: {tail}")))
    }

    /// Runs one statement at another instance and gives its result as text.
    ///
    /// # Errors
    /// [`PostgresError::Tool`]
    pub async fn ask(&self, conninfo: &str, statement: &str) -> Result<String, PostgresError> {
        let target = format!("{conninfo} dbname=postgres");
        let arguments = ["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", &target, "-c"];
        let arguments: Vec<&str> = arguments.into_iter().chain([statement]).collect();
        self.run("psql", &arguments).await.map(|text| text.trim_end().to_owned())
    }
}

/// Kills a process group when dropped: `pg_rewind` starts a shell that starts PostgreSQL.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(number) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(number), Signal::SIGKILL);
        }
    }
}

fn packaged() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = ["/usr/lib/postgresql", "/usr"]
        .iter()
        .filter_map(|root| std::fs::read_dir(root).ok())
        .flat_map(Iterator::flatten)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix("pgsql-").unwrap_or(&name).parse().ok()?;
            Some((number, entry.path().join("bin")))
        })
        .collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let newest_first = found.into_iter().rev().map(|(_, bin)| bin);
    newest_first.chain(std::env::split_paths(&path)).collect()
}
