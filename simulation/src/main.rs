//! `baton-sim`: plays the catalogue, random disasters and sweeps in the simulated world.
//!
//! Nothing is written but what a verb says it writes, and that at once and whole: whatever runs
//! can be stopped with Ctrl-C at any time.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
