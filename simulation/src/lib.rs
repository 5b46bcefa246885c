//! The simulated world: whole clusters in one process, virtual time, faults by seed.
//!
//! Voters are the real `orchestrator::replica`, decisions the real law, agents comply with the real
//! `comply`, name servers accept by the real rule. Modelled are the network, clocks, disks and
//! PostgreSQL with its holes. The oracle shares no code with any of them.

pub mod clock;
pub mod coverage;
pub mod dice;
mod disaster;
pub mod host;
pub mod hosts;
pub mod network;
pub mod oracle;
pub mod play;
pub mod presets;
mod queue;
pub mod seed;
pub mod shrink;
pub mod swarm;
pub mod sweep;
mod voter;
pub mod world;
