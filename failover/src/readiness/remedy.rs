//! What to do about what the law itself waits for, by the name of its condition.

use crate::ids::ServiceId;
use alloc::format;
use alloc::string::{String, ToString};

/// For people; the condition's own text has the particulars.
pub(super) fn of(check: &str, service: &ServiceId) -> String {
    match check {
        "hold" => format!("`baton resume {service}`"),
        "failover-window" => {
            format!("`baton resume {service}`, once it is understood why it failed over")
        }
        "seal-quorum" => "bring one of the named instances back".to_string(),
        "last-copy" => format!(
            "bring another standby back; or decide that commits may wait: `baton failover \
             {service}`"
        ),
        "single-copy" => "bring a standby back: it is copied and joins by itself".to_string(),
        "doubt" => "bring a standby back while the primary lives".to_string(),
        "candidate" => "bring the named instance back".to_string(),
        "bootstrap" => "start every declared instance".to_string(),
        _ => format!("`baton explain {service}`"),
    }
}
