//! What will happen, in the order in which it will.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::clock::At;

struct Due<T> {
    at: At,
    order: u64,
    what: T,
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
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// Events by true time; those of one instant come out in the order in which they went in.
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Due<T>>,
    order: u64,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), order: 0 }
    }

    #[inline]
    pub(crate) fn push(&mut self, at: At, what: T) {
        self.order += 1;
        self.heap.push(Due { at, order: self.order, what });
    }

    /// When the next one is due.
    #[inline]
    pub(crate) fn next(&self) -> Option<At> {
        self.heap.peek().map(|due| due.at)
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(At, T)> {
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
}
