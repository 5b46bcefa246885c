//! `baton`: the operator's command line. One file a verb.
//!
//! Answers go to standard output, remarks and errors to standard error; `-o json` makes both JSON.
//! Every end has a documented exit status.

mod accept_loss;
mod alerts;
mod apply;
mod approve;
mod audit;
mod client;
mod dns;
mod doctor;
mod drill;
mod explain;
mod follow;
mod history;
mod hold;
mod incident;
mod init;
mod manual;
mod probe;
mod readiness;
mod report;
mod screen;
mod settings;
mod sla;
mod status;
mod switchover;
mod verbs;
mod verify;
mod voters;
mod watch;
mod what_if;

use std::process::ExitCode;

use clap::Parser;
use orchestrator::words;

use crate::client::Failure;
use crate::screen::Output;
use crate::verbs::{Cli, Verb};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("baton: the runtime cannot start: {error}");
                return ExitCode::from(wire::exit::FAILED);
            }
        };
    let output = cli.globals.output;
    let ended = runtime.block_on(run(cli));
    // Whatever still runs in the background has nothing to say any more.
    runtime.shutdown_background();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            complain(&failure, output);
            ExitCode::from(failure.code)
        }
    }
}

fn complain(failure: &Failure, output: Output) {
    match output {
        Output::Json => {
            let text = serde_json::to_string(&failure.problem)
                .unwrap_or_else(|_| failure.problem.error.clone());
            eprintln!("{text}");
        }
        Output::Text => eprint!("{failure}"),
    }
}

async fn run(cli: Cli) -> Result<u8, Failure> {
    let globals = cli.globals;
    match cli.verb {
        Verb::Init(arguments) => init::run(&globals, &arguments),
        Verb::Plan(arguments) => apply::plan(&globals, &arguments).await,
        Verb::Apply(arguments) => apply::apply(&globals, &arguments).await,
        Verb::Status(arguments) => status::run(&globals, &arguments).await,
        Verb::Watch(arguments) => watch::run(&globals, &arguments).await,
        Verb::Explain(arguments) => explain::run(&globals, &arguments).await,
        Verb::Readiness(arguments) => readiness::run(&globals, &arguments).await,
        Verb::WhatIf(arguments) => what_if::run(&globals, arguments).await,
        Verb::Switchover(arguments) => switchover::switchover(&globals, arguments).await,
        Verb::Failover(arguments) => switchover::failover(&globals, arguments).await,
        Verb::Drill(arguments) => drill::run(&globals, arguments).await,
        Verb::Hold(arguments) => hold::hold(&globals, arguments).await,
        Verb::Resume(arguments) => hold::resume(&globals, arguments).await,
        Verb::Forgo(arguments) => hold::forgo(&globals, arguments).await,
        Verb::Approve(arguments) => approve::run(&globals, arguments).await,
        Verb::History(arguments) => history::run(&globals, &arguments).await,
        Verb::Report(arguments) => report::run(&globals, &arguments).await,
        Verb::Incident(arguments) => incident::run(&globals, &arguments).await,
        Verb::Verify(arguments) => verify::run(&globals, &arguments),
        Verb::Audit(arguments) => audit::run(&globals, arguments).await,
        Verb::Alerts(arguments) => alerts::run(&globals, arguments).await,
        Verb::Ack(arguments) => alerts::ack(&globals, arguments).await,
        Verb::Voters(arguments) => voters::run(&globals, arguments).await,
        Verb::Dns(arguments) => dns::run(&globals, &arguments).await,
        Verb::Doctor => doctor::run(&globals).await,
        Verb::Probe(arguments) => probe::run(&globals, arguments).await,
        Verb::Sla(arguments) => sla::run(&globals, &arguments).await,
        Verb::Completions(arguments) => manual::completions(&arguments),
        Verb::Man(arguments) => manual::man(&arguments),
        Verb::ExitCodes => {
            println!("{}", verbs::EXIT_CODES);
            Ok(wire::exit::OK)
        }
    }
}
