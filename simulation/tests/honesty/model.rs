//! The model's side.

use crate::{Rule, Servers, Side, Told};
use simulation::host::pair::Pair;
use simulation::host::{Outcome, Peer, Setting};
use std::time::Duration;

/// Two machines of the model.
pub struct Model {
    pair: Pair,
}

impl Model {
    pub fn new(seed: u64) -> Self {
        Self { pair: Pair::new(seed) }
    }
}

fn at(side: Side) -> usize {
    match side {
        Side::A => 0,
        Side::B => 1,
    }
}

const LONG: Duration = Duration::from_hours(1);

impl Servers for Model {
    fn write(&mut self, number: u64) {
        self.pair.write(0, number, false);
    }

    fn write_local(&mut self, number: u64) {
        self.pair.write(0, number, true);
    }

    fn told(&mut self, number: u64) -> Told {
        self.pair.run(Duration::from_millis(200));
        match self.pair.outcome(number) {
            None => Told::Waits,
            Some(Outcome::Acknowledged { warned: true, .. }) => Told::Warned,
            Some(Outcome::Acknowledged { .. }) => Told::Success,
            Some(Outcome::Lost) => Told::Lost,
            Some(other) => panic!("a write was answered with {other:?}"),
        }
    }

    fn cancel(&mut self, number: u64) {
        self.pair.cancel(0, number);
    }

    fn terminate(&mut self) {
        self.pair.terminate(0);
    }

    fn hang_up(&mut self, number: u64) {
        self.pair.hang_up(0, number);
    }

    fn sees(&mut self, side: Side, number: u64) -> bool {
        self.pair.sees(at(side), number)
    }

    fn freeze(&mut self, side: Side) {
        self.pair.freeze(at(side), true);
    }

    fn thaw(&mut self, side: Side) {
        self.pair.freeze(at(side), false);
        self.pair.run(Duration::from_secs(1));
    }

    fn rule(&mut self, rule: Rule) {
        let names = vec![Peer(1)];
        self.pair.rule(match rule {
            Rule::Standby => Setting { names, ..Setting::placeholder() },
            Rule::First => Setting { names, any: false, ..Setting::placeholder() },
            Rule::Both => {
                let names = vec![Peer(0), Peer(1)];
                Setting { names, required: 2, ..Setting::placeholder() }
            }
            Rule::Nobody => Setting::placeholder(),
            Rule::Empty => Setting::emptied(),
        });
    }

    fn stall_checkpointer(&mut self) {
        self.pair.stall_checkpointer(Duration::from_secs(20));
    }

    fn resume_checkpointer(&mut self) {
        self.pair.run(Duration::from_secs(21));
    }

    fn kill(&mut self, side: Side) {
        self.pair.stop(at(side), false);
    }

    fn stop(&mut self, side: Side) -> bool {
        self.pair.stop(at(side), true)
    }

    fn ends(&mut self, side: Side, within: Duration) -> bool {
        self.pair.run(within);
        !self.pair.runs(at(side))
    }

    fn start(&mut self, side: Side, standby: bool) {
        self.pair.start(at(side), standby);
    }

    fn promote(&mut self, side: Side) -> bool {
        self.pair.promote(at(side), Duration::from_secs(1))
    }

    fn writable(&mut self, side: Side, _wanted: bool) -> bool {
        self.pair.is_writable(at(side))
    }

    fn timeline(&mut self, side: Side) -> u32 {
        self.pair.timeline(at(side)).0
    }

    fn follow(&mut self, side: Side, other: bool) {
        let upstream = match side {
            Side::A => 1,
            Side::B => 0,
        };
        self.pair.follow(at(side), other.then_some(upstream));
    }

    fn streams(&mut self, side: Side, _wanted: bool) -> bool {
        self.pair.run(Duration::from_secs(3));
        self.pair.streams(at(side))
    }

    fn hold_replay(&mut self) {
        self.pair.hold_replay(1, LONG);
    }

    fn release_replay(&mut self) {
        self.pair.release_replay(1);
    }

    fn pretend(&mut self) {
        self.pair.pretend();
    }

    fn stands(&mut self) -> (bool, u64) {
        let (received, replayed) = self.pair.positions(1);
        (received.is_some(), replayed.0)
    }
}
