//! Voters in a small simulated world, on disks that fail, and behind real TLS.

mod approvals;
mod audit;
mod disk;
mod drills;
mod elections;
mod garbage;
mod http;
mod leases;
mod membership;
mod monitoring;
mod on_record;
mod readiness;
mod rights;
mod world;
