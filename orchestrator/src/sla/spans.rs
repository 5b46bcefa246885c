//! Spans of time: sorted, apart from each other, in milliseconds since 1970.

use serde::{Deserialize, Serialize};

/// Spans of time, each with its beginning and its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(i64, i64)>", into = "Vec<(i64, i64)>")]
pub struct Spans(Vec<(i64, i64)>);

impl From<Vec<(i64, i64)>> for Spans {
    fn from(mut spans: Vec<(i64, i64)>) -> Self {
        spans.retain(|(from, to)| from < to);
        spans.sort_unstable();
        let mut apart: Vec<(i64, i64)> = Vec::with_capacity(spans.len());
        for (from, to) in spans {
            match apart.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                Some(_) | None => apart.push((from, to)),
            }
        }
        Self(apart)
    }
}

impl From<Spans> for Vec<(i64, i64)> {
    fn from(spans: Spans) -> Self {
        spans.0
    }
}

impl From<(i64, i64)> for Spans {
    fn from(span: (i64, i64)) -> Self {
        Self::from(vec![span])
    }
}

impl FromIterator<(i64, i64)> for Spans {
    fn from_iter<I: IntoIterator<Item = (i64, i64)>>(spans: I) -> Self {
        Self::from(spans.into_iter().collect::<Vec<_>>())
    }
}

impl Spans {
    /// Each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, i64)> {
        self.0.iter().copied()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How long all of them are together.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.iter().map(|(from, to)| to - from).sum()
    }

    /// What is in either.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    /// What is in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let (mut both, mut here, mut there) = (Vec::new(), self.iter(), other.iter());
        let (mut one, mut two) = (here.next(), there.next());
        while let (Some(a), Some(b)) = (one, two) {
            both.push((a.0.max(b.0), a.1.min(b.1)));
            if a.1 < b.1 {
                one = here.next();
            } else {
                two = there.next();
            }
        }
        Self::from(both)
    }

    /// What is in this and not in the other.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut rest = Vec::new();
        let mut taken = other.iter().peekable();
        for (mut from, to) in self.iter() {
            while let Some((begin, end)) = taken.peek().copied().filter(|(begin, _)| *begin < to) {
                rest.push((from, begin));
                from = from.max(end);
                if end > to {
                    break;
                }
                taken.next();
            }
            rest.push((from, to));
        }
        Self::from(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every set of moments of 0 to 9, as spans; and back.
    fn of_bits(bits: u32) -> Spans {
        (0..10).filter(|at| bits >> at & 1 == 1).map(|at| (at, at + 1)).collect()
    }

    fn bits(spans: &Spans) -> u32 {
        spans.iter().flat_map(|(from, to)| from..to).map(|at| 1 << at).sum()
    }

    /// Held against arithmetic on single moments, for a million pairs.
    #[test]
    fn spans_are_sets_of_moments() {
        for one in 0..1_u32 << 10 {
            let a = of_bits(one);
            assert_eq!((bits(&a), a.total()), (one, i64::from(one.count_ones())));
            for two in 0..1_u32 << 10 {
                let b = of_bits(two);
                assert_eq!(bits(&a.and(&b)), one & two, "{a:?} and {b:?}");
                assert_eq!(bits(&a.without(&b)), one & !two, "{a:?} without {b:?}");
                assert_eq!(a.or(&b), of_bits(one | two), "{a:?} or {b:?}");
            }
        }
    }

    #[test]
    fn what_is_turned_round_or_empty_is_nothing() {
        assert!(Spans::from(vec![(5, 5), (7, 3)]).is_empty());
        assert_eq!(Spans::from(vec![(3, 4), (1, 3)]), Spans::from((1, 4)));
    }
}
