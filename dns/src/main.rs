//! `baton-dns`: reads its configuration and serves until it is told to stop.

use anyhow::Context;
use clap::Parser;
use dns::config::Config;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::runtime::Builder;
use wire::{exit, log, shutdown};

/// An authoritative name server that always answers with the current primary.
///
/// Example:  baton-dns --config /etc/baton/dns/dns.toml
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Arguments {
    /// The configuration file; `baton init` writes one.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration and the certificate, and exit: 0 when both are good, else 2.
    #[arg(long)]
    check: bool,
    /// Log JSON, one object a line.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log::init(if arguments.json { log::Format::Json } else { log::Format::Auto });
    let loaded =
        Config::load(&arguments.config).and_then(|config| Ok((config.identity()?, config)));
    let (identity, config) = match loaded {
        Ok(both) => both,
        Err(error) => return fail(&error, exit::CONFIG),
    };
    if arguments.check {
        println!("{}: good", arguments.config.display());
        return ExitCode::from(exit::OK);
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let served = runtime.context("cannot start").and_then(|runtime| {
        runtime.block_on(async { dns::run(config, identity, shutdown::on_signal()).await })
    });
    served.map_or_else(|error| fail(&error, exit::FAILED), |()| ExitCode::from(exit::OK))
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("baton-dns: {error:#}");
    ExitCode::from(code)
}
