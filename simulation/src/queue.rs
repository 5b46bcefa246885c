//! What will happen, in the order in which it will.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::clock::At;

/// A time, and the order among what is due then.
type When = (At, u64);

const NEVER: When = (At(u64::MAX), u64::MAX);

struct Due<T> {
    at: At,
    order: u64,
    what: T,
}

impl<T> Due<T> {
    fn when(&self) -> When {
        (self.at, self.order)
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    /// The earliest is the greatest; of two at the same instant, the one that was put in first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.when().cmp(&self.when())
    }
}

/// Events by true time; those of one instant come out in the order in which they went in.
///
/// What comes again and again has a slot each, which holds the next time only: more than half of
/// all events are such, and need not be sorted among the others.
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Due<T>>,
    slots: Vec<Option<T>>,
    /// When each slot is due.
    due: Vec<When>,
    /// The slot that is due first; nothing is [`NEVER`].
    first: (When, usize),
    order: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            slots: Vec::new(),
            due: Vec::new(),
            first: (NEVER, 0),
            order: 0,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, at: At, what: T) {
        self.order += 1;
        self.heap.push(Due { at, order: self.order, what });
    }

    /// Puts this in a slot, in the place of what is there.
    #[inline]
    pub(crate) fn set(&mut self, slot: usize, at: At, what: T) {
        self.order += 1;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
            self.due.resize(slot + 1, NEVER);
        }
        let due = (at, self.order);
        self.slots[slot] = Some(what);
        self.due[slot] = due;
        if self.first.1 == slot {
            self.find_first();
        } else {
            self.first = self.first.min((due, slot));
        }
    }

    fn find_first(&mut self) {
        let due = self.due.iter().enumerate().map(|(slot, due)| (*due, slot));
        self.first = due.min().unwrap_or((NEVER, 0));
    }

    fn sorted(&self) -> When {
        self.heap.peek().map_or(NEVER, Due::when)
    }

    /// When the next one is due.
    #[inline]
    pub(crate) fn next(&self) -> Option<At> {
        let next = self.sorted().min(self.first.0);
        (next != NEVER).then_some(next.0)
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(At, T)> {
        let ((at, _), slot) = self.first;
        if self.first.0 < self.sorted() {
            let what = self.slots[slot].take();
            self.due[slot] = NEVER;
            self.find_first();
            return what.map(|what| (at, what));
        }
        self.heap.pop().map(|due| (due.at, due.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_first_and_equals_in_order() {
        let mut queue = Queue::new();
        for (at, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            queue.push(At(at), what);
        }
        assert_eq!(queue.next(), Some(At(1)));
        let order: String = std::iter::from_fn(|| queue.pop().map(|(_, what)| what)).collect();
        assert_eq!(order, "abcd");
    }

    #[test]
    fn a_slot_holds_the_next_time_only_and_has_its_place_among_the_others() {
        let mut queue = Queue::new();
        queue.set(3, At(4), 'x');
        queue.push(At(5), 'b');
        queue.set(3, At(5), 'c');
        queue.set(0, At(5), 'd');
        queue.push(At(5), 'e');
        queue.set(1, At(2), 'a');
        assert_eq!(queue.next(), Some(At(2)));
        let order: String = std::iter::from_fn(|| queue.pop().map(|(_, what)| what)).collect();
        assert_eq!(order, "abcde");
    }
}
