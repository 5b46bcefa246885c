//! `baton-lab`: a whole cluster on this machine, to be shown, used, broken and measured.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use scenarios::lab::accept_loss::accept_loss;
use scenarios::lab::bench::{Plan, bench};
use scenarios::lab::binaries::Binaries;
use scenarios::lab::cases::Case;
use scenarios::lab::cluster::Options;
use scenarios::lab::demo::{demo, pass};
use scenarios::lab::directory::{Account, sweep};
use scenarios::lab::drills;
use scenarios::lab::idle::idle;
use scenarios::lab::layout::Shape;
use scenarios::lab::page::page;
use scenarios::lab::process::adopt_orphans;
use scenarios::lab::screen::Screen;
use scenarios::lab::stop::{Stop, Stopped};
use scenarios::lab::up;
use scenarios::live::play::Ground;
use scenarios::live::series::{Series, chosen, series};

/// A whole baton cluster on this machine, playing three sites.
#[derive(Parser)]
#[command(name = "baton-lab", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Copy, ValueEnum)]
enum Profile {
    /// Heartbeat 500 ms, fenced after 2 s, suspected after 3 s
    Default,
    /// Sites close to each other: heartbeat 100 ms, fenced after 400 ms, suspected after 700 ms
    Metro,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table
    Text,
    /// JSON
    Json,
}

#[derive(Subcommand)]
enum Verb {
    /// Lose a site, get it back, and hand the service back, while a client writes
    Demo {
        /// Timing
        #[arg(long, value_enum, default_value = "default")]
        profile: Profile,
    },
    /// A drill of each kind, while a client writes
    DemoDrills {
        /// Timing
        #[arg(long, value_enum, default_value = "default")]
        profile: Profile,
    },
    /// Lose what only lost instances hold, by two people, and no more than was shown
    AcceptLoss,
    /// Start a cluster and leave it running
    Up {
        /// Timing
        #[arg(long, value_enum, default_value = "default")]
        profile: Profile,
    },
    /// End the cluster that `up` left running
    Down,
    /// Measure every kind of fault several times
    Bench {
        /// How often each
        #[arg(long, default_value_t = 10)]
        runs: usize,
        /// Only this one (may be given several times)
        #[arg(long, value_enum)]
        case: Vec<Case>,
        /// Timing
        #[arg(long, value_enum, default_value = "default")]
        profile: Profile,
    },
    /// Play the catalogue's scenarios on real processes (root; a clear skip without)
    Live {
        /// Only these: names, numbers as SC-34, beginnings of names, or files
        names: Vec<String>,
        /// How often each
        #[arg(long, default_value_t = 1)]
        runs: u32,
        /// How many clusters at the same time
        #[arg(long, default_value_t = 3)]
        jobs: usize,
        /// Keep the logs of runs that passed, too
        #[arg(long)]
        keep: bool,
        /// How the result is printed
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Measure what the daemons cost while nothing happens
    BenchIdle,
    /// Look at the page in a browser, in quiet and during a switchover (a clear skip without one)
    Page {
        /// Write the pictures of the documents into this folder
        #[arg(long)]
        pictures: Option<PathBuf>,
    },
    /// The cluster of `up`, in the foreground
    #[command(hide = true)]
    Keep {
        /// Timing
        #[arg(long, value_enum, default_value = "default")]
        profile: Profile,
    },
}

fn main() -> ExitCode {
    match play(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(stopped) = error.downcast_ref::<Stopped>() {
                eprintln!("baton-lab: {stopped}; nothing is left running");
                return ExitCode::from(130);
            }
            eprintln!("baton-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(verb: Verb) -> Result<()> {
    let stop = Stop::on_signals().context("cannot listen to signals")?;
    adopt_orphans().context("cannot become the parent of orphans")?;
    let target = target()?;
    let registry = target.join("lab");
    let screen = Screen::new();
    let options = |profile: Profile| {
        let profile = match profile {
            Profile::Default => "default",
            Profile::Metro => "metro",
        };
        Options {
            profile: profile.into(),
            shape: Shape::demo(profile),
            networks: false,
            registry: registry.clone(),
            keep_as: String::new(),
            base: std::env::temp_dir(),
            programs: None,
            disks: Vec::new(),
        }
    };
    if sweep(&registry) > 0 {
        screen.progress("ended what a killed run had left");
    }
    let kept = target.join("up");
    match verb {
        Verb::Demo { profile } => {
            pass(&demo(&options(profile), &target.join("demo"), &stop, screen)?)
        }
        Verb::DemoDrills { profile } => {
            let found =
                drills::drills(&options(profile), &target.join("demo-drills"), &stop, screen)?;
            drills::pass(&found)
        }
        Verb::AcceptLoss => accept_loss(&options(Profile::Default), &stop, screen),
        Verb::Up { profile } => up::up(&kept, &options(profile), &stop, screen),
        Verb::Keep { profile } => up::keep(&kept, &options(profile), &stop, screen),
        Verb::Down => {
            let ended = up::down(&kept, &registry);
            screen.line(if ended { "The cluster is down." } else { "No cluster was up." });
            Ok(())
        }
        Verb::Bench { runs, case, profile } => {
            let cases = if case.is_empty() { Case::ALL.into() } else { case };
            let plan = Plan { cases, runs: runs.max(1) };
            bench(&options(profile), &plan, &target.join("bench"), &stop, screen)
        }
        Verb::Live { names, runs, jobs, keep, output } => {
            let (json, scenarios) = (output == Output::Json, chosen(&names)?);
            let plan = Series { scenarios, runs, jobs, json };
            live(&plan, keep, &registry, &target.join("live"), &stop, screen)
        }
        Verb::Page { pictures } => {
            page(&options(Profile::Default), pictures.as_deref(), &stop, screen)
        }
        Verb::BenchIdle => idle(&options(Profile::Default), &target.join("bench"), &stop, screen),
    }
}

/// Runs live scenarios with one copy of the programs for all of them, in memory where it can be:
/// the disk would be measured, not what is tested, and faults of disks have disks of their own.
fn live(
    plan: &Series,
    keep: bool,
    registry: &Path,
    folder: &Path,
    stop: &Stop,
    screen: Screen,
) -> Result<()> {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let account = Account::choose()?;
    let shared = tempfile::Builder::new().prefix("baton-programs-").tempdir_in(&base)?;
    std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o755))?;
    let programs = Binaries::beside_own()?.for_account(&account, shared.path())?;
    let ground = Ground { registry: registry.to_owned(), base, programs, keep };
    series(plan, &ground, folder, stop, screen)
}

/// The build folder that this program stands in: `target/PROFILE/baton-lab`.
fn target() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let target = own.parent().and_then(|folder| folder.parent());
    Ok(target.context("this program stands in no build folder")?.to_path_buf())
}
