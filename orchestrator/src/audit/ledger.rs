//! What is noted before it is proposed: alike ones are counted, and what may become entries of the
//! log is rationed, so that nobody can fill disks by being refused.

use std::collections::BTreeMap;
use std::time::Duration;

use failover::Moment;
use failover::event::{Note, NoteKind};
use failover::ids::ServiceId;

/// Of each kind of note so many may be proposed at once,
const BURST: u32 = 64;
/// and then one every so often: 17 280 a day.
const EVERY: Duration = Duration::from_secs(5);
/// How many different notes are told apart while they wait.
const KINDS: usize = 256;
/// The longest text of a note, in characters.
const TEXT: usize = 400;

/// Who, and what they are noted for.
type Key = (NoteKind, String, Option<ServiceId>, String);

/// What became of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// To be proposed now.
    Now(Box<Note>),
    /// It is counted, and told with others alike.
    Counted,
}

/// The notes of one process that are not in the log yet.
#[derive(Debug)]
pub struct Ledger {
    waiting: BTreeMap<Key, Note>,
    /// When what was proposed last was.
    said: BTreeMap<Key, Moment>,
    /// For how long alike ones are counted after one that was proposed.
    alike: Duration,
    rations: BTreeMap<NoteKind, Ration>,
}

/// How many notes of one kind may still be proposed.
#[derive(Clone, Copy, Debug)]
struct Ration {
    left: u32,
    refilled: Moment,
}

impl Ration {
    fn spend(&mut self, now: Moment) -> bool {
        let passed = now.since(self.refilled).as_millis() / EVERY.as_millis();
        let more = u32::try_from(passed).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(more).min(BURST);
        self.refilled = self.refilled.after(EVERY.saturating_mul(more));
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

impl Ledger {
    /// An empty one, that counts alike notes for `alike` after one that was proposed.
    #[must_use]
    pub fn new(alike: Duration) -> Self {
        let (waiting, said, rations) = Default::default();
        Self { waiting, said, alike, rations }
    }

    /// Takes a note by `by`.
    pub fn hear(&mut self, by: &str, mut note: Note, now: Moment) -> Heard {
        if note.text.chars().count() > TEXT {
            note.text = note.text.chars().take(TEXT).chain(['…']).collect();
        }
        self.forget(now);
        let key = (note.kind, by.to_owned(), note.service.clone(), note.text.clone());
        let fresh = !self.said.contains_key(&key) && !self.waiting.contains_key(&key);
        if fresh && self.said.len() < KINDS && self.spend(note.kind, now) {
            self.said.insert(key, now);
            return Heard::Now(Box::new(note));
        }
        self.count(key, note);
        Heard::Counted
    }

    /// Puts back what could not be proposed.
    pub fn put_back(&mut self, by: &str, note: Note) {
        let key = (note.kind, by.to_owned(), note.service.clone(), note.text.clone());
        self.said.remove(&key);
        if let Some(ration) = self.rations.get_mut(&note.kind) {
            ration.left = ration.left.saturating_add(1).min(BURST);
        }
        self.count(key, note);
    }

    /// One of those that have waited long enough, with who it is by; to be asked until there is
    /// none.
    pub fn due(&mut self, now: Moment) -> Option<(String, Note)> {
        self.forget(now);
        let mut rested = self.waiting.keys().filter(|key| !self.said.contains_key(*key));
        let mut kinds: Vec<(NoteKind, Key)> = Vec::new();
        for key in rested.by_ref() {
            if kinds.iter().all(|(kind, _)| *kind != key.0) {
                kinds.push((key.0, key.clone()));
            }
        }
        let (_, key) = kinds.into_iter().find(|(kind, _)| self.spend(*kind, now))?;
        let note = self.waiting.remove(&key)?;
        let by = key.1.clone();
        if self.said.len() < KINDS {
            self.said.insert(key, now);
        }
        Some((by, note))
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn count(&mut self, key: Key, note: Note) {
        let known = self.waiting.contains_key(&key);
        let (key, note) = if known || self.waiting.len() < KINDS {
            (key, note)
        } else {
            let text = String::from("more than are told apart");
            let key = (note.kind, String::from("several"), None, text.clone());
            (key, Note { service: None, text, ..note })
        };
        match self.waiting.get_mut(&key) {
            Some(counted) => {
                counted.times = counted.times.saturating_add(note.times);
                counted.since = counted.since.min(note.since);
            }
            None => {
                self.waiting.insert(key, note);
            }
        }
    }

    fn spend(&mut self, kind: NoteKind, now: Moment) -> bool {
        let full = Ration { left: BURST, refilled: now };
        self.rations.entry(kind).or_insert(full).spend(now)
    }

    fn forget(&mut self, now: Moment) {
        self.said.retain(|_, at| now.since(*at) < self.alike);
    }
}
