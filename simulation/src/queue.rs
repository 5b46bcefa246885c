//! What will happen, in the order in which it will.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::clock::At;

struct Due<T> {
    at: At,
    order: u64,
    what: T,
}

impl<T> Due<T> {
    fn when(&self) -> (At, u64) {
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
    slots: Vec<Option<Due<T>>>,
    /// The slot that is due first.
    first: Option<usize>,
    order: u64,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), first: None, order: 0 }
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
        }
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(Due { at, order: self.order, what });
        }
        self.find_first();
    }

    fn find_first(&mut self) {
        let due = self.slots.iter().enumerate();
        let due = due.filter_map(|(slot, due)| Some((due.as_ref()?.when(), slot)));
        self.first = due.min().map(|(_, slot)| slot);
    }

    fn slot(&self) -> Option<&Due<T>> {
        self.slots.get(self.first?)?.as_ref()
    }

    /// When the next one is due.
    #[inline]
    pub(crate) fn next(&self) -> Option<At> {
        let (sorted, slot) = (self.heap.peek().map(|due| due.at), self.slot().map(|due| due.at));
        sorted.into_iter().chain(slot).min()
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(At, T)> {
        let sorted = self.heap.peek().map(Due::when);
        let due = match self.slot().map(Due::when) {
            Some(slot) if sorted.is_none_or(|sorted| slot < sorted) => {
                let due = self.slots.get_mut(self.first?)?.take();
                self.find_first();
                due
            }
            Some(_) | None => self.heap.pop(),
        };
        due.map(|due| (due.at, due.what))
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
