//! The command line: arguments here, one file a verb beside.

mod catalogue;
mod list;
mod progress;
mod shrink;
mod swarm;
mod sweep;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Exit statuses, those of `baton`.
pub(crate) const OK: u8 = 0;
/// Something was violated, or expected in vain.
pub(crate) const FAILED: u8 = 1;
/// The command line, a scenario or a topology is wrong.
pub(crate) const USAGE: u8 = 2;

/// Whole clusters in one process, in virtual time: the same seed, the same run, the same bytes.
#[derive(Parser, Debug)]
#[command(
    name = "baton-sim",
    version,
    after_help = "Exit status: 0 all is well; 1 something was violated, or expected in vain; \
                  2 the command line or a file is wrong.\nEverything can be stopped with Ctrl-C \
                  at any time: nothing is left half written."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List the scenarios of the catalogue.
    #[command(after_help = "Examples:\n  baton-sim list\n  baton-sim list -o json")]
    List(ListArgs),
    /// Play one scenario, of the catalogue or of a file, and print what happened.
    #[command(after_help = "Examples:\n  baton-sim run SC-01\n  baton-sim run SC-01 --seed 7\n  \
                            baton-sim run my-disaster.toml --topology topology.toml -o json")]
    Run(RunArgs),
    /// Play every simulated scenario of the catalogue.
    #[command(after_help = "Examples:\n  baton-sim catalogue\n  baton-sim catalogue --jobs 2 \
                            --seeds 20\n  baton-sim catalogue SC-19 SC-34 --seeds 5 --first")]
    Catalogue(CatalogueArgs),
    /// Run one seed of random disasters.
    #[command(after_help = "Examples:\n  baton-sim seed 1814\n  baton-sim seed 1814 --transcript")]
    Seed(SeedArgs),
    /// Run many seeds of random disasters and say what came about.
    #[command(after_help = "Examples:\n  baton-sim swarm --seeds 10000 --jobs 2\n  \
                            baton-sim swarm --from 10000 --minutes 30\n\nA kind of fault that \
                            never came about in a thousand seeds or more fails the run.")]
    Swarm(SwarmArgs),
    /// Make a seed that fails short, and write it as a scenario.
    #[command(after_help = "Examples:\n  baton-sim shrink 1814\n  \
                            baton-sim shrink 1814 --out scenarios/catalogue/SC-130-what.toml")]
    Shrink(ShrinkArgs),
    /// Run all of something: every point of death, every pattern of cuts, every length of a cut.
    #[command(after_help = "Examples:\n  baton-sim sweep crash\n  baton-sim sweep partition \
                            --jobs 2\n  baton-sim sweep length --seeds 100")]
    Sweep(SweepArgs),
    /// Plant each bug of the list in a copy of the sources, and see it caught.
    #[command(after_help = "Examples:\n  baton-sim mutants --list\n  \
                            baton-sim mutants --only NAME --seeds 500")]
    Mutants(MutantsArgs),
}

/// What is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sweep {
    /// Every process killed at every numbered point of a change.
    Crash,
    /// Every directed pattern of cuts among three sites.
    Partition,
    /// A cut of every length from 1 s to 120 s.
    Length,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// How it is printed.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The scenario: its name, the beginning of one, or the path of a TOML file.
    name: String,
    /// Another seed than the scenario's.
    #[arg(long)]
    seed: Option<u64>,
    /// Play it on this topology, as `baton apply` takes it, in place of the scenario's.
    #[arg(long)]
    topology: Option<PathBuf>,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct CatalogueArgs {
    /// Only these: names, or how they begin; all, where none is given.
    names: Vec<String>,
    /// How many run at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Each scenario is played with so many seeds more, counted from its own.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Stop at the first one that fails.
    #[arg(long)]
    first: bool,
    /// But not these.
    #[arg(long)]
    except: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SeedArgs {
    /// Which.
    seed: u64,
    /// Print what happened.
    #[arg(long)]
    transcript: bool,
    /// How much time passes in its world, in minutes.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

#[derive(Args, Debug)]
pub(crate) struct SwarmArgs {
    /// How many; 100 unless `--minutes` says when to stop.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many run at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Stop after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// How much time passes in each world, in minutes.
    #[arg(long, default_value_t = 10)]
    simulated: u64,
    /// Stop at the first one that fails.
    #[arg(long)]
    first: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ShrinkArgs {
    /// Which seed.
    seed: u64,
    /// Where the scenario is written; `seed-N.toml` here unless told.
    #[arg(long)]
    out: Option<PathBuf>,
    /// How much time passes in its world, in minutes.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

#[derive(Args, Debug)]
pub(crate) struct SweepArgs {
    /// What.
    what: Sweep,
    /// How many run at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Of `length`: each with so many seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
}

#[derive(Args, Debug)]
pub(crate) struct MutantsArgs {
    /// How many seeds of random disasters are tried against each that no scenario shows.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// For how many minutes at most.
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// Random disasters also against those that a scenario shows: after how many seeds.
    #[arg(long)]
    both: bool,
    /// Only those whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Where the sources are; those that this program was built from unless told.
    #[arg(long)]
    sources: Option<PathBuf>,
    /// Print the names and stop.
    #[arg(long)]
    list: bool,
}

fn mutants(args: &MutantsArgs) -> anyhow::Result<u8> {
    let root = args.sources.clone().unwrap_or_else(scenarios::mutants::root);
    if args.list {
        for mutant in scenarios::mutants::list(&root)? {
            println!("{}: {}", mutant.name, mutant.what);
        }
        return Ok(OK);
    }
    let options = scenarios::mutants::Options {
        seeds: args.seeds,
        from: args.from,
        minutes: args.minutes,
        jobs: 2,
        only: args.only.clone(),
        both: args.both,
    };
    Ok(if scenarios::mutants::run(&root, &options)? { OK } else { FAILED })
}

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::List(args) => list::list(&args),
        Verb::Run(args) => catalogue::run(&args),
        Verb::Catalogue(args) => catalogue::all(&args),
        Verb::Seed(args) => Ok(swarm::seed(&args)),
        Verb::Swarm(args) => Ok(swarm::swarm(&args)),
        Verb::Shrink(args) => shrink::shrink(&args),
        Verb::Sweep(args) => sweep::sweep(&args),
        Verb::Mutants(args) => mutants(&args),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("baton-sim: {error:#}");
            ExitCode::from(USAGE)
        }
    }
}
