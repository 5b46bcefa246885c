//! Files that people write: three daemons' configurations, the topology, scenarios. Every error
//! names a file and says something; none is a panic.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

thread_local! {
    /// Configurations are read from files: one in memory.
    static FILE: RefCell<PathBuf> = RefCell::new(place());
}

fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = folder.join(format!("baton-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for one file");
    folder.join("baton.toml")
}

/// The first byte says for whom the rest is meant.
pub fn config(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    if kind % 4 == 3 {
        let read = orchestrator::topology::parse(Path::new("topology.toml"), text);
        match read {
            Ok(declared) => {
                let valid = failover::policy::validate(&declared.topology);
                assert!(valid.is_ok(), "what was read is not valid: {valid:?}");
                let _law = failover::policy::law(&declared.topology.timing);
                let again = serde_json::to_vec(&declared.topology).expect("it is JSON");
                let again: failover::topology::Topology =
                    serde_json::from_slice(&again).expect("what is written is read");
                assert_eq!(again, declared.topology);
            }
            Err(error) => says_something(&error.to_string(), "topology.toml"),
        }
        return;
    }
    FILE.with_borrow(|file| {
        std::fs::write(file, text).expect("memory can be written");
        let error = match kind % 4 {
            0 => orchestrator::config::Config::load(file).err().map(|error| error.to_string()),
            1 => agent::config::load(file).err().map(|error| error.to_string()),
            _ => dns::config::Config::load(file).err().map(|error| format!("{error:#}")),
        };
        if let Some(error) = error {
            says_something(&error, "baton.toml");
        }
    });
}

fn says_something(error: &str, file: &str) {
    assert!(error.contains(file) && error.len() > file.len() + 4, "says nothing: `{error}`");
}

/// A scenario: what is read can be written, and read again as the same.
pub fn scenario(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let file = Path::new("SC-00-anything.toml");
    let read = match scenarios::script::Scenario::parse(file, text) {
        Ok(read) => read,
        Err(error) => return says_something(&error.to_string(), "SC-00-anything.toml"),
    };
    let again = read.to_toml().expect("a scenario is TOML");
    let again = scenarios::script::Scenario::parse(file, &again).expect("what is written is read");
    assert_eq!(unlined(again), unlined(read));
}

/// Without the places in the file.
fn unlined(mut scenario: scenarios::script::Scenario) -> scenarios::script::Scenario {
    scenario.steps.iter_mut().for_each(|step| step.line = 0);
    scenario
}
