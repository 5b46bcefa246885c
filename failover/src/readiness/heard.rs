//! Every instance reports.

use super::Check;
use super::facts::Facts;
use super::finding::{Findings, Level};
use crate::report::{Down, Server};
use alloc::format;
use alloc::string::String;

pub(super) const CHECK: Check =
    Check { name: "heard", about: "every instance is heard, and its PostgreSQL runs", look };

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    if facts.case.service.primary.is_none() {
        let text = "the service has no primary yet";
        say.say(Level::Blocks, None, text, "start every declared instance: `baton explain`");
    }
    for id in facts.instances() {
        let Some(report) = facts.case.report(id) else {
            facts.unheard(id, say);
            continue;
        };
        let down = match &report.server {
            Server::Recovery { .. } | Server::Writable { .. } => continue,
            Server::Absent => String::from("has no data yet"),
            Server::Refused(reason) => format!("is refused: {reason}"),
            Server::Starting => String::from("is starting"),
            Server::Down(down) => format!("its PostgreSQL is down: {}", reason(down)),
        };
        let remedy = "`baton status` says what it does about it; its agent's log says why";
        say.say(Level::Blocks, Some(id), down, remedy);
    }
}

const fn reason(down: &Down) -> &'static str {
    match down {
        Down::Crashed => "it crashed",
        Down::Fenced => "it was stopped at once, on purpose",
        Down::Clean(_) => "it was shut down",
        Down::NotStarted => "it was not started",
    }
}
