//! `baton voters`: who decides.

use failover::Request;
use failover::cluster::Voter;

use crate::approve;
use crate::client::{Cluster, Failure};
use crate::screen::{Mood, age, cell, lines, print, table};
use crate::verbs::{Globals, Voters, VotersVerb};
use crate::words;

pub async fn run(globals: &Globals, arguments: Voters) -> Result<u8, Failure> {
    match arguments.verb {
        None | Some(VotersVerb::List) => list(globals).await,
        Some(VotersVerb::Add { id, name, site, address, reason }) => {
            let site = site.unwrap_or_else(|| name.clone());
            let site = site.parse().map_err(|error: failover::ids::NameError| {
                Failure::config(format!("--site: {error}"), "")
            })?;
            let voter = Voter { name, site, address, incarnation: None };
            let reason = reason.given()?;
            ask(globals, Request::AddVoter { id, voter, reason }).await
        }
        Some(VotersVerb::Remove { id, reason, second }) => {
            let request = Request::RemoveVoter { id, reason: reason.given()? };
            let (_, accepted) = approve::ask(globals, &request, &second).await?;
            print(globals.output, &accepted, &accepted.text)?;
            Ok(wire::exit::OK)
        }
    }
}

async fn ask(globals: &Globals, request: Request) -> Result<u8, Failure> {
    let accepted = Cluster::of(globals)?.request(&request).await?;
    print(globals.output, &accepted, &accepted.text)?;
    Ok(wire::exit::OK)
}

async fn list(globals: &Globals) -> Result<u8, Failure> {
    let status = Cluster::of(globals)?.status().await?;
    let mut rows = table(&["VOTER", "name", "site", "address", "state", "heard", "behind", "disk"]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for voter in &status.voters {
        let (state, mood) = words::voter(voter.state);
        let itself = voter.id == status.answered_by.voter;
        rows.add_row([
            cell(voter.id, Mood::Plain),
            cell(&voter.name, Mood::Plain),
            cell(or_dash(voter.site.as_ref().map(ToString::to_string)), Mood::Plain),
            cell(or_dash(voter.address.map(|address| address.to_string())), Mood::Plain),
            cell(state, mood),
            cell(if itself { "itself".to_owned() } else { age(voter.age_ms) }, Mood::Plain),
            cell(or_dash(voter.lag_entries.map(|lag| format!("{lag} entries"))), Mood::Plain),
            cell(if voter.recorded { "recorded" } else { "not recorded yet" }, Mood::Plain),
        ]);
    }
    print(globals.output, &status.voters, &lines(&rows))?;
    Ok(wire::exit::OK)
}
