#![no_std]
//! The law.
extern crate alloc;

mod advance;
pub mod apply;
pub mod assignment;
pub mod calendar;
pub mod candidate;
pub mod checks;
pub mod cluster;
pub mod comply;
pub mod decide;
mod doubt;
pub mod drill;
pub mod event;
pub mod fitness;
pub mod hang;
pub mod ids;
pub mod lease;
pub mod lost;
mod news;
pub mod policy;
pub mod position;
pub mod quorum;
pub mod readiness;
pub mod rehearse;
pub mod report;
pub mod request;
mod seal;
mod steady;
pub mod survey;
pub mod time;
pub mod topology;
pub mod view;
pub mod zone;

pub use apply::apply;
pub use assignment::{Assignment, Role, assignment};
pub use cluster::Cluster;
pub use comply::{Action, Local, comply};
pub use decide::{Finding, Verdict, decide, decide_one};
pub use event::Event;
pub use ids::*;
pub use report::{Answer, Report};
pub use request::{Request, Ruling, rule_on};
pub use time::{Moment, Timestamp};
pub use view::View;
pub use zone::{Zone, zone};
