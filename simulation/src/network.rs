//! The network: directed links between places, each with five kinds of traffic.
//!
//! A place is a site, or where the clients are. Requests and answers (raft, health, dns, user) are
//! single messages: a lost packet is repeated, so it shows as a delay, and as a failure only when
//! luck runs out. What is under way when a cut begins may still arrive. The replication plane is
//! a set of connections: nothing is lost there, it waits, in order, until the way is free.

use std::time::Duration;

use crate::clock::At;
use crate::dice::Dice;

pub use scenarios::script::place::Plane;

/// One direction of one link for one kind of traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Nothing passes.
    pub cut: bool,
    /// Packets lost, in a hundred.
    pub loss: u8,
    /// Messages delivered twice, in a hundred.
    pub duplicate: u8,
    /// Messages that others overtake, in a hundred.
    pub reorder: u8,
    /// Messages damaged on the way, in a hundred.
    pub corrupt: u8,
    /// Added to the way, in microseconds.
    pub delay: u32,
    /// At most this much more.
    pub jitter: u32,
    /// Since when nothing passes.
    pub since: At,
}

impl Link {
    fn is_bad(&self) -> bool {
        *self != Self::default()
    }
}

/// A connection whose way back is dead is given up after this long: nothing passes then, in
/// either direction.
const GIVEN_UP: Duration = Duration::from_secs(5);

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrives(At),
    Twice(At, At),
    Damaged(At),
    Lost,
}

/// How long a sender waits before it repeats a packet for the first time.
const REPEAT: u64 = 200_000;

/// All links.
pub struct Network {
    places: usize,
    links: Vec<Link>,
    /// The way from place to place when nothing is wrong, in microseconds.
    ways: Vec<u32>,
    bad: usize,
}

impl Network {
    /// A healthy network; `way(a, b)` is the time between two places.
    pub fn new(places: usize, mut way: impl FnMut(usize, usize) -> u32) -> Self {
        let mut ways = vec![0; places * places];
        for a in 0..places {
            for b in a..places {
                let time = way(a, b);
                ways[a * places + b] = time;
                ways[b * places + a] = time;
            }
        }
        Self { places, links: vec![Link::default(); 5 * places * places], ways, bad: 0 }
    }

    fn index(&self, plane: Plane, from: u8, to: u8) -> usize {
        (plane as usize * self.places + usize::from(from)) * self.places + usize::from(to)
    }

    /// How many places there are.
    pub fn places(&self) -> usize {
        self.places
    }

    /// One direction of a link.
    pub fn link(&self, plane: Plane, from: u8, to: u8) -> Link {
        self.links[self.index(plane, from, to)]
    }

    /// Changes one direction of a link. Nothing is ever wrong within a place.
    pub fn change(
        &mut self,
        now: At,
        plane: Plane,
        (from, to): (u8, u8),
        change: impl FnOnce(&mut Link),
    ) {
        if from == to {
            return;
        }
        let index = self.index(plane, from, to);
        let link = &mut self.links[index];
        let (before, cut) = (link.is_bad(), link.cut);
        change(link);
        if link.cut && !cut {
            link.since = now;
        }
        let after = link.is_bad();
        self.bad = self.bad + usize::from(after) - usize::from(before);
    }

    /// Whether nothing passes.
    #[inline]
    pub fn is_cut(&self, plane: Plane, from: u8, to: u8) -> bool {
        self.bad > 0 && self.link(plane, from, to).cut
    }

    /// Whether nothing is wrong with what voters and agents say to each other.
    pub fn carries_control(&self) -> bool {
        let size = self.places * self.places;
        let part = |plane: Plane| {
            let first = plane as usize * size;
            self.links.get(first..first + size).unwrap_or_default()
        };
        let whole = |plane| !part(plane).iter().any(Link::is_bad);
        self.bad == 0 || (whole(Plane::Raft) && whole(Plane::Health))
    }

    /// Whether everything is as it should be.
    pub fn is_healthy(&self) -> bool {
        self.bad == 0
    }

    /// How long a packet takes now.
    #[inline]
    fn way(&self, link: Link, from: u8, to: u8, dice: &mut Dice) -> u64 {
        let base = u64::from(self.ways[usize::from(from) * self.places + usize::from(to)]);
        let way = base + dice.roll(base / 4 + 50);
        if link.delay == 0 && link.jitter == 0 {
            return way;
        }
        way + u64::from(link.delay) + dice.roll(u64::from(link.jitter) + 1)
    }

    /// A message that stands for itself.
    #[inline]
    pub(crate) fn send(
        &self,
        plane: Plane,
        (from, to): (u8, u8),
        now: At,
        dice: &mut Dice,
    ) -> Fate {
        if self.bad == 0 {
            return Fate::Arrives(now.after(self.way(Link::default(), from, to, dice)));
        }
        let link = self.link(plane, from, to);
        let back = self.link(plane, to, from);
        if link.cut || (back.cut && now.since(back.since) > GIVEN_UP) {
            return Fate::Lost;
        }
        let Some(repeats) = repeats(link.loss, 4, dice) else { return Fate::Lost };
        let mut way = self.way(link, from, to, dice) + repeats;
        if dice.roll(100) < u64::from(link.reorder) {
            way += dice.roll(100_000);
        }
        let at = now.after(way);
        if dice.roll(100) < u64::from(link.corrupt) {
            Fate::Damaged(at)
        } else if dice.roll(100) < u64::from(link.duplicate) {
            Fate::Twice(at, at.after(dice.roll(300_000)))
        } else {
            Fate::Arrives(at)
        }
    }

    /// A message on a connection, when the way is not cut: how long it takes.
    #[inline]
    pub(crate) fn stream(&self, (from, to): (u8, u8), dice: &mut Dice) -> u64 {
        let link = if self.bad == 0 { Link::default() } else { self.link(Plane::Wal, from, to) };
        // What a checksum refuses is repeated like what is lost.
        let spoilt = link.loss.saturating_add(link.corrupt).min(95);
        self.way(link, from, to, dice) + repeats(spoilt, 6, dice).unwrap_or(64 * REPEAT)
    }
}

/// What the repeats of a packet cost; `None`: all were lost.
fn repeats(loss: u8, most: u32, dice: &mut Dice) -> Option<u64> {
    if loss == 0 {
        return Some(0);
    }
    let mut waited = 0;
    for attempt in 0..=most {
        if dice.roll(100) >= u64::from(loss) {
            return Some(waited);
        }
        waited += REPEAT << attempt;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_has_a_direction_and_a_plane() {
        let mut network = Network::new(3, |_, _| 1_000);
        let mut dice = Dice::new(1);
        network.change(At(0), Plane::Raft, (0, 1), |link| link.cut = true);
        assert_eq!(network.send(Plane::Raft, (0, 1), At(0), &mut dice), Fate::Lost);
        assert!(matches!(network.send(Plane::Raft, (1, 0), At(0), &mut dice), Fate::Arrives(_)));
        let later = At(6_000_000);
        assert_eq!(network.send(Plane::Raft, (1, 0), later, &mut dice), Fate::Lost);
        assert!(matches!(network.send(Plane::User, (0, 1), At(0), &mut dice), Fate::Arrives(_)));
        network.change(At(0), Plane::Raft, (0, 1), |link| *link = Link::default());
        assert!(network.is_healthy());
    }

    #[test]
    fn loss_delays_and_sometimes_wins() {
        let mut network = Network::new(2, |_, _| 1_000);
        let mut dice = Dice::new(1);
        network.change(At(0), Plane::Dns, (0, 1), |link| link.loss = 60);
        let fates: Vec<Fate> =
            (0..400).map(|_| network.send(Plane::Dns, (0, 1), At(0), &mut dice)).collect();
        assert!(fates.contains(&Fate::Lost));
        assert!(fates.iter().any(|fate| matches!(fate, Fate::Arrives(at) if at.0 < 2_000)));
        assert!(fates.iter().any(|fate| matches!(fate, Fate::Arrives(at) if at.0 > REPEAT)));
    }
}
