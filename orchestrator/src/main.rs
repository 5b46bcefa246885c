//! One voter: `baton-orchestrator --config FILE`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use orchestrator::config::Config;
use orchestrator::run;

/// One voter of the group that decides which instance of each service is the primary.
#[derive(Parser)]
#[command(name = "baton-orchestrator", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "orchestrator.toml")]
    config: PathBuf,
    /// Read the configuration and the certificates, say what is wrong, change nothing.
    #[arg(long)]
    check: bool,
    /// Log one JSON object a line.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    wire::log::init(if arguments.json { wire::log::Format::Json } else { wire::log::Format::Auto });
    let prepared =
        Config::load(&arguments.config).map_err(anyhow::Error::from).and_then(|config| {
            let identity = run::identity(&config)?;
            Ok((config, identity))
        });
    let (config, identity) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            tracing::error!("{error:#}");
            return ExitCode::from(wire::exit::CONFIG);
        }
    };
    if arguments.check {
        println!("{}: good", arguments.config.display());
        return ExitCode::from(wire::exit::OK);
    }
    match run::run(config, identity) {
        Ok(()) => ExitCode::from(wire::exit::OK),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(wire::exit::FAILED)
        }
    }
}
