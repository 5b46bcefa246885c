//! `baton verify`: a bundle of evidence about a change of primary or a drill, or the page made of
//! one, without any cluster.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;

use failover::cluster::Record;
use failover::ids::{DrillId, ServiceId, TransitionId};
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
pub struct Stands {
    cluster: String,
    #[serde(flatten)]
    about: About,
    made_by: String,
    made_at: failover::Timestamp,
    key: String,
    records: usize,
    head: orchestrator::audit::Head,
    deviations: Vec<String>,
    /// What a probe writer says beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_verified: Option<witness::Witness>,
    /// The page of it.
    #[serde(skip)]
    pub page: String,
}

/// What a bundle is about.
#[derive(Serialize)]
#[serde(untagged)]
enum About {
    Transition {
        transition: TransitionId,
        service: ServiceId,
        #[serde(skip)]
        ended: String,
    },
    Drill {
        drill: DrillId,
        service: ServiceId,
        outcome: failover::drill::Outcome,
        transitions: Vec<TransitionId>,
        #[serde(skip)]
        kind: &'static str,
    },
}

impl About {
    /// In a few words.
    fn name(&self) -> String {
        match self {
            Self::Transition { transition, .. } => format!("transition {transition}"),
            Self::Drill { drill, transitions, .. } => {
                format!("drill {drill}, {} changes of primary", transitions.len())
            }
        }
    }

    fn line(&self, cluster: &str) -> String {
        match self {
            Self::Transition { transition, service, ended } => {
                format!("transition {transition} of {service} in cluster {cluster}: {ended}")
            }
            Self::Drill { drill, service, outcome, transitions, kind } => format!(
                "drill {drill} ({kind}) of {service} in cluster {cluster}: {}, {} changes of \
                 primary",
                outcome.told(),
                transitions.len()
            ),
        }
    }
}

/// Opens a bundle, which must stand.
pub fn opened(bundle: &str, witness: Option<&str>) -> Result<Stands, String> {
    let mut not_verified = None;
    let (about, page, key, (cluster, made_by, made_at), deviations, audit) =
        if evidence::drill::is_of_drill(bundle) {
            let verified = evidence::drill::verify(bundle)?;
            let page = crate::drill::html::page(bundle, &verified);
            let told = verified.evidence;
            let about = About::Drill {
                drill: told.drill.id,
                service: told.drill.service,
                outcome: told.drill.outcome,
                transitions: told.transitions.iter().map(|record| record.id).collect(),
                kind: told.drill.kind.name(),
            };
            let made = (told.cluster, told.made_by, told.made_at);
            (about, page, verified.key, made, told.deviations, told.audit)
        } else {
            let verified = evidence::verify(bundle)?;
            let page = html::page(bundle, &verified, witness);
            let told = verified.evidence;
            let Record { id: transition, service, outcome, .. } = told.transition;
            not_verified = witness.map(|line| witness::read(line, transition)).transpose()?;
            let about =
                About::Transition { transition, service, ended: words::outcome(&outcome).0 };
            let made = (told.cluster, told.made_by, told.made_at);
            (about, page, verified.key, made, told.deviations, told.audit)
        };
    Ok(Stands {
        cluster,
        about,
        made_by,
        made_at,
        key,
        records: audit.lines.len(),
        head: audit.head,
        deviations,
        not_verified,
        page,
    })
}

impl Stands {
    /// What was made, by whom, in one line.
    pub fn brief(&self) -> String {
        let Self { about, records, made_by, key, .. } = self;
        let about = about.name();
        format!("{about}, {records} audit records, signed by voter {made_by} with key {key}")
    }

    /// All of it, in words.
    fn said(&self, named: &str, key_is_known: bool) -> String {
        let mut said = format!(
            "{named}: stands\n{}\nmade by voter {} at {}, signed with key {}\n{} audit records, \
             head {}",
            self.about.line(&self.cluster),
            self.made_by,
            time(self.made_at),
            self.key,
            self.records,
            self.head,
        );
        for deviation in &self.deviations {
            let _ = write!(said, "\ndeviation: {deviation}");
        }
        if !key_is_known {
            said.push_str(KEY_ON_RECORD);
        }
        if let Some(witness) = &self.not_verified {
            let _ = write!(said, "\nbeside it, NOT verified: {}", witness::WHOSE);
            for line in witness::lines(witness) {
                let _ = write!(said, "\n  {line}");
            }
        }
        said
    }
}

pub fn run(globals: &Globals, arguments: &Verify) -> Result<u8, Failure> {
    let named = arguments.file.display();
    let unreadable = |error: std::io::Error| Failure::config(format!("{named}: {error}"), "");
    let refuse = |verb: &str, reason: String| {
        let remedy = format!("ask for it again: `baton {verb} ID --format json`, and compare");
        Failure::new(wire::exit::FAILED, format!("{named}: {reason}"), &remedy)
    };
    let mut text = String::new();
    // A page holds its bundle with every quotation mark spelt out.
    let most = BUNDLE_BYTES as u64 * 8;
    let file = File::open(&arguments.file).map_err(unreadable)?;
    let read = file.take(most).read_to_string(&mut text);
    read.map_err(|error| refuse("report", format!("it cannot be read: {error}")))?;
    let page = text.starts_with("<!DOCTYPE html>");
    let (bundle, witness) = if page {
        let none = || refuse("report", "there is no bundle in this page".into());
        (html::bundle_of(&text).ok_or_else(none)?, html::witness_of(&text))
    } else {
        let (bundle, witness) = witness::split(&text);
        (bundle.to_owned(), witness.map(str::to_owned))
    };
    let verb = if evidence::drill::is_of_drill(&bundle) { "drill report" } else { "report" };
    let stands = opened(&bundle, witness.as_deref()).map_err(|reason| refuse(verb, reason))?;
    if page && stands.page != text {
        let error = format!(
            "the page does not say what the bundle in it says: it was changed, or another version \
             than {} made it",
            env!("CARGO_PKG_VERSION")
        );
        return Err(refuse(verb, error));
    }
    if let Some(key) = arguments.key.as_ref().filter(|key| **key != stands.key) {
        let error = format!("it is signed with {}, and not with {key}", stands.key);
        return Err(refuse(verb, error));
    }
    let said = stands.said(&named.to_string(), arguments.key.is_some());
    print(globals.output, &stands, &said)?;
    Ok(wire::exit::OK)
}
