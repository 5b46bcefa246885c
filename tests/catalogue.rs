//! Every simulated scenario of the catalogue, played: its outcome, and its transcript to the byte.
//!
//! `BATON_BLESS=1 cargo test -p tests --test catalogue` writes the transcripts anew; what changed
//! in them is then read like any other change.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use scenarios::script::{Scenario, Tier, Verb, catalogue};
use simulation::play::{Variation, play};

#[test]
fn every_scenario_ends_as_it_should_and_reads_as_before() {
    let all: Vec<Scenario> = catalogue()
        .expect("the catalogue reads")
        .into_iter()
        .filter(|scenario| scenario.is_for(Tier::Sim))
        .collect();
    assert!(all.len() >= 60, "the catalogue has lost scenarios");
    let all: Vec<Scenario> = all.into_iter().filter(is_played).collect();
    let bless = std::env::var_os("BATON_BLESS").is_some();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(scenario) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = judge(scenario, bless);
                    wrong.lock().expect("no thread panics").extend(found);
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().expect("no thread panics");
    wrong.sort();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Without optimisation a day takes minutes: the long ones are then left to `baton-sim catalogue`,
/// which plays them all.
fn is_played(scenario: &Scenario) -> bool {
    let bound = |verb: &Verb| {
        if let Verb::Expect(it) | Verb::Always(it) = verb {
            it.bound(Tier::Sim)
        } else {
            Duration::ZERO
        }
    };
    let ends = scenario.steps(Tier::Sim).iter().map(|step| step.at + bound(&step.verb)).max();
    !cfg!(debug_assertions) || ends.unwrap_or_default() <= Duration::from_mins(12)
}

fn judge(scenario: &Scenario, bless: bool) -> Vec<String> {
    let played = play(scenario, &Variation::default()).expect("the cluster can be made");
    let mut wrong: Vec<String> =
        played.problems.iter().map(|problem| format!("{}: {problem}", scenario.name)).collect();
    let mut text = played.transcript.join("\n");
    text.push('\n');
    let file = scenario.file.with_extension("transcript");
    if bless {
        std::fs::write(&file, &text).expect("the transcript can be written");
    } else if let Some(difference) = difference(&file, &text) {
        wrong.push(format!("{}: {difference}", scenario.name));
    }
    wrong
}

/// The first line that is not as in the file.
fn difference(file: &Path, text: &str) -> Option<String> {
    // One that has not been written yet is nobody's to compare with.
    let known = std::fs::read_to_string(file).ok()?;
    if known == text {
        return None;
    }
    let both = known.lines().zip(text.lines());
    let line = both.take_while(|(old, new)| old == new).count();
    let of = |text: &str| text.lines().nth(line).unwrap_or("(nothing)").to_owned();
    Some(format!(
        "line {} of its transcript was `{}` and is `{}`; read what changed, and if it is right run \
         with BATON_BLESS=1",
        line + 1,
        of(&known),
        of(text)
    ))
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let all = catalogue().expect("the catalogue reads");
    let chosen = all.iter().filter(|it| it.is_for(Tier::Sim) && is_played(it)).step_by(13);
    for scenario in chosen {
        let once = play(scenario, &Variation::default()).expect("the cluster can be made");
        let again = play(scenario, &Variation::default()).expect("the cluster can be made");
        assert_eq!(once.transcript, again.transcript, "{}", scenario.name);
    }
}

#[test]
fn at_least_two_scenarios_are_about_each_invariant_that_one_is_about() {
    let all = catalogue().expect("the catalogue reads");
    let live = all.iter().filter(|scenario| scenario.is_for(Tier::Live)).count();
    assert!(live >= 40, "{live} live scenarios");
    for invariant in ["I-02", "I-07", "I-08", "I-12", "I-13", "I-14", "I-15", "I-19", "I-20"] {
        let about = all.iter().filter(|it| it.also.iter().any(|also| also == invariant)).count();
        assert!(about >= 2, "{about} scenarios are about {invariant}");
    }
}
