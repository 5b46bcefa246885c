//! A primary and its standby, each an agent of its own process under a voter of its own.

use super::process::{Agent, primary, writable};
use super::voter::Voter;
use super::{World, id, wait_for};
use failover::{Epoch, Generation, Role};
use std::path::PathBuf;

/// Primary `a` and standby `b`.
pub struct Pair {
    pub at_a: Voter,
    pub at_b: Voter,
    pub a: Agent,
    pub b: Agent,
    // Last: what the agents need goes after them.
    pub world: World,
}

impl Pair {
    /// Admitted, and enforced.
    pub async fn new() -> Self {
        Self::start(World::new(&["a", "b"]), None).await
    }

    /// The same, where the primary's guard feeds a file in place of a watchdog.
    pub async fn watched() -> (Self, PathBuf) {
        let mut world = World::new(&["a", "b"]);
        world.fence_at_leisure();
        let device = world.folder.path().join("watchdog");
        std::fs::write(&device, "").unwrap();
        (Self::start(world, Some(device.clone())).await, device)
    }

    async fn start(mut world: World, device: Option<PathBuf>) -> Self {
        world.watchdog = device;
        let (at_a, at_b) = (Voter::start(&world).await, Voter::start(&world).await);
        let a = Agent::start(&world, "a", &at_a);
        world.watchdog = None;
        let b = Agent::start(&world, "b", &at_b);
        at_a.show(world.assignment("a", 1, primary(), &["b"], 1), Some(Epoch(1)));
        let follows = Role::Standby { upstream: id("a") };
        at_b.show(world.assignment("b", 1, follows, &[], 0), None);
        wait_for("admitted", || writable(&at_a) == Some(true)).await;
        let enforced = Some(Generation(1));
        wait_for("enforced", || at_a.last().is_some_and(|r| r.enforced == enforced)).await;
        Self { at_a, at_b, a, b, world }
    }
}
