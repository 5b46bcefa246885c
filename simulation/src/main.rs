//! `baton-sim`: plays the catalogue and random disasters in the simulated world.

fn main() {}
