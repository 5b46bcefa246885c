//! Ports for one run, reserved for as long as it lasts.
//!
//! A block is taken by listening on its first port: the kernel gives that to one process only and
//! takes it back whatever becomes of us, so two runs at once never share a block and no lock file
//! is left behind. Blocks lie below the range that outgoing connections use.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use anyhow::{Context, Result, bail};

const FIRST: u16 = 20_000;
const BLOCK: u16 = 8;
const BLOCKS: u16 = 1_400;

/// The ports of a run; every site uses the same numbers on its own address.
#[derive(Debug)]
pub struct Ports {
    /// The voter's.
    pub voter: u16,
    /// The agent's.
    pub agent: u16,
    /// PostgreSQL's.
    pub postgres: u16,
    /// The name server's, UDP and TCP.
    pub names: u16,
    /// Where a voter shows the page.
    pub page: u16,
    /// Holds the block; `None` where the addresses are ours alone.
    _held: Option<TcpListener>,
}

impl Ports {
    /// The usual ports, for addresses that exist for this run only.
    pub const fn usual() -> Self {
        Self { voter: 7400, agent: 7500, postgres: 5432, names: 5300, page: 7490, _held: None }
    }

    /// A block that is free on every one of `addresses`.
    ///
    /// # Errors
    /// When an address is not of this machine or no block is free.
    pub fn reserve(addresses: &[Ipv4Addr]) -> Result<Self> {
        let home = *addresses.first().context("a run has at least one site")?;
        TcpListener::bind((home, 0)).with_context(|| {
            format!("{home} cannot be used: the lab needs the loopback network 127.0.0.0/8")
        })?;
        // Parallel runs begin at different places, so that they seldom meet.
        let begin = u16::try_from(std::process::id() % u32::from(BLOCKS)).unwrap_or(0);
        for turn in 0..BLOCKS {
            let base = FIRST + (begin + turn) % BLOCKS * BLOCK;
            let Ok(held) = TcpListener::bind((home, base)) else { continue };
            if addresses.iter().all(|address| is_free(*address, base)) {
                return Ok(Self {
                    voter: base + 1,
                    agent: base + 2,
                    postgres: base + 3,
                    names: base + 4,
                    page: base + 5,
                    _held: Some(held),
                });
            }
        }
        bail!("no free block of ports from {FIRST} on: is another run stuck? try `make down`")
    }
}

fn is_free(address: Ipv4Addr, base: u16) -> bool {
    let ip = IpAddr::V4(address);
    (1..BLOCK).all(|offset| {
        let place = SocketAddr::new(ip, base + offset);
        TcpListener::bind(place).is_ok() && UdpSocket::bind(place).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_get_different_ports() {
        let address = Ipv4Addr::new(127, 0, 9, 1);
        let one = Ports::reserve(&[address]).expect("a block is free");
        let two = Ports::reserve(&[address]).expect("another is free");
        assert_ne!(one.voter, two.voter);
        assert!(TcpListener::bind((address, one.postgres)).is_ok(), "its ports stay free for it");
    }
}
