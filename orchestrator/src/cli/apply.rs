//! `baton plan` and `baton apply`: the topology file against the cluster.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::Path;

use failover::Request;
use failover::topology::Topology;
use orchestrator::answers::{DeclaredTopology, Status};
use orchestrator::topology::{Declared, Difference, diff};
use serde::Serialize;
use serde_json::Value;

use crate::approve;
use crate::client::{Cluster, Failure};
use crate::screen::{Mood, Output, ask, print, remark, tinted};
use crate::settings::Settings;
use crate::verbs::{Apply, Globals, Plan};

#[derive(Serialize)]
struct Answer<'a> {
    version: u64,
    differences: &'a [Difference],
    remarks: &'a [String],
    applied: bool,
}

/// A file compared with the cluster.
struct Compared {
    cluster: Cluster,
    wanted: Topology,
    version: u64,
    differences: Vec<Difference>,
    remarks: Vec<String>,
}

pub async fn plan(globals: &Globals, arguments: &Plan) -> Result<u8, Failure> {
    let compared = compare(globals, arguments.topology.as_deref()).await?;
    show(globals.output, &compared, false)?;
    Ok(wire::exit::OK)
}

pub async fn apply(globals: &Globals, arguments: &Apply) -> Result<u8, Failure> {
    let compared = compare(globals, arguments.topology.as_deref()).await?;
    if compared.differences.is_empty() {
        show(globals.output, &compared, false)?;
        return Ok(wire::exit::OK);
    }
    if !arguments.yes {
        eprint!("{}", text(&compared));
    }
    let reason = arguments.reason.clone().given()?;
    if !arguments.yes {
        confirm()?;
    }
    let request = Request::Apply {
        expected: compared.version,
        topology: Box::new(compared.wanted.clone()),
        reason,
    };
    let accepted = compared.cluster.request(&request).await?;
    let cluster = &compared.cluster;
    let accepted = approve::settled(globals, cluster, accepted, &arguments.second).await?;
    if arguments.yes || globals.output == Output::Json {
        show(globals.output, &compared, true)?;
    }
    remark(globals.output, &format!("applied: {}", accepted.text));
    Ok(wire::exit::OK)
}

async fn compare(globals: &Globals, file: Option<&Path>) -> Result<Compared, Failure> {
    let settings = Settings::load(globals)?;
    let declared = settings.topology(file)?;
    let cluster = Cluster::open(&settings, globals)?;
    if declared.topology.cluster != settings.cluster {
        return Err(Failure::config(
            format!(
                "the topology is of the cluster `{}`, the configuration of `{}`",
                declared.topology.cluster, settings.cluster
            ),
            "give the topology of this cluster, or another --config",
        ));
    }
    let now: DeclaredTopology = cluster.get("/v1/topology").await?;
    let status = cluster.status().await?;
    let differences = diff(&now.topology, &declared.topology);
    let remarks = voter_remarks(&declared, &status);
    let (version, wanted) = (now.version, declared.topology);
    Ok(Compared { cluster, wanted, version, differences, remarks })
}

/// Voters are not part of the topology: they change one at a time, by their own verb.
fn voter_remarks(declared: &Declared, status: &Status) -> Vec<String> {
    let mut remarks = Vec::new();
    for voter in declared.voters.values() {
        if !status.voters.iter().any(|known| known.address == Some(voter.address)) {
            remarks.push(format!(
                "voter `{}` at {} is not in the group: see `baton help voters add`",
                voter.name, voter.address
            ));
        }
    }
    for known in &status.voters {
        let address = known.address;
        if !declared.voters.values().any(|voter| Some(voter.address) == address) {
            remarks.push(format!(
                "voter {} `{}` is not in the file: `baton voters remove {}` takes it out",
                known.id, known.name, known.id
            ));
        }
    }
    remarks
}

fn show(output: Output, compared: &Compared, applied: bool) -> Result<(), Failure> {
    let answer = Answer {
        version: compared.version,
        differences: &compared.differences,
        remarks: &compared.remarks,
        applied,
    };
    print(output, &answer, &text(compared))
}

fn text(compared: &Compared) -> String {
    let mut text = String::new();
    if compared.differences.is_empty() {
        let _ = writeln!(text, "no changes (the cluster has version {})", compared.version);
    } else {
        let _ = writeln!(text, "changes to version {} of the topology:", compared.version);
    }
    for Difference { key, now, then } in &compared.differences {
        if now.is_none() && then.as_ref().is_some_and(is_empty) {
            continue;
        }
        let line = match (now, then) {
            (None, Some(then)) => tinted(&format!("  + {key} = {}", value(then)), Mood::Good),
            (Some(now), None) => tinted(&format!("  - {key} = {}", value(now)), Mood::Bad),
            (Some(now), Some(then)) => {
                let line = format!("  ~ {key}: {} -> {}", value(now), value(then));
                tinted(&line, Mood::Odd)
            }
            (None, None) => continue,
        };
        let _ = writeln!(text, "{line}");
    }
    for remark in &compared.remarks {
        let _ = writeln!(text, "note: {remark}");
    }
    text
}

/// A new key that says nothing is not worth a line.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn confirm() -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::config(
            "nobody is there to ask: nothing was changed",
            "say --yes to apply without a question",
        ));
    }
    match ask("Apply? [y/N]") {
        Ok(said) if matches!(said.trim(), "y" | "Y" | "yes") => Ok(()),
        Ok(_) | Err(_) => {
            Err(Failure::new(wire::exit::FAILED, "not applied: nothing was changed", ""))
        }
    }
}
