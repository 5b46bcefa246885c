//! The list of planted bugs (`make mutants`) fits the sources that they are planted in.

use std::path::Path;

use scenarios::mutants::{Mutant, list};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn mutants() -> Vec<Mutant> {
    list(root()).expect("the lists can be read")
}

#[test]
fn every_planted_bug_can_be_planted() {
    let troubles: Vec<String> = mutants()
        .iter()
        .filter_map(|mutant| mutant.plant(root()).err())
        .map(|trouble| trouble.to_string())
        .collect();
    assert!(troubles.is_empty(), "{}", troubles.join("\n\n"));
}

#[test]
fn there_are_enough_planted_bugs() {
    let mutants = mutants();
    assert!(mutants.len() >= 25, "only {}", mutants.len());
    for mutant in mutants {
        assert!(!mutant.what.is_empty() && !mutant.breaks.is_empty(), "{}: why?", mutant.name);
        let known = |name: &String| {
            name.strip_prefix("I-").is_some_and(|number| number.parse::<u8>().is_ok())
                || matches!(name.as_str(), "stuck" | "outcome")
        };
        assert!(mutant.breaks.iter().all(known), "{}: breaks {:?}", mutant.name, mutant.breaks);
    }
}
