//! The replication plane: connections, each direction in order. During a cut the kernel holds
//! what was sent and repeats it; it comes after the heal, unless a machine lost its power.

use super::{Event, World};
use crate::clock::At;
use crate::host::{Input, Peer, Wal};
use crate::network::Plane;

/// One direction between two machines.
#[derive(Default)]
pub(crate) struct Channel {
    /// Counts losses of power at either end: what was under way then never comes.
    era: u32,
    order: u32,
    /// When the newest message arrives: none comes before it.
    last: At,
    /// What waits for the end of a cut.
    held: Vec<(u32, Box<Wal>)>,
}

impl World {
    fn channel(&self, from: u8, to: u8) -> u16 {
        let count = u16::try_from(self.machines.len()).unwrap_or(u16::MAX);
        u16::from(from) * count + u16::from(to)
    }

    /// The machines and the places at the two ends.
    fn ends(&self, channel: u16) -> (u8, u8, u8, u8) {
        let count = u16::try_from(self.machines.len()).unwrap_or(u16::MAX).max(1);
        let from = u8::try_from(channel / count).unwrap_or(0);
        let to = u8::try_from(channel % count).unwrap_or(0);
        let place = |host: u8| self.machines[usize::from(host)].place;
        (from, to, place(from), place(to))
    }

    pub(crate) fn wal_sent(&mut self, from: u8, to: u8, message: Wal) {
        let index = self.channel(from, to);
        let (_, _, here, there) = self.ends(index);
        let cut = self.network.is_cut(Plane::Wal, here, there);
        let way = if cut { 0 } else { self.network.stream((here, there), &mut self.dice) };
        let channel = &mut self.channels[usize::from(index)];
        channel.order += 1;
        let (order, era, message) = (channel.order, channel.era, Box::new(message));
        if cut || !channel.held.is_empty() {
            channel.held.push((order, message));
            return;
        }
        let at = self.now.after(way).max(channel.last);
        channel.last = at;
        self.queue.push(at, Event::Wal { channel: index, era, order, message });
    }

    pub(crate) fn wal_arrives(&mut self, index: u16, era: u32, order: u32, message: Box<Wal>) {
        let (from, to, here, there) = self.ends(index);
        let cut = self.network.is_cut(Plane::Wal, here, there);
        let lucky = cut && self.dice.roll(2) == 0;
        let channel = &mut self.channels[usize::from(index)];
        if channel.era != era {
            return;
        }
        let overtakes = channel.held.first().is_some_and(|(first, _)| *first < order);
        if overtakes || (cut && !lucky) {
            let place = channel.held.partition_point(|(other, _)| *other < order);
            channel.held.insert(place, (order, message));
            return;
        }
        if self.machines[usize::from(to)].on {
            self.host_input(to, Input::Wal { from: Peer(from), message: *message });
        }
    }

    /// After a change of the network: what was held back and may go now, goes.
    pub(crate) fn release_held(&mut self) {
        for index in 0..self.channels.len() {
            if self.channels[index].held.is_empty() {
                continue;
            }
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            let (_, _, here, there) = self.ends(index);
            if self.network.is_cut(Plane::Wal, here, there) {
                continue;
            }
            // The kernel repeats seldom after a long silence.
            let first = self.now.after(self.dice.roll(3_000_000));
            let way = self.network.stream((here, there), &mut self.dice);
            let channel = &mut self.channels[usize::from(index)];
            let at = first.after(way).max(channel.last);
            channel.last = at;
            for (order, message) in std::mem::take(&mut channel.held) {
                let era = channel.era;
                self.queue.push(at, Event::Wal { channel: index, era, order, message });
            }
        }
    }

    /// A machine lost its power: nothing of what was under way from it or to it comes.
    pub(crate) fn drop_connections(&mut self, host: u8) {
        for other in 0..u8::try_from(self.machines.len()).unwrap_or(0) {
            for index in [self.channel(host, other), self.channel(other, host)] {
                let channel = &mut self.channels[usize::from(index)];
                channel.era += 1;
                channel.held.clear();
            }
        }
    }
}
