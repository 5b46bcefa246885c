//! When a primary may be taken for lost (I-26), and where a service may begin (I-18): by what this
//! world knows of reports, processes and links, and not by what the law was told.

use std::time::Duration;

use super::Oracle;
use crate::clock::At;
use crate::world::Machine;

/// So many of an agent's newest reports are remembered.
const REPORTS: usize = 16;
/// So long after something was done to a machine it goes its way again.
const CALM: Duration = Duration::from_secs(10);
/// What kept an eye from seeing counts from so long ago on: before, it may have seen.
const SEEN: Duration = Duration::from_secs(3);

/// What an agent said, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    /// The connection of each, its number, and when that was first sent.
    sent: Vec<(u64, u64, At)>,
    /// The newest answer that came: when it did, and when that was sent which it answered.
    word: Option<(At, At)>,
    /// When the newest was sent to which a leader has answered, of those made after its word.
    heard: Option<At>,
}

impl Reports {
    /// When that was first said.
    pub(super) fn sent_at(&self, token: u64) -> Option<At> {
        self.sent.iter().find(|(of, ..)| *of == token).map(|(.., at)| *at)
    }
}

impl Oracle {
    /// An agent sends a report, perhaps once more.
    pub(crate) fn reported(&mut self, host: u8, token: u64, sequence: u64, now: At) {
        let Some(host) = self.hosts.get_mut(usize::from(host)) else { return };
        let first = host.reports.sent.iter().rev().find(|(_, other, _)| *other == sequence);
        // Another process of the agent counts anew, and much later.
        let first = first.map(|(.., at)| *at).filter(|at| now.since(*at) < SEEN).unwrap_or(now);
        if sequence == 0 && first == now {
            // It knows no leader yet.
            host.reports.word = None;
        }
        let sent = &mut host.reports.sent;
        sent.push((token, sequence, first));
        if sent.len() > REPORTS {
            sent.remove(0);
        }
    }

    /// A leader that a majority still follows answers it. That it was heard is certain when it was
    /// made soon after that leader's word had come: nothing else says that it is of the present.
    pub(crate) fn answered(&mut self, host: u8, token: u64) {
        let elected = self.elected_at.last().map_or(At(0), |(_, at)| *at);
        let Some(host) = self.hosts.get_mut(usize::from(host)) else { return };
        let reports = &mut host.reports;
        let (Some(sent), Some((came, asked))) = (reports.sent_at(token), reports.word) else {
            return;
        };
        if asked >= elected && came <= sent && sent.since(came) < self.pause {
            reports.heard = reports.heard.max(Some(sent));
        }
    }

    /// Its answer came.
    pub(crate) fn answer_came(&mut self, host: u8, token: u64, now: At) {
        let Some(host) = self.hosts.get_mut(usize::from(host)) else { return };
        let reports = &mut host.reports;
        if let Some(asked) = reports.sent_at(token) {
            reports.word = reports.word.max(Some((now, asked)));
        }
    }

    /// From how many sites beside its own each machine can be seen.
    pub(crate) fn seen_from(&mut self, eyes: Vec<u8>) {
        self.eyes = eyes;
    }

    /// Somebody who could see is kept from it.
    pub(crate) fn blinded(&mut self, places: &[u8], now: At) {
        for place in places.iter().map(|place| usize::from(*place)) {
            if place >= self.blinded.len() {
                self.blinded.resize(place + 1, None);
            }
            self.blinded[place] = Some(now);
        }
    }

    /// Whether it could see a moment ago.
    pub(crate) fn saw_lately(&self, place: u8, now: At) -> bool {
        let at = self.blinded.get(usize::from(place)).copied().flatten();
        at.is_some_and(|at| now.since(at) < SEEN)
    }

    /// I-26: silence is waited out; what is sooner needs the word of its own agent, or two other
    /// sites that found both its ports closed.
    pub(super) fn lost_rightly(
        &self,
        position: usize,
        machines: &[Machine],
        now: At,
    ) -> Result<(), String> {
        let Some(primary) = self.services[position].primary else { return Ok(()) };
        let (Some(machine), Some(known)) = (machines.get(primary), self.hosts.get(primary)) else {
            return Ok(());
        };
        let Some(heard) = known.reports.heard else { return Ok(()) };
        let silence = now.since(heard);
        if silence >= self.suspect_after.mul_f64(0.9) || !self.lawful_clocks || known.strained {
            return Ok(());
        }
        let lately = |at: Option<At>| at.is_some_and(|at| now.since(at) < self.suspect_after * 2);
        let name = self.name(primary);
        let silence = silence.as_millis();
        if machine.host.is_writable() {
            let news = lately(known.ended) || lately(known.began.map(|(_, at)| at));
            return if news {
                Ok(())
            } else {
                Err(format!("I-26: {name} runs, and was taken for lost after {silence} ms"))
            };
        }
        // Its agent may have said so before it ended itself. What it says once more through another
        // voter was first said before what it says now.
        let spoke = known.reports.sent.iter().map(|(.., at)| *at).max();
        if known.ended.is_none() || spoke >= known.ended {
            return Ok(());
        }
        let eyes = self.eyes.get(primary).copied().unwrap_or(u8::MAX);
        if eyes >= 2 {
            return Ok(());
        }
        Err(format!(
            "I-26: {name} was taken for lost after {silence} ms, and {eyes} other sites could see"
        ))
    }

    /// I-24: a primary whose commits the rule's standbys acknowledge vouches for itself.
    pub(super) fn fenced_rightly(&mut self, host: usize, machine: &Machine, now: At) {
        let state = &self.services[self.service_of[host]];
        let known = &self.hosts[host];
        let lately = |at: Option<At>, within| at.is_some_and(|at| now.since(at) < within);
        let moves = state.step.is_some() || lately(state.stepped, self.suspect_after);
        let strained = known.strained || lately(known.disturbed, CALM) || !machine.host.is_well();
        if moves || strained || !self.lawful_clocks || state.required == 0 {
            return;
        }
        // The agent's own commits go the same way, one after another, a pause between two. When a
        // client was told of a commit, all of them had returned that were begun before it; the
        // next was begun within a pause, and had returned when a client was told of another commit
        // that was written later than that. So whoever was told of both saw it: it was begun after
        // the first was written, and vouches.
        let known = &known.acknowledged;
        let vouches = known.back().is_some_and(|(newest, _)| {
            let first = known.iter().rev().find(|(_, told)| told.plus(self.pause) <= *newest);
            first.is_some_and(|(written, _)| now.since(*written) < self.fence_after)
        });
        if vouches {
            let text = format!(
                "I-24: {} was fenced, and its standbys had acknowledged a commit a moment ago",
                self.name(host)
            );
            self.violate(&text);
        }
    }

    /// I-18: nothing is begun beside data.
    pub(super) fn begins_empty(&self, position: usize, machines: &[Machine]) -> Result<(), String> {
        let full = (0..machines.len())
            .filter(|host| self.service_of.get(*host) == Some(&position))
            .find(|host| machines[*host].host.log().is_some());
        match full {
            Some(host) => {
                Err(format!("I-18: a service is begun anew beside the data of {}", self.name(host)))
            }
            None => Ok(()),
        }
    }

    /// No voter holds the log any more, and the next ones begin with nothing.
    pub(crate) fn control_lost(&mut self, group: usize) {
        self.index = 0;
        self.told = 0;
        self.revisions.clear();
        self.leaders.clear();
        self.elected_at.clear();
        self.records = super::records::Records::default();
        self.described = false;
        self.group = group;
        for service in &mut self.services {
            service.forget();
        }
    }
}
