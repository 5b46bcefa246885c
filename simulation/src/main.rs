//! `baton-sim`: plays the catalogue, random disasters and sweeps in the simulated world.
//!
//! Nothing is written but what a verb says it writes, and that at once and whole: whatever runs
//! can be stopped with Ctrl-C at any time.

mod cli;

use std::process::ExitCode;

/// Worlds are made of small things that come and go.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
