//! The agent: beside one PostgreSQL instance, it makes that instance what it was assigned to be,
//! and says how it stands.
//!
//! It decides nothing of its own: [`failover::comply`] names the single next action from what is
//! known here, [`perform`] carries it out, and every action may be repeated. Two beats run
//! independently ([`run`]): probe, comply, perform works when no orchestrator can be reached, and
//! a primary that nobody vouches for fences itself by that beat alone. What was promised is on
//! disk before it is said ([`pledge`]); PostgreSQL's parent is another, smaller process that
//! outlives the agent ([`guard`]).
//!
//! Deliberately absent: any choice of a primary, any retry that is not the next beat, names that
//! need DNS, and everything about clients except the lines of `pg_hba.conf` that admit them.

pub mod admission;
pub mod bootstrap;
pub mod clone;
pub mod config;
pub mod enforce;
pub mod follow;
pub mod guard;
pub mod history;
pub mod hooks;
pub mod identity;
pub mod instance;
pub mod isolate;
pub mod kept;
pub mod knock;
pub mod layout;
pub mod listen;
pub mod measure;
pub mod monitoring;
pub mod perform;
pub mod pledge;
pub mod postgres;
pub mod probe;
pub mod processes;
pub mod promote;
pub mod prove;
pub mod rehearse;
pub mod reserve;
pub mod rewind;
pub mod run;
pub mod seal;
pub mod senses;
pub mod server_log;
pub mod settings;
pub mod sql;
pub mod start;
pub mod state;
pub mod survey;
pub mod tail;
pub mod tally;
pub mod voters;
pub mod waits;
