//! The probe writer: a client that measures what clients feel.
//!
//! It writes numbered rows through the service's name and notes outside the database what it was
//! told of each. After any event the journal, held against the table, says how long nothing could
//! be written and whether anything acknowledged is missing. It knows nothing of the orchestrator:
//! only the name servers, and the address they give.

mod folder;
mod journal;
mod reconcile;
pub mod resolver;
mod seek;
mod session;
mod writer;

pub use folder::{Folder, Kept};
pub use journal::{
    Attempt, BEAT, Gap, Head, Journal, JournalError, LOST, Line, Outcome, Remark, Writing, lines,
};
pub use reconcile::{Reconciled, held_against, let_go, numbers_in_table};
pub use seek::{Seeker, Where};
pub use session::{Access, Session, SessionError};
pub use writer::{Options, Tally, write};
