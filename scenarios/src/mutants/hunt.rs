//! The hunt: builds the world with one planted bug after another and plays until it shows.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{bail, ensure};

use super::{Copy, Mutant, list};

/// How to hunt.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many random disasters are played before a mutant counts as alive.
    pub seeds: u64,
    /// How many at a time.
    pub jobs: usize,
    /// Only mutants whose name contains this.
    pub only: Option<String>,
    /// Random disasters even for those that the catalogue catches.
    pub both: bool,
}

/// How a mutant ended.
struct Fate {
    /// What showed it: a scenario, a seed or the compiler.
    catalogue: Option<Caught>,
    swarm: Option<Caught>,
    seconds: u64,
}

/// What a violation's line says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Caught {
    place: String,
    invariant: String,
}

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
    let copy = Copy::new(root)?;
    let clean = hunt(&copy, None, options)?;
    if let Some(caught) = clean.catalogue.or(clean.swarm) {
        bail!(
            "the sources without any planted bug already break {} ({}): mend that first",
            caught.invariant,
            caught.place
        );
    }
    println!("{:<44} {:<9} {:<34} {:>6}", "planted bug", "breaks", "caught by", "time");
    let mut alive = Vec::new();
    for mutant in &mutants {
        let fate = hunt(&copy, Some(mutant), options)?;
        let caught = fate.catalogue.as_ref().or(fate.swarm.as_ref());
        let by = match (&fate.catalogue, &fate.swarm) {
            (None, None) => {
                alive.push(mutant.name.as_str());
                format!("NOTHING in {} seeds", options.seeds)
            }
            (Some(one), None) | (None, Some(one)) => one.place.clone(),
            (Some(one), Some(other)) => format!("{}, {}", one.place, other.place),
        };
        let invariant = caught.map_or("-", |caught| caught.invariant.as_str());
        println!("{:<44} {invariant:<9} {by:<34} {:>4} s", mutant.name, fate.seconds);
    }
    println!("{} of {} planted bugs caught", mutants.len() - alive.len(), mutants.len());
    if !alive.is_empty() {
        println!("alive: {}", alive.join(", "));
    }
    Ok(alive.is_empty())
}

fn hunt(copy: &Copy, mutant: Option<&Mutant>, options: &Options) -> anyhow::Result<Fate> {
    let began = wire::clock::now();
    let (built, program) = copy.build(mutant)?;
    if !built.status.success() {
        let name = mutant.map_or("the sources", |mutant| mutant.name.as_str());
        bail!("{name}: does not compile\n{}", String::from_utf8_lossy(&built.stderr));
    }
    let catalogue = play(&program, &["catalogue".into()])?;
    // Without a bug a few seeds do: whether all are clean is another test's question.
    let seeds = if mutant.is_some() { options.seeds } else { options.seeds.min(50) };
    let swarm = if catalogue.is_none() || options.both {
        let (seeds, jobs) = (seeds.to_string(), options.jobs.to_string());
        let arguments = ["swarm", "--first", "--seeds", &seeds, "--jobs", &jobs];
        play(&program, &arguments.map(String::from))?
    } else {
        None
    };
    let seconds = wire::clock::now().since(began).as_secs();
    Ok(Fate { catalogue, swarm, seconds })
}

/// Runs the world; what it says to be violated, or that it fell over.
fn play(program: &Path, arguments: &[String]) -> anyhow::Result<Option<Caught>> {
    let ended = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    if ended.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&ended.stdout);
    if let Some(caught) = text.lines().find_map(violation) {
        return Ok(Some(caught));
    }
    let errors = String::from_utf8_lossy(&ended.stderr);
    if !errors.contains("panicked at") {
        // A few seeds do not reach every kind of fault, which a swarm says, too.
        ensure!(ended.status.code() == Some(1), "{}: {text}{errors}", arguments.join(" "));
        return Ok(None);
    }
    Ok(Some(Caught {
        place: format!("{}: a panic", arguments.join(" ")),
        invariant: "I-27".into(),
    }))
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
    let word = words.next().unwrap_or("?").trim_end_matches(':');
    Some(Caught { place, invariant: word.to_owned() })
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
        assert_eq!(violation("12 scenarios"), None);
    }
}
