//! The hunt: builds the world with one planted bug after another and plays until it shows. While
//! one is played the next is built.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::{Copy, Mutant, list};

/// How to hunt.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many random disasters are played before a mutant counts as alive.
    pub seeds: u64,
    /// The first of them.
    pub from: u64,
    /// For how many minutes at most.
    pub minutes: u64,
    /// How many at a time.
    pub jobs: usize,
    /// Only mutants whose name contains this.
    pub only: Option<String>,
    /// Random disasters even for those that a scenario shows.
    pub both: bool,
}

/// What showed a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Caught {
    place: String,
    invariant: String,
}

/// How a mutant ended.
#[derive(Default)]
struct Fate {
    /// The scenario or the seed.
    caught: Option<Caught>,
    /// How many runs were played until then.
    runs: u64,
    /// After how many random seeds, where they were played.
    swarm: Option<(Caught, u64)>,
    building: u64,
    playing: u64,
}

/// A world with a bug in it, ready to be played.
struct World {
    program: PathBuf,
    building: u64,
}

/// A world that does not end by itself is ended, and that is a catch, too.
const ENDLESS: Duration = Duration::from_mins(20);

/// Hunts every mutant of the list in `root`; prints a table. `Ok(true)`: all were caught.
///
/// # Errors
/// The list is out of date, the sources cannot be copied or built, or the world without a bug in
/// it is not without violations.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<bool> {
    let wanted = |mutant: &Mutant| {
        options.only.as_ref().is_none_or(|part| mutant.name.contains(part.as_str()))
    };
    let mutants: Vec<Mutant> = list(root)?.into_iter().filter(wanted).collect();
    ensure!(!mutants.is_empty(), "no mutant is called that; `--list` prints their names");
    for mutant in &mutants {
        mutant.plant(root)?;
    }
    let began = wire::clock::now();
    eprintln!("builds the world without any bug");
    let copy = Copy::new(root)?;
    let world = build(&copy, None)?;
    let plan = Plan::new(&world, options)?;
    println!(
        "{:<44} {:<9} {:<44} {:>5} {:>13}",
        "planted bug", "breaks", "caught by", "runs", "built, played"
    );
    let alive = std::thread::scope(|scope| {
        let (ready, worlds) = mpsc::sync_channel(1);
        let builder = scope.spawn(|| {
            let ready = ready;
            for mutant in &mutants {
                if ready.send((mutant, build(&copy, Some(mutant)))).is_err() {
                    break;
                }
            }
        });
        let mut alive = Vec::new();
        for (mutant, world) in worlds {
            // One that is out of date is no reason to leave the others.
            let fate = match world {
                Ok(world) => hunt(mutant, &world, &plan)?,
                Err(error) => {
                    eprintln!("{error:#}");
                    Fate::default()
                }
            };
            tell(mutant, &fate, options);
            if fate.caught.is_none() {
                alive.push(mutant.name.as_str());
            }
        }
        builder.join().map_err(|_| anyhow::anyhow!("the builder fell over"))?;
        anyhow::Ok(alive)
    })?;
    let took = wire::clock::now().since(began).as_secs();
    let caught = mutants.len() - alive.len();
    println!(
        "{caught} of {} planted bugs caught in {} min {} s",
        mutants.len(),
        took / 60,
        took % 60
    );
    if !alive.is_empty() {
        println!("alive: {}", alive.join(", "));
    }
    Ok(alive.is_empty())
}

fn tell(mutant: &Mutant, fate: &Fate, options: &Options) {
    let invariant = fate.caught.as_ref().map_or("-", |caught| caught.invariant.as_str());
    let by = match (&fate.caught, &fate.swarm) {
        (None, _) if fate.runs == 0 => String::from("NOTHING: it is out of date"),
        (None, _) => format!("NOTHING in {} seeds", options.seeds),
        (Some(one), Some((other, seeds))) => {
            format!("{}; {} after {seeds}", one.place, other.invariant)
        }
        (Some(one), None) => one.place.clone(),
    };
    println!(
        "{:<44} {invariant:<9} {by:<44} {:>5} {:>4} s, {:>4} s",
        mutant.name, fate.runs, fate.building, fate.playing
    );
}

/// Builds the world with a bug, and puts the program where the next build does not write.
fn build(copy: &Copy, mutant: Option<&Mutant>) -> anyhow::Result<World> {
    let name = mutant.map_or("the-sources", |mutant| mutant.name.as_str());
    let began = wire::clock::now();
    let (mut built, mut program) = copy.build(mutant)?;
    if String::from_utf8_lossy(&built.stderr).contains("linking with") {
        // A build that was interrupted leaves halves behind.
        copy.forget()?;
        (built, program) = copy.build(mutant)?;
    }
    if !built.status.success() {
        bail!("{name}: does not compile\n{}", String::from_utf8_lossy(&built.stderr));
    }
    let folder = copy.root.join("target/mutants/ready");
    fs::create_dir_all(&folder)?;
    let ready = folder.join(name);
    fs::copy(&program, &ready).with_context(|| program.display().to_string())?;
    let building = wire::clock::now().since(began).as_secs();
    Ok(World { program: ready, building })
}

/// What is played against every bug.
struct Plan {
    jobs: String,
    minutes: String,
    /// Scenarios that fail without any bug: they would show nothing.
    except: Vec<String>,
    /// Random disasters: the first seed of each stretch, and how many.
    seeds: Vec<(u64, u64)>,
    both: bool,
}

impl Plan {
    /// Everything is played without a bug first. What fails then is left out, and said: it is
    /// for other tests to ask that nothing does.
    fn new(world: &World, options: &Options) -> anyhow::Result<Self> {
        eprintln!("built in {} s; plays it", world.building);
        let jobs = options.jobs.to_string();
        let (from, seeds) = (options.from.to_string(), options.seeds.to_string());
        let catalogue = play(&world.program, &["catalogue", "--jobs", &jobs])?;
        let random = ["swarm", "--from", &from, "--seeds", &seeds, "--jobs", &jobs];
        let swarm = play(&world.program, &random)?;
        fs::remove_file(&world.program)?;
        for caught in catalogue.caught.iter().chain(&swarm.caught) {
            println!(
                "left out, for it breaks {} without any bug: {}",
                caught.invariant, caught.place
            );
        }
        let end = options.from + options.seeds;
        let mut failing: Vec<u64> = swarm
            .caught
            .iter()
            .filter_map(|caught| caught.place.strip_prefix("seed ")?.parse().ok())
            .collect();
        failing.push(end);
        let mut begin = options.from;
        let mut stretches = Vec::new();
        for seed in failing {
            if seed > begin {
                stretches.push((begin, seed - begin));
            }
            begin = seed + 1;
        }
        ensure!(!stretches.is_empty(), "every seed breaks something without any bug");
        Ok(Self {
            jobs,
            minutes: options.minutes.to_string(),
            except: catalogue.caught.into_iter().map(|caught| caught.place).collect(),
            seeds: stretches,
            both: options.both,
        })
    }

    fn catalogue<'a>(&'a self, name: Option<&'a str>) -> Vec<&'a str> {
        let mut arguments = vec!["catalogue"];
        arguments.extend(name);
        arguments.extend(["--first", "--jobs", &self.jobs]);
        for name in &self.except {
            arguments.extend(["--except", name]);
        }
        arguments
    }

    /// Random disasters until something shows.
    fn swarm(&self, program: &Path) -> anyhow::Result<Played> {
        let mut all = Played::default();
        for (from, seeds) in &self.seeds {
            let (from, seeds) = (from.to_string(), seeds.to_string());
            let played = play(
                program,
                &[
                    "swarm",
                    "--first",
                    "--from",
                    &from,
                    "--seeds",
                    &seeds,
                    "--minutes",
                    &self.minutes,
                    "--jobs",
                    &self.jobs,
                ],
            )?;
            all.runs += played.runs;
            all.caught = played.caught;
            if !all.caught.is_empty() {
                break;
            }
        }
        Ok(all)
    }
}

/// Plays what is known to show the bug, then the catalogue, then random disasters.
fn hunt(mutant: &Mutant, world: &World, plan: &Plan) -> anyhow::Result<Fate> {
    let began = wire::clock::now();
    let mut fate = Fate { building: world.building, ..Fate::default() };
    let mut plays: Vec<Vec<&str>> = Vec::new();
    for name in &mutant.shown_by {
        plays.push(match name.strip_prefix("seed ") {
            Some(seed) => vec!["swarm", "--from", seed, "--seeds", "1", "--jobs", "1"],
            None => plan.catalogue(Some(name)),
        });
    }
    plays.push(plan.catalogue(None));
    for arguments in &plays {
        let played = play(&world.program, arguments)?;
        fate.runs += played.runs;
        fate.caught = played.caught.into_iter().next();
        if fate.caught.is_some() {
            break;
        }
    }
    if fate.caught.is_none() || plan.both {
        let played = plan.swarm(&world.program)?;
        let shown = played.caught.into_iter().next();
        if fate.caught.is_none() {
            fate.runs += played.runs;
            fate.caught = shown;
        } else {
            fate.swarm = shown.map(|shown| (shown, played.runs));
        }
    }
    fate.playing = wire::clock::now().since(began).as_secs();
    fs::remove_file(&world.program)?;
    Ok(fate)
}

/// What came of playing.
#[derive(Default)]
struct Played {
    /// What was violated, each run once.
    caught: Vec<Caught>,
    /// How many runs there were.
    runs: u64,
}

/// Runs the world: what it says to be violated, or that it fell over.
fn play(program: &Path, arguments: &[&str]) -> anyhow::Result<Played> {
    let mut process = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| program.display().to_string())?;
    let (mut out, mut errors) = (process.stdout.take(), process.stderr.take());
    let (sender, ended) = mpsc::channel();
    let speaks = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = out.as_mut().map(|out| out.read_to_string(&mut text));
        let _ = sender.send(());
        text
    });
    let complains = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.as_mut().map(|errors| errors.read_to_string(&mut text));
        text
    });
    let endless = ended.recv_timeout(ENDLESS).is_err();
    if endless {
        process.kill()?;
    }
    let status = process.wait()?;
    let text = speaks.join().unwrap_or_default();
    let errors = complains.join().unwrap_or_default();
    let runs = text.lines().rev().find_map(played).unwrap_or(1);
    let mut caught: Vec<Caught> = text.lines().filter_map(violation).collect();
    caught.dedup_by(|one, other| one.place == other.place);
    let fell = |how: &str, invariant: &str| Caught {
        place: format!("{}: {how}", arguments.join(" ")),
        invariant: invariant.into(),
    };
    if endless {
        caught.push(fell("no end", "stuck"));
    } else if caught.is_empty() && errors.contains("panicked at") {
        caught.push(fell("a panic", "I-27"));
    } else if caught.is_empty() && !status.success() {
        // A few seeds do not reach every kind of fault, which a swarm says, too.
        ensure!(status.code() == Some(1), "{}: {text}{errors}", arguments.join(" "));
    }
    Ok(Played { caught, runs })
}

/// `violation: seed 1234 I-03 …`, `violation: SC-43-… seed 7 outcome …`: where, and the first word
/// after it that names an invariant or an expectation.
fn violation(line: &str) -> Option<Caught> {
    let rest = line.trim().strip_prefix("violation: ")?;
    let mut words = rest.split_whitespace().peekable();
    let first = words.next()?;
    let seed = match first {
        "seed" => words.next(),
        _ => words.next_if_eq(&"seed").and_then(|_| words.next()),
    };
    let place = match (first, seed) {
        ("seed", Some(seed)) => format!("seed {seed}"),
        _ => first.to_owned(),
    };
    // A cluster that never stood says so before it says why.
    let known = |word: &&str| word.starts_with("I-") || *word == "outcome" || *word == "stuck";
    let words: Vec<&str> = words.map(|word| word.trim_end_matches(':')).collect();
    let word = words.iter().copied().find(known).or(words.first().copied()).unwrap_or("?");
    Some(Caught { place, invariant: word.to_owned() })
}

/// `90 of 92 runs as they should be; …`, `17 seeds, …`: how many were played.
fn played(line: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    match words.next()? {
        "of" => words.next()?.parse().ok(),
        "seeds," => first.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_world_says_is_read() {
        let caught = |place: &str, invariant: &str| {
            Some(Caught { place: place.into(), invariant: invariant.into() })
        };
        let seed = violation("violation: seed 1234 I-03 two instances completed commits");
        assert_eq!(seed, caught("seed 1234", "I-03"));
        let colon = violation("violation: seed 7 I-12: lost (three sites)");
        assert_eq!(colon, caught("seed 7", "I-12"));
        let scenario = violation("violation: SC-43-wrong-survivor seed 7 outcome not-promoted");
        assert_eq!(scenario, caught("SC-43-wrong-survivor", "outcome"));
        let never = "violation: SC-01-cut seed 1 the cluster never stood: I-08: empty at 1.0 s";
        assert_eq!(violation(never), caught("SC-01-cut", "I-08"));
        assert_eq!(violation("12 scenarios"), None);
        assert_eq!(played("90 of 92 runs as they should be; 30.8 h simulated"), Some(92));
        assert_eq!(played("17 seeds, 2.8 simulated hours in 9.0 s"), Some(17));
        assert_eq!(played("        12  I-03"), None);
    }
}
