//! `baton init`: writes a ready folder.

use orchestrator::init::{self, InitError, Mode, PersonName, Plan, Written};
use orchestrator::topology;
use serde::Serialize;

use crate::client::Failure;
use crate::screen::print;
use crate::verbs::{Globals, Init};

#[derive(Serialize)]
struct Answer<'a> {
    folder: &'a std::path::Path,
    new: &'a [std::path::PathBuf],
    kept: &'a [std::path::PathBuf],
    differing: &'a [std::path::PathBuf],
}

pub fn run(globals: &Globals, arguments: &Init) -> Result<u8, Failure> {
    let wrong = |error: topology::TopologyError| Failure::config(error.to_string(), "");
    let declared = topology::read(&arguments.topology).map_err(wrong)?;
    let source = std::fs::read_to_string(&arguments.topology)
        .map_err(|error| Failure::config(error.to_string(), ""))?;
    let plan = Plan {
        declared: &declared,
        source: &source,
        folder: &arguments.out,
        mode: if arguments.update { Mode::Update } else { Mode::New },
        operator: &arguments.operator,
        people: &arguments.person,
        totp: &arguments.totp,
        home: &arguments.home,
        programs: &arguments.programs,
    };
    let written = init::init(&plan).map_err(|error| match error {
        InitError::NotEmpty(_) => Failure::config(error.to_string(), ""),
        InitError::Authority { .. }
        | InitError::Certificate(_)
        | InitError::Totp(_)
        | InitError::Io { .. } => Failure::failed(error.to_string()),
    })?;
    let answer = Answer {
        folder: &arguments.out,
        new: &written.new,
        kept: &written.kept,
        differing: &written.differing,
    };
    print(globals.output, &answer, &text(arguments, &declared, &written))?;
    Ok(wire::exit::OK)
}

fn text(arguments: &Init, declared: &topology::Declared, written: &Written) -> String {
    let out = arguments.out.display();
    let mut lines =
        vec![format!("{out}: {} files written, {} kept", written.new.len(), written.kept.len())];
    for path in &written.differing {
        lines.push(format!(
            "  {0}: kept; what the topology gives now is beside it: {0}.new",
            path.display()
        ));
    }
    lines.push(format!("\nNext, for each site (files in {out}/SITE, for its machines only):"));
    for site in declared.topology.sites.keys() {
        lines.push(format!("  scp -r {out}/{site}/. root@{site}:{}/", arguments.home.display()));
    }
    lines.push(format!(
        "  on each machine: install the unit files of {}/systemd and start them\n\
         then: baton --config {out}/operator/baton.toml apply\n\n\
         Keep {out}/ca off the machines: it signs for the whole cluster.",
        arguments.home.display()
    ));
    for PersonName(person) in &arguments.totp {
        lines.push(format!(
            "\nEvery voter needs {person}'s secret, in SITE/orchestrator/secrets.\n\
             Have {person} scan it, then delete it: qrencode -t ansiutf8 < {out}/totp/{person}"
        ));
    }
    lines.join("\n")
}
