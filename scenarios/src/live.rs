//! The catalogue on real processes: PostgreSQL, agents, voters and name servers in network
//! namespaces, broken by real means, while clients append and read; afterwards their journal is
//! held against what is left.
//!
//! | what | module |
//! |---|---|
//! | a scenario from its first step to the verdict | [`play`] |
//! | the scene: who plays which part, what was seen so far | [`stage`] |
//! | the verbs | `verbs`, `faults` (packets), `attacks` (PostgreSQL's holes), `operator` |
//! | what is expected | `conditions` |
//! | clients | [`load`], `client`, `resolve`, [`journal`] |
//! | the judge | [`oracle`] |
//! | foreign name servers | [`secondaries`] |
//! | many of them | [`series`] |

mod attacks;
mod client;
mod conditions;
mod database;
mod faults;
pub mod journal;
pub mod load;
mod operator;
pub mod oracle;
pub mod play;
mod resolve;
pub mod secondaries;
pub mod series;
pub mod stage;
mod verbs;
