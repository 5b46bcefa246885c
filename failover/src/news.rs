//! Does a report say anything that the one before did not?
//!
//! While nothing happens, reports differ in places, ages and numbers only. A leader judges by time
//! at every tick anyway, so what is no news waits for the next tick: a tenth of an election
//! timeout. What is overlooked here costs that much, and nothing else.

use crate::position::Position;
use crate::report::{Receiver, Report, Server, Stream};

impl Report {
    /// Whether this says something beside how far the log has grown and how old things are.
    #[must_use]
    pub fn is_news_after(&self, before: &Self) -> bool {
        // Whatever is added to reports must be put on one side or the other here.
        let Self {
            service: _,
            instance: _,
            run,
            sequence: _,
            echo: _,
            revision,
            pledge,
            server,
            looked: _,
            system_identifier,
            sealed_at,
            proof,
            enforced,
            prepared,
            streams,
            receiver,
            doubt,
            knock,
            notes,
            version: _,
            checks,
            rehearsed,
            // Nothing is decided by it.
            survey: _,
        } = self;
        *run != before.run
            || *revision != before.revision
            || *pledge != before.pledge
            || !is_same(server, &before.server)
            || *system_identifier != before.system_identifier
            || *sealed_at != before.sealed_at
            || proof.map(|proof| proof.epoch) != before.proof.map(|proof| proof.epoch)
            || *enforced != before.enforced
            || *prepared != before.prepared
            || !are_same(streams, &before.streams)
            || receiver.as_ref().map(follows) != before.receiver.as_ref().map(follows)
            || *doubt != before.doubt
            || knock.is_some()
            || *notes != before.notes
            || *checks != before.checks
            || *rehearsed != before.rehearsed
    }
}

fn is_same(now: &Server, before: &Server) -> bool {
    match (now, before) {
        (
            Server::Recovery { position, replayed: _, admits },
            Server::Recovery { position: earlier, replayed: _, admits: admitted },
        ) => is_further(position, earlier) && admits == admitted,
        (
            Server::Writable { position, admits, checkpoint },
            Server::Writable { position: earlier, admits: admitted, checkpoint: checked },
        ) => is_further(position, earlier) && admits == admitted && checkpoint == checked,
        (
            Server::Absent
            | Server::Refused(_)
            | Server::Down(_)
            | Server::Starting
            | Server::Recovery { .. }
            | Server::Writable { .. },
            _,
        ) => now == before,
    }
}

/// On the same history, and not behind: a log only grows, unless something happened to it.
fn is_further(now: &Position, before: &Position) -> bool {
    now.timeline == before.timeline && now.history == before.history && now.lsn >= before.lsn
}

fn are_same(now: &[Stream], before: &[Stream]) -> bool {
    let plain = |stream: &Stream| (stream.streaming, stream.caught_up);
    now.len() == before.len()
        && now
            .iter()
            .zip(before)
            .all(|(now, before)| now.instance == before.instance && plain(now) == plain(before))
}

fn follows(receiver: &Receiver) -> (&crate::ids::InstanceId, bool) {
    (&receiver.upstream, receiver.streaming)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Lsn, Timeline};
    use crate::report::Down;
    use alloc::vec::Vec;

    fn at(timeline: u32, lsn: u64) -> Position {
        Position { timeline: Timeline(timeline), history: Vec::new(), lsn: Lsn(lsn) }
    }

    fn recovery(position: Position) -> Server {
        Server::Recovery { replayed: position.lsn, position, admits: true }
    }

    #[test]
    fn a_log_that_grew_is_no_news_and_one_that_shrank_is() {
        assert!(is_same(&recovery(at(1, 20)), &recovery(at(1, 10))));
        assert!(!is_same(&recovery(at(1, 10)), &recovery(at(1, 20))));
        assert!(!is_same(&recovery(at(2, 20)), &recovery(at(1, 20))));
        let crashed = Server::Down(Down::Crashed);
        assert!(is_same(&crashed, &crashed.clone()));
        assert!(!is_same(&crashed, &recovery(at(1, 20))));
        assert!(!is_same(&crashed, &Server::Down(Down::Fenced)));
        let stopped = |lsn| Server::Down(Down::Clean(at(1, lsn)));
        assert!(!is_same(&stopped(1), &stopped(2)));
    }
}
