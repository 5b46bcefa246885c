//! The newest assignment on which something rests that outlives a power cut.
//!
//! After a restart no older one may be taken for current, whichever voter says it. Two things rest
//! on that. Once a rule is said to be enforced, the record may narrow to it, and the rule before it
//! must never be in force again (I-07). Once a primary was followed, an earlier epoch's primacy
//! must not be taken up again, though it was accepted once (I-20). So before either the assignment
//! is on disk with fsync, in a file that nothing overwrites with less.

use crate::instance::Instance;
use crate::layout::Layout;
use failover::{Assignment, Revision};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// What was kept in this run.
#[derive(Debug, Default)]
pub struct Kept(Mutex<Revision>);

impl Kept {
    /// Keeps the newest assignment.
    ///
    /// # Errors
    /// Those of the file system; nothing may rest on it then.
    pub fn keep(&self, instance: &Instance) -> io::Result<()> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = instance.state().assignment.clone();
        if let Some(newest) = newest.filter(|newest| *kept < newest.revision) {
            let bytes = serde_json::to_vec_pretty(&newest)?;
            wire::files::write_secret(&instance.layout.kept_assignment(), &bytes)?;
            *kept = newest.revision;
        }
        Ok(())
    }
}

/// The newest assignment on disk: the one written last may be lost with the power, the one that
/// was kept is not.
pub fn load(layout: &Layout) -> Option<Assignment> {
    let read = |path: PathBuf| -> Option<Assignment> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    };
    let known = [layout.assignment(), layout.kept_assignment()].map(read);
    known.into_iter().flatten().max_by_key(|assignment| assignment.revision)
}
