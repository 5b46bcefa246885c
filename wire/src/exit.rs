//! Exit statuses of every program of baton: scripts and unit files may rely on them.

/// Done as asked.
pub const OK: u8 = 0;
/// Something failed; the message says what.
pub const FAILED: u8 = 1;
/// The command line was wrong (as clap has it).
pub const USAGE: u8 = 2;
/// The configuration was wrong; the message names file, line and key.
pub const CONFIG: u8 = 2;
/// No voter could be reached.
pub const UNREACHABLE: u8 = 3;
/// The orchestrator refused, and said why.
pub const REFUSED: u8 = 4;
/// The request was sent and its outcome is not known.
pub const IN_DOUBT: u8 = 5;
/// What was asked cannot be answered now: evidence is missing or stale.
pub const UNKNOWN: u8 = 6;
/// What was asked was answered, and an objective was not kept.
pub const MISSED: u8 = 7;
