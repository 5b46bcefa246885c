//! The main job, live: real processes, real PostgreSQL, real TLS and DNS. A site is lost and comes
//! back, the service is handed back to it, and every acknowledged row is still there.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Clusters are measured one at a time: two would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The folder of the built programs: this test's own executable lies in `deps` below it.
fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let deps = test.parent().expect("in a folder");
    deps.parent().expect("below that of the programs").to_path_buf()
}

fn lab(arguments: &[&str]) -> (bool, String) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = programs().join("baton-lab");
    assert!(lab.exists(), "{} is missing: `make test` builds it first", lab.display());
    let output = Command::new(lab).args(arguments).output().expect("baton-lab starts");
    let text = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
    (output.status.success(), text.concat())
}

/// SC-04, I-01, I-29: nothing acknowledged is missing after a lost site and a planned return.
#[test]
fn i01_i29_a_lost_site_costs_no_acknowledged_row() {
    let (whole, text) = lab(&["demo"]);
    assert!(whole, "{text}");
    assert!(text.contains("acknowledged and lost          0"), "{text}");
}

/// I-24, I-26: an agent that dies and comes back is no reason to move a database that lives.
#[test]
fn i24_i26_an_agent_killed_moves_nothing() {
    let (whole, text) = lab(&["bench", "--case", "agent-killed", "--runs", "1"]);
    assert!(whole, "{text}");
}

/// I-03: a primary that is cut off with its own clients acknowledges nothing more.
#[test]
fn i03_a_primary_cut_off_acknowledges_nothing() {
    let (whole, text) = lab(&["bench", "--case", "site-cut", "--runs", "1"]);
    assert!(whole, "{text}");
}

/// The page in a browser: by day, by night, on a phone, during a switchover, and when its voter
/// stands still.
#[test]
fn i37_the_page_in_a_browser_shows_what_is_and_how_old_it_is() {
    let (whole, text) = lab(&["page"]);
    assert!(whole, "{text}");
    println!("{text}");
    assert!(text.contains("SKIPPED") || text.contains("all of it is as it should be"), "{text}");
}

/// I-33: what only lost instances hold is given up by two people, from a terminal to the table.
#[test]
fn i33_a_loss_is_accepted_by_two_people_and_is_no_more_than_was_shown() {
    let (whole, text) = lab(&["accept-loss"]);
    assert!(whole, "{text}");
}
