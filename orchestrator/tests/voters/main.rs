//! Voters in a small simulated world, on disks that fail, and behind real TLS.

mod alerts;
mod answers;
mod approvals;
mod audit;
mod codes;
mod disk;
mod drills;
mod elections;
mod garbage;
mod http;
mod incident;
mod leases;
mod membership;
mod monitoring;
mod on_record;
mod page;
mod readiness;
mod rights;
mod traces;
mod world;
