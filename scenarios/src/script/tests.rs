//! What the language reads, and how it refuses.

use super::*;

const HEAD: &str = "id = \"SC-99\"\nsummary = \"x\"\ntiers = [\"sim\"]\n";

fn read(steps: &str) -> Result<Scenario, ScriptError> {
    let text = format!("{HEAD}{steps}\n[outcome]\nwhole = true\n");
    Scenario::parse(Path::new("SC-99-test.toml"), &text)
}

#[test]
fn every_part_is_read() {
    let scenario = read(
        "[setting]\ntopology = \"pair-and-witness\"\n[[step]]\nat = \"10s\"\nlive = \"2s\"\n\
         cut = { from = \"primary\", to = [\"standby\", \"roubaix\"], planes = \"wal\" }",
    )
    .expect("a good scenario");
    let [step] = scenario.steps.as_slice() else { panic!("one step") };
    assert_eq!(step.at, Duration::from_secs(10));
    assert_eq!(step.line, 7);
    let Verb::Cut(link) = &step.verb else { panic!("a cut") };
    assert_eq!(link.to.0, [Place::Standby, Place::Site("roubaix".into())]);
    assert_eq!(link.planes.0, [Plane::Wal]);
    assert_eq!(scenario.steps(Tier::Live)[0].at, Duration::from_secs(2));
}

#[test]
fn errors_name_line_key_and_remedy() {
    for (steps, parts) in [
        ("[[step]]\nat = \"1s\"\ncutt = {}", [":6:", "cutt", "correct the spelling"].as_slice()),
        ("[[step]]\nat = \"1s\"", &[":5:", "0 verbs", "exactly one of cut, cut-one-way"]),
        ("[[step]]\nat = \"1\"\nheal = {}", &[":5:", "at", "ms, s, m or h"]),
        (
            "[[step]]\nat = \"1s\"\ncrash = { process = \"host\", site = \"primary\" }",
            &[":6:", "`host` is no process", "guard"],
        ),
        (
            "[[step]]\nat = \"1s\"\ncrash = { process = \"agent\", site = \"primry\" }",
            &[":5:", "no site `primry`", "arezzo"],
        ),
        ("[[step]]\nat = \"1s\"\nheal = { from = \"all\" }", &["without", "heal = {}"]),
        ("[[step]]\nat = \"1s\"\nexpect = { within = \"3s\" }", &["nothing is expected"]),
        ("[[step]]\nat = \"1s\"\nevery = \"2s\"\nheal = {}", &["belong together"]),
    ] {
        let error = read(steps).expect_err(steps).to_string();
        for part in parts {
            assert!(error.contains(part), "{error} lacks {part}");
        }
    }
}

#[test]
fn what_is_written_reads_the_same() {
    for scenario in catalogue().expect("the catalogue reads") {
        let text = scenario.to_toml().expect("it can be written");
        let mut again = Scenario::parse(&scenario.file, &text).expect("it reads");
        for (new, old) in again.steps.iter_mut().zip(&scenario.steps) {
            new.line = old.line;
        }
        assert_eq!(again, scenario);
    }
}
