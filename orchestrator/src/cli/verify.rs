//! `baton verify`: a bundle of evidence about a change of primary or a drill, or the page made of
//! one, without any cluster.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;

use orchestrator::evidence::{self, BUNDLE_BYTES};
use serde::Serialize;

use crate::client::Failure;
use crate::report::{html, witness};
use crate::screen::{print, time};
use crate::verbs::{Globals, Verify};
use crate::words;

const KEY_ON_RECORD: &str =
    "\nthat the key is that voter's is on record: `baton audit list --kind key`";

/// What stands.
#[derive(Serialize)]
struct Stands<'a> {
    cluster: &'a str,
    transition: u64,
    service: String,
    made_by: &'a str,
    made_at: failover::Timestamp,
    key: &'a str,
    records: usize,
    head: orchestrator::audit::Head,
    deviations: &'a [String],
    /// What a probe writer says beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_verified: Option<witness::Witness>,
}

pub fn run(globals: &Globals, arguments: &Verify) -> Result<u8, Failure> {
    let named = arguments.file.display();
    let unreadable = |error: std::io::Error| Failure::config(format!("{named}: {error}"), "");
    let refuse = |reason: String| {
        Failure::new(
            wire::exit::FAILED,
            format!("{named}: {reason}"),
            "ask for it again: `baton report ID --format json`, and compare",
        )
    };
    let mut text = String::new();
    // A page holds its bundle with every quotation mark spelt out.
    let most = BUNDLE_BYTES as u64 * 8;
    let file = File::open(&arguments.file).map_err(unreadable)?;
    let read = file.take(most).read_to_string(&mut text);
    read.map_err(|error| refuse(format!("it cannot be read: {error}")))?;
    let page = text.starts_with("<!DOCTYPE html>");
    let (bundle, witness) = if page {
        let none = || refuse("there is no bundle in this page".into());
        (html::bundle_of(&text).ok_or_else(none)?, html::witness_of(&text))
    } else {
        let (bundle, witness) = witness::split(&text);
        (bundle.to_owned(), witness.map(str::to_owned))
    };
    if evidence::drill::is_of_drill(&bundle) {
        return of_drill(globals, arguments, &bundle, page.then_some(&text));
    }
    let verified = evidence::verify(&bundle).map_err(refuse)?;
    let told = &verified.evidence;
    if page && html::page(&bundle, &verified, witness.as_deref()) != text {
        return Err(refuse(other_page()));
    }
    let witness = witness.map(|line| witness::read(&line, told.transition.id));
    let witness = witness.transpose().map_err(refuse)?;
    if let Some(key) = arguments.key.as_ref().filter(|key| **key != verified.key) {
        return Err(refuse(format!("it is signed with {}, and not with {key}", verified.key)));
    }
    let record = &told.transition;
    let said = said(&named.to_string(), arguments, &verified, witness.as_ref());
    let stands = Stands {
        cluster: &told.cluster,
        transition: record.id.0,
        service: record.service.to_string(),
        made_by: &told.made_by,
        made_at: told.made_at,
        key: &verified.key,
        records: told.audit.lines.len(),
        head: told.audit.head,
        deviations: &told.deviations,
        not_verified: witness,
    };
    print(globals.output, &stands, &said)?;
    Ok(wire::exit::OK)
}

/// What stands, in words.
fn said(
    named: &str,
    arguments: &Verify,
    verified: &evidence::Verified,
    witness: Option<&witness::Witness>,
) -> String {
    let told = &verified.evidence;
    let record = &told.transition;
    let (outcome, _) = words::outcome(&record.outcome);
    let mut said = format!(
        "{named}: stands\ntransition {} of {} in cluster {}: {outcome}\nmade by voter {} at {}, \
         signed with key {}\n{} audit records, head {}",
        record.id,
        record.service,
        told.cluster,
        told.made_by,
        time(told.made_at),
        verified.key,
        told.audit.lines.len(),
        told.audit.head,
    );
    for deviation in &told.deviations {
        let _ = write!(said, "\ndeviation: {deviation}");
    }
    if arguments.key.is_none() {
        said.push_str(KEY_ON_RECORD);
    }
    if let Some(witness) = witness {
        let _ = write!(said, "\nbeside it, NOT verified: {}", witness::WHOSE);
        for line in witness::lines(witness) {
            let _ = write!(said, "\n  {line}");
        }
    }
    said
}

fn other_page() -> String {
    format!(
        "the page does not say what the bundle in it says: it was changed, or another version \
         than {} made it",
        env!("CARGO_PKG_VERSION")
    )
}

/// What stands of a drill.
#[derive(Serialize)]
struct DrillStands<'a> {
    cluster: &'a str,
    drill: u64,
    service: String,
    outcome: &'a failover::drill::Outcome,
    transitions: Vec<u64>,
    made_by: &'a str,
    made_at: failover::Timestamp,
    key: &'a str,
    records: usize,
    head: orchestrator::audit::Head,
    deviations: &'a [String],
}

fn of_drill(
    globals: &Globals,
    arguments: &Verify,
    bundle: &str,
    page: Option<&String>,
) -> Result<u8, Failure> {
    let named = arguments.file.display();
    let refuse = |reason: String| {
        let remedy = "ask for it again: `baton drill report ID --format json`, and compare";
        Failure::new(wire::exit::FAILED, format!("{named}: {reason}"), remedy)
    };
    let verified = evidence::drill::verify(bundle).map_err(refuse)?;
    if page.is_some_and(|page| crate::drill::html::page(bundle, &verified) != *page) {
        return Err(refuse(other_page()));
    }
    if let Some(key) = arguments.key.as_ref().filter(|key| **key != verified.key) {
        return Err(refuse(format!("it is signed with {}, and not with {key}", verified.key)));
    }
    let told = &verified.evidence;
    let drill = &told.drill;
    let mut said = format!(
        "{named}: stands\ndrill {} ({}) of {} in cluster {}: {}, {} changes of primary\nmade by \
         voter {} at {}, signed with key {}\n{} audit records, head {}",
        drill.id,
        drill.kind.name(),
        drill.service,
        told.cluster,
        drill.outcome.told(),
        told.transitions.len(),
        told.made_by,
        time(told.made_at),
        verified.key,
        told.audit.lines.len(),
        told.audit.head,
    );
    for deviation in &told.deviations {
        let _ = write!(said, "\ndeviation: {deviation}");
    }
    if arguments.key.is_none() {
        said.push_str(KEY_ON_RECORD);
    }
    let stands = DrillStands {
        cluster: &told.cluster,
        drill: drill.id.0,
        service: drill.service.to_string(),
        outcome: &drill.outcome,
        transitions: told.transitions.iter().map(|record| record.id.0).collect(),
        made_by: &told.made_by,
        made_at: told.made_at,
        key: &verified.key,
        records: told.audit.lines.len(),
        head: told.audit.head,
        deviations: &told.deviations,
    };
    print(globals.output, &stands, &said)?;
    Ok(wire::exit::OK)
}
