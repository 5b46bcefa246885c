//! `baton audit`: the record of all that was done, asked and refused, and whether it stands.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use failover::Event;
use failover::ids::VoterId;
use failover::time::Timestamp;
use orchestrator::answers::AuditPage;
use orchestrator::audit::{self, Head, Verified};
use serde::Serialize;
use wire::http::{Client, HttpError};

use crate::client::{Cluster, Failure};
use crate::screen::{Mood, cell, lines, print, remark, table, time};
use crate::verbs::{Audit, AuditExport, AuditList, AuditVerb, AuditVerify, Globals};

pub async fn run(globals: &Globals, arguments: Audit) -> Result<u8, Failure> {
    match arguments.verb {
        AuditVerb::List(arguments) => list(globals, &arguments).await,
        AuditVerb::Export(arguments) => export(globals, &arguments).await,
        AuditVerb::Verify(AuditVerify { file: Some(file), head }) => {
            verify_file(globals, &file, head.as_ref())
        }
        AuditVerb::Verify(AuditVerify { file: None, .. }) => verify_voters(globals).await,
    }
}

/// One voter's record.
pub struct Source<'a> {
    cluster: &'a Cluster,
    client: &'a Client,
    name: String,
    /// Its end when it was first asked.
    head: Head,
    is_whole: bool,
}

async fn page(cluster: &Cluster, client: &Client, from: u64) -> Result<AuditPage, HttpError> {
    client.get(&format!("/v1/audit?from={from}"), cluster.timeout()).await
}

impl<'a> Source<'a> {
    async fn open(cluster: &'a Cluster, client: &'a Client) -> Result<Self, HttpError> {
        // Beyond every end: only the end itself is answered.
        let page = page(cluster, client, u64::MAX).await?;
        Ok(Self {
            cluster,
            client,
            name: page.answered_by.name,
            head: page.head,
            is_whole: !page.hole.is_open(),
        })
    }

    /// Reads from record `from` to the end, each line held against the one before it.
    pub async fn read(
        &self,
        from: u64,
        mut line: impl FnMut(&Head, String) -> Result<(), Failure>,
    ) -> Result<Verified, Failure> {
        let mut verified: Option<Verified> = None;
        let mut next = from.max(1);
        while next <= self.head.number {
            let page = page(self.cluster, self.client, next).await;
            let page = page.map_err(|error| self.broken(next, &error.to_string()))?;
            if page.lines.is_empty() {
                return Err(self.broken(next, "it lacks this record"));
            }
            for text in page.lines {
                if next > self.head.number {
                    break;
                }
                let so_far = match verified {
                    Some(verified) => verified,
                    None => begins(&text, next).map_err(|reason| self.broken(next, &reason))?,
                };
                let head = audit::follow(&so_far.head, &text);
                let head = head.map_err(|reason| self.broken(next, &reason))?;
                line(&head, text)?;
                verified = Some(Verified { records: so_far.records + 1, head, ..so_far });
                next += 1;
            }
        }
        let verified =
            verified.unwrap_or(Verified { records: 0, after: self.head, head: self.head });
        if verified.head != self.head {
            return Err(self.broken(verified.head.number, "it does not end as the voter says"));
        }
        Ok(verified)
    }

    fn broken(&self, number: u64, reason: &str) -> Failure {
        Failure::failed(format!("voter {}: record {number}: {reason}", self.name))
    }
}

/// Where a reading begins that begins with this line.
fn begins(text: &str, number: u64) -> Result<Verified, String> {
    let after = Head { number: number - 1, hash: audit::read(text)?.previous };
    if number == 1 && after != Head::default() {
        return Err("the first record stands after nothing".into());
    }
    Ok(Verified { records: 0, after, head: after })
}

/// The voter whose record is whole and longest.
pub async fn best(cluster: &Cluster) -> Result<Source<'_>, Failure> {
    let mut best: Option<Source<'_>> = None;
    let mut errors = Vec::new();
    for client in cluster.clients() {
        match Source::open(cluster, client).await {
            Ok(source) => {
                let standing = |source: &Source<'_>| (source.is_whole, source.head.number);
                if best.as_ref().is_none_or(|best| standing(&source) > standing(best)) {
                    best = Some(source);
                }
            }
            Err(error) => errors.push(format!("{}: {error}", client.address())),
        }
    }
    best.ok_or_else(|| {
        Failure::new(
            wire::exit::UNREACHABLE,
            format!("no voter answers; {}", errors.join(", ")),
            "see that the orchestrators run and that this machine may connect to them",
        )
    })
}

/// One record as it is listed.
#[derive(Serialize)]
pub struct Listed {
    pub number: u64,
    pub at: Timestamp,
    /// Who proposed it.
    #[serde(skip)]
    pub voter: VoterId,
    kind: &'static str,
    pub by: String,
    service: Option<String>,
    effect: bool,
    pub text: String,
    /// The record itself.
    record: audit::Record,
}

impl Listed {
    pub fn of(text: &str) -> Result<Self, String> {
        let record = audit::read(text)?;
        let of_later = |error| format!("record {} is of a later version: {error}", record.number);
        let event: Event = serde_json::from_value(record.event.clone()).map_err(of_later)?;
        Ok(Self {
            number: record.number,
            at: event.stamp.at,
            voter: event.stamp.voter,
            kind: audit::kind(&event),
            by: event.by.clone(),
            service: audit::about(&event).map(ToString::to_string),
            effect: record.effect || audit::is_note(&event),
            text: audit::what(&event),
            record,
        })
    }

    fn is_wanted(&self, arguments: &AuditList) -> bool {
        let wanted = arguments.service.as_ref().map(ToString::to_string);
        arguments.kind.is_none_or(|kind| kind.as_str() == self.kind)
            && arguments.by.as_ref().is_none_or(|by| *by == self.by)
            && (wanted.is_none() || wanted == self.service)
    }
}

/// Every record from a time on, oldest first, as its own line and as it is listed.
pub async fn since(cluster: &Cluster, since: Timestamp) -> Result<Vec<(String, Listed)>, Failure> {
    let mut source = best(cluster).await?;
    let end = source.head;
    let mut found: VecDeque<(String, Listed)> = VecDeque::new();
    while source.head.number > 0 {
        let from = source.head.number.saturating_sub(WINDOW - 1).max(1);
        let mut some = Vec::new();
        let read = source.read(from, |head, text| {
            let listed = Listed::of(&text);
            let listed = listed.map_err(|reason| source.broken(head.number, &reason))?;
            some.push((text, listed));
            Ok(())
        });
        let after = read.await?.after;
        let before = some.first().is_some_and(|(_, first)| first.at < since);
        for one in some.into_iter().rev().filter(|(_, listed)| listed.at >= since) {
            found.push_front(one);
        }
        if before {
            break;
        }
        source.head = after;
    }
    tracing::debug!("{} records up to {end}", found.len());
    Ok(found.into())
}

/// How many records are looked through at a time, from the end.
const WINDOW: u64 = 1_000;

async fn list(globals: &Globals, arguments: &AuditList) -> Result<u8, Failure> {
    let cluster = Cluster::of(globals)?;
    let mut source = best(&cluster).await?;
    let end = source.head;
    let mut found: VecDeque<Listed> = VecDeque::new();
    while found.len() < arguments.limit && source.head.number > 0 {
        let from = source.head.number.saturating_sub(WINDOW - 1).max(1);
        let mut some = Vec::new();
        let read = source.read(from, |head, text| {
            let listed = Listed::of(&text);
            let listed = listed.map_err(|reason| source.broken(head.number, &reason))?;
            if listed.is_wanted(arguments) {
                some.push(listed);
            }
            Ok(())
        });
        let after = read.await?.after;
        for listed in some.into_iter().rev() {
            if found.len() < arguments.limit {
                found.push_front(listed);
            }
        }
        source.head = after;
    }
    let mut rows = table(&["RECORD", "when", "kind", "by", "service", "what"]);
    for one in &found {
        let mood = if one.kind == "refusal" || !one.effect { Mood::Odd } else { Mood::Plain };
        let text = if one.effect { one.text.clone() } else { format!("{} (no effect)", one.text) };
        rows.add_row([
            cell(one.number, Mood::Plain),
            cell(time(one.at), Mood::Plain),
            cell(one.kind, mood),
            cell(&one.by, Mood::Plain),
            cell(one.service.as_deref().unwrap_or("-"), Mood::Plain),
            cell(text, mood),
        ]);
    }
    let text = format!("{}\nvoter {}, head {end}", lines(&rows), source.name);
    print(globals.output, &found, &text)?;
    Ok(wire::exit::OK)
}

/// What an export says of itself.
#[derive(Serialize)]
struct Exported<'a> {
    voter: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
    #[serde(flatten)]
    verified: Verified,
}

async fn export(globals: &Globals, arguments: &AuditExport) -> Result<u8, Failure> {
    let cluster = Cluster::of(globals)?;
    let source = best(&cluster).await?;
    let partial = arguments.out.as_ref().map(|out| {
        let mut name = out.as_os_str().to_owned();
        name.push(".partial");
        PathBuf::from(name)
    });
    let named = |error: std::io::Error| {
        let name =
            partial.as_ref().map_or_else(|| "standard output".into(), |p| p.display().to_string());
        Failure::failed(format!("{name}: {error}"))
    };
    let mut file: Box<dyn Write + Send> = match &partial {
        Some(partial) => Box::new(BufWriter::new(File::create(partial).map_err(named)?)),
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    let read = source.read(arguments.from, |_, text| writeln!(file, "{text}").map_err(named));
    let read = read.await.and_then(|verified| {
        writeln!(file, "{}", audit::end_of(&verified.head)).map_err(named)?;
        file.flush().map_err(named)?;
        Ok(verified)
    });
    drop(file);
    if let (Err(_), Some(partial)) = (&read, &partial) {
        // What is not whole is not left lying about; why it is not is said below.
        let _gone_or_not = std::fs::remove_file(partial);
    }
    let verified = read?;
    if let (Some(partial), Some(out)) = (&partial, &arguments.out) {
        let settled = File::open(partial).and_then(|file| file.sync_all());
        settled.and_then(|()| std::fs::rename(partial, out)).map_err(named)?;
    }
    let said =
        format!("{} records of voter {}, head {}", verified.records, source.name, verified.head);
    match &arguments.out {
        Some(out) => {
            let exported = Exported { voter: &source.name, file: Some(out), verified };
            print(globals.output, &exported, &format!("{}: {said}", out.display()))?;
        }
        None => remark(globals.output, &said),
    }
    Ok(wire::exit::OK)
}

fn verify_file(globals: &Globals, path: &Path, head: Option<&Head>) -> Result<u8, Failure> {
    let named = path.display();
    let file =
        File::open(path).map_err(|error| Failure::config(format!("{named}: {error}"), ""))?;
    let verified = audit::verify(BufReader::new(file), head).map_err(|broken| {
        Failure::new(
            wire::exit::FAILED,
            format!("{named}: {broken}"),
            "what stands before that line is as it was written; export again and compare",
        )
    })?;
    let mut text = format!("{named}: {} records stand, head {}", verified.records, verified.head);
    if verified.after.number > 0 {
        let after = verified.after;
        let _ = write!(text, "\nit begins after record {after}: what came before is not in it");
    }
    if head.is_none() {
        text.push_str(
            "\nthat nothing came later is for a voter to say: compare with `baton audit verify`",
        );
    }
    print(globals.output, &verified, &text)?;
    Ok(wire::exit::OK)
}

/// What is found at one voter.
#[derive(Serialize)]
struct Found {
    voter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<Head>,
    records: u64,
    /// Why it does not stand; nothing: it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    wrong: Option<String>,
}

async fn verify_voters(globals: &Globals) -> Result<u8, Failure> {
    let cluster = Cluster::of(globals)?;
    let mut found = Vec::new();
    let mut sources = Vec::new();
    for client in cluster.clients() {
        match Source::open(&cluster, client).await {
            Ok(source) => sources.push(source),
            Err(error) => found.push(Found {
                voter: client.address().to_string(),
                head: None,
                records: 0,
                wrong: Some(format!("not reached: {error}")),
            }),
        }
    }
    if sources.is_empty() {
        best(&cluster).await?;
    }
    // Those that are a little behind are compared where the shortest ends.
    let shared = sources.iter().map(|source| source.head.number).min().unwrap_or_default();
    let mut there: Option<(String, Head)> = None;
    for source in &sources {
        let mut here = Head::default();
        let read = source.read(1, |head, _| {
            if head.number == shared {
                here = *head;
            }
            Ok(())
        });
        let read = read.await;
        let (records, mut wrong) = match read {
            Ok(verified) => (verified.records, None),
            Err(failure) => (0, Some(failure.problem.error)),
        };
        if wrong.is_none() {
            let (name, known) = there.get_or_insert_with(|| (source.name.clone(), here));
            if *known != here {
                wrong = Some(format!("record {here} is not what voter {name} has: {known}"));
            }
        }
        found.push(Found { voter: source.name.clone(), head: Some(source.head), records, wrong });
    }
    let mut rows = table(&["VOTER", "records", "head", "verdict"]);
    for one in &found {
        let mood = if one.wrong.is_none() { Mood::Good } else { Mood::Bad };
        rows.add_row([
            cell(&one.voter, Mood::Plain),
            cell(one.records, Mood::Plain),
            cell(one.head.map_or_else(|| "-".to_owned(), |head| head.to_string()), Mood::Plain),
            cell(one.wrong.as_deref().unwrap_or("stands"), mood),
        ]);
    }
    print(globals.output, &found, &lines(&rows))?;
    let all = found.iter().all(|one| one.wrong.is_none());
    Ok(if all { wire::exit::OK } else { wire::exit::FAILED })
}
