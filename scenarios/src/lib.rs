//! The lab: a whole baton cluster on one machine, measured while it fails.
//!
//! Real processes, real PostgreSQL, real TLS and real DNS packets; only the distance between the
//! sites is missing. The lab drives the shipped binaries and reads what any operator could read:
//! answers of `baton`, DNS, the probe writer's journal. It shares with the product its vocabulary
//! (crate `failover`) and its clock, and no code that decides anything, so that what it measures
//! is not what it wishes.
//!
//! Deliberately absent: knowledge of how the daemons work inside. A daemon is a process with a
//! folder; a site is all processes that carry the site's mark.

pub mod lab;
pub mod live;
pub mod mutants;
pub mod script;
