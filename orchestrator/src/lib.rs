//! The orchestrator: one voter a site, together a Raft group that decides which instance of each
//! service is the primary.
//!
//! `replica` is the whole of its behaviour as a value: Raft, the replicated state and the evidence
//! behind one `step`. It reads no clock, opens no file and no socket. `storage`, `peers`, `api` and
//! `observe` are its hands, `run` the one loop between them. `answers` is what operators are told,
//! `overview` and `page` how they see it.

pub mod admission;
pub mod alerts;
pub mod answers;
pub mod api;
pub mod ask;
pub mod audit;
pub mod calendar;
pub mod codes;
pub mod config;
pub mod door;
pub mod evidence;
pub mod feed;
pub mod init;
pub mod log;
pub mod message;
pub mod monitoring;
pub mod observe;
mod outside;
pub mod overview;
pub mod page;
pub mod peers;
pub mod plan;
pub mod probe;
pub mod projection;
pub mod raft_log;
pub mod remarks;
pub mod replica;
pub mod routes;
pub mod run;
pub mod sla;
pub mod storage;
pub mod tally;
pub mod topology;
pub mod traces;
pub mod words;
