//! `baton history`: the log in words.

use std::fmt::Write as _;

use orchestrator::answers::History as Answer;

use crate::client::{Cluster, Failure};
use crate::screen::{Mood, cell, lines, print, table, time};
use crate::verbs::{Globals, History};

pub async fn run(globals: &Globals, arguments: &History) -> Result<u8, Failure> {
    let mut path = format!("/v1/history?limit={}", arguments.limit);
    if let Some(service) = &arguments.service {
        let _ = write!(path, "&service={service}");
    }
    let answer: Answer = Cluster::of(globals)?.get(&path).await?;
    let mut rows = table(&["WHEN", "revision", "service", "epoch", "by", "what"]);
    for entry in &answer.entries {
        let service = entry.service.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        rows.add_row([
            cell(time(entry.at), Mood::Plain),
            cell(entry.revision, Mood::Plain),
            cell(service, Mood::Plain),
            cell(entry.epoch, Mood::Plain),
            cell(&entry.by, Mood::Plain),
            cell(&entry.text, Mood::Plain),
        ]);
    }
    print(globals.output, &answer, &lines(&rows))?;
    Ok(wire::exit::OK)
}
