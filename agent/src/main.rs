//! `baton-agent`: the agent beside one PostgreSQL instance, and its guard.

use agent::config::{self, Config};
use agent::guard::client::{Guard, Start};
use agent::guard::daemon;
use agent::instance::Instance;
use agent::layout::Layout;
use agent::postgres::Programs;
use anyhow::Context;
use clap::{Parser, Subcommand};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs one PostgreSQL instance under baton.
#[derive(Parser)]
#[command(name = "baton-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file.
    #[arg(long, default_value = "/etc/baton/agent.toml", env = "BATON_AGENT_CONFIG")]
    config: PathBuf,
    /// Check the configuration and what it names, then exit.
    #[arg(long)]
    check: bool,
    /// Stop PostgreSQL and its guard, then exit.
    #[arg(long, conflicts_with = "check")]
    stop: bool,
    /// Write the log as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// PostgreSQL's parent process; the agent starts it.
    #[command(hide = true)]
    Guard {
        #[arg(long)]
        socket: PathBuf,
        #[arg(long)]
        lock: PathBuf,
        #[arg(long)]
        watchdog: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Guard { socket, lock, watchdog }) = arguments.command {
        return match daemon::run(&daemon::Settings { socket, lock, watchdog }) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("baton-agent guard: {error}");
                ExitCode::from(wire::exit::FAILED)
            }
        };
    }
    let format = if arguments.json { wire::log::Format::Json } else { wire::log::Format::Auto };
    wire::log::init(format);
    let config = match config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("baton-agent: {error}");
            return ExitCode::from(wire::exit::CONFIG);
        }
    };
    let outcome = if arguments.check {
        check(&config)
    } else {
        become_user(&config, &arguments.config).and_then(|()| serve(config, arguments.stop))
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("baton-agent: {error:#}");
            ExitCode::from(wire::exit::FAILED)
        }
    }
}

/// PostgreSQL does not run as root, and its agent need not: as root, prepares what only root may,
/// then becomes the configured user for good.
fn become_user(config: &Config, file: &Path) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let name = &config.postgres.user;
    let user = nix::unistd::User::from_name(name)?.with_context(|| {
        format!("there is no user `{name}`: install PostgreSQL, or set postgres.user")
    })?;
    anyhow::ensure!(!user.uid.is_root(), "postgres.user must not be root: PostgreSQL refuses it");
    let own = |path: &Path| nix::unistd::chown(path, Some(user.uid), Some(user.gid));
    // New copies are made beside the data directory and renamed, so its folder must be writable.
    // Only a folder that is ours by all appearance changes hands.
    let parent = config.data.parent().unwrap_or(Path::new("/"));
    let beside = file.canonicalize().is_ok_and(|file| file.parent() == Some(parent));
    if beside || !parent.exists() {
        std::fs::create_dir_all(parent)?;
        own(parent).with_context(|| parent.display().to_string())?;
    }
    let layout = Layout::create(&config.data, &config.run)?;
    agent::identity::install(config, &layout)?;
    let folders = ["tls", "stream", "lost-tail"].map(|name| config.run.join(name));
    if let Some(device) = config.watchdog.as_ref().filter(|device| device.exists()) {
        own(device).with_context(|| device.display().to_string())?;
    }
    let files = ["ca.crt", "tls.crt", "tls.key"].map(|name| layout.tls(name));
    let all = folders.iter().chain(&files).chain([&config.run, &layout.sockets]);
    for path in all {
        own(path).with_context(|| path.display().to_string())?;
    }
    let error = std::process::Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .uid(user.uid.as_raw())
        .gid(user.gid.as_raw())
        .exec();
    Err(error).with_context(|| format!("cannot start again as {name}"))
}

fn check(config: &Config) -> anyhow::Result<()> {
    let programs = Programs::find(config.postgres.bin.as_deref())?;
    let identity = wire::tls::Identity::load(&config.tls)?;
    let name = &identity.peer().name;
    anyhow::ensure!(
        *name == config.instance.as_str(),
        "{}: the certificate is that of `{name}`, this instance is `{}`",
        config.tls.certificate.display(),
        config.instance
    );
    for hook in &config.hooks {
        hook.find()?;
    }
    println!("configuration of {} is in order; PostgreSQL {}", config.instance, programs.version);
    Ok(())
}

fn serve(config: Config, stop: bool) -> anyhow::Result<()> {
    // It takes over PostgreSQL's orphans should the guard, its child, be killed.
    nix::sys::prctl::set_child_subreaper(true)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async move {
        if stop {
            return end(&config).await;
        }
        // Before anything of the other's is touched, its guard above all.
        let _alone = alone(&Layout::create(&config.data, &config.run)?).await?;
        let program = std::env::current_exe()?;
        let (instance, notices) = Instance::open(config, program)?;
        let shutdown = wire::shutdown::on_signal();
        Ok(agent::run::run(instance, notices, shutdown).await?)
    })
}

/// Takes the run directory; an agent that was just killed may have it for a moment longer.
async fn alone(layout: &Layout) -> std::io::Result<nix::fcntl::Flock<std::fs::File>> {
    for _ in 0..20 {
        match layout.hold() {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    layout.hold()
}

/// Ends PostgreSQL cleanly, within ten seconds, and the guard.
async fn end(config: &Config) -> anyhow::Result<()> {
    let layout = Layout::create(&config.data, &config.run)?;
    agent::rehearse::clean(&layout).await;
    if tokio::net::UnixStream::connect(layout.guard_socket()).await.is_err() {
        return Ok(());
    }
    let (notices, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let program = std::env::current_exe()?;
    let start = Start { program: &program, layout: &layout, watchdog: None };
    let (guard, status) = Guard::attach(&start, notices).await?;
    if status.pid.is_some() && guard.signal(nix::sys::signal::Signal::SIGINT).await.is_ok() {
        drop(tokio::time::timeout(std::time::Duration::from_secs(10), ended.recv()).await);
    }
    guard.end().await;
    Ok(())
}
