//! Sites with networks of their own, so that one can be cut off while it lives on.
//!
//! Each site is a network namespace on a point-to-point link to a hub namespace that routes;
//! clients have one too. A cut drops, at the hub, every packet from and to a site: nothing is
//! refused, nothing answers, and inside the site everything goes on. The addresses are of
//! 198.18.0.0/15, set aside for measuring (RFC 2544), and exist in these namespaces only; the
//! machine's own network is not touched. Needs root and `ip`.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use super::process;

/// The namespaces of a run. Dropped: gone.
#[derive(Debug)]
pub struct Network {
    run: String,
    places: Vec<String>,
}

/// The place of those who belong to no site.
pub const CLIENTS: &str = "clients";

impl Network {
    /// Why namespaces cannot be had here; `None` when they can.
    pub fn missing() -> Option<String> {
        if !nix::unistd::Uid::effective().is_root() {
            return Some("cutting a site off needs network namespaces, and those need root".into());
        }
        let name = format!("baton-try-{}", std::process::id());
        let tried = ip(&["netns", "add", &name]).and_then(|()| ip(&["netns", "del", &name]));
        tried.err().map(|error| format!("network namespaces cannot be had here: {error:#}"))
    }

    /// The names of the namespaces that a run with these sites makes.
    pub fn namespaces(run: &str, sites: &[&str]) -> Vec<String> {
        let places = sites.iter().chain([&CLIENTS, &"hub"]);
        places.map(|place| format!("{run}-{place}")).collect()
    }

    /// Makes them: each of `sites` at [`address`], and the clients.
    ///
    /// # Errors
    /// Those of `ip`.
    pub fn make(run: &str, sites: &[&str]) -> Result<Self> {
        let places: Vec<String> =
            sites.iter().chain([&CLIENTS]).map(|place| (*place).to_owned()).collect();
        // Made first, so that a failure half way is cleaned up too.
        let network = Self { run: run.to_owned(), places };
        let hub = network.namespace("hub");
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "set", "lo", "up"])?;
        for (index, place) in network.places.iter().enumerate() {
            network.attach(&hub, place, index)?;
        }
        network.inside("hub", || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
        Ok(network)
    }

    fn attach(&self, hub: &str, place: &str, index: usize) -> Result<()> {
        let own = self.namespace(place);
        let link = format!("site{index}");
        let here = address(index);
        let router = Ipv4Addr::from(u32::from(here) + 253);
        ip(&["netns", "add", &own])?;
        ip(&["-n", &own, "link", "set", "lo", "up"])?;
        ip(&["-n", hub, "link", "add", &link, "type", "veth", "peer", "eth0", "netns", &own])?;
        ip(&["-n", &own, "address", "add", &format!("{here}/24"), "dev", "eth0"])?;
        ip(&["-n", &own, "link", "set", "eth0", "up"])?;
        ip(&["-n", hub, "address", "add", &format!("{router}/24"), "dev", &link])?;
        ip(&["-n", hub, "link", "set", &link, "up"])?;
        ip(&["-n", &own, "route", "add", "default", "via", &router.to_string()])
    }

    /// The namespace of a place.
    pub fn namespace(&self, place: &str) -> String {
        format!("{}-{place}", self.run)
    }

    /// Cuts a site off: nothing gets in or out, silently.
    ///
    /// # Errors
    /// Those of `ip`.
    pub fn cut(&self, site: &str) -> Result<()> {
        self.rules("add", site)
    }

    /// Undoes [`Network::cut`].
    ///
    /// # Errors
    /// Those of `ip`.
    pub fn heal(&self, site: &str) -> Result<()> {
        self.rules("del", site)
    }

    fn rules(&self, verb: &str, site: &str) -> Result<()> {
        let found = self.places.iter().position(|place| place == site);
        let index = found.with_context(|| format!("{site} is no site of this network"))?;
        let hub = self.namespace("hub");
        let link = format!("site{index}");
        let there = format!("{}/24", address(index));
        ip(&["-n", &hub, "rule", verb, "iif", &link, "priority", "10", "blackhole"])?;
        ip(&["-n", &hub, "rule", verb, "to", &there, "priority", "11", "blackhole"])
    }

    /// Does `work` in a place: what it starts and every socket it opens belongs there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn inside<T: Send>(&self, place: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
        inside(&self.namespace(place), work)
    }
}

/// Does `work` on a thread that entered `namespace`; only that thread is moved.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let path = format!("/run/netns/{namespace}");
    let door = std::fs::File::open(&path).with_context(|| format!("cannot open {path}"))?;
    std::thread::scope(|scope| {
        let moved = scope.spawn(|| {
            setns(&door, CloneFlags::CLONE_NEWNET)?;
            Ok::<T, nix::Error>(work())
        });
        let done = moved.join().map_err(|_| anyhow::anyhow!("work inside {namespace} failed"))?;
        done.with_context(|| format!("cannot enter {path}"))
    })
}

impl Drop for Network {
    fn drop(&mut self) {
        let names: Vec<&str> = self.places.iter().map(String::as_str).collect();
        let sites: Vec<&str> = names.into_iter().filter(|place| *place != CLIENTS).collect();
        remove(&Self::namespaces(&self.run, &sites));
    }
}

/// Removes namespaces, as far as they exist; their links go with them.
pub fn remove(namespaces: &[String]) {
    for namespace in namespaces {
        let _ = ip(&["netns", "del", namespace]);
    }
}

/// The address of the place with this index: 198.18.1.1, 198.18.2.1, …
pub fn address(index: usize) -> Ipv4Addr {
    let third = u8::try_from(index + 1).unwrap_or(u8::MAX);
    Ipv4Addr::new(198, 18, third, 1)
}

fn ip(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = process::spawn(&mut command).context("`ip` is needed (package iproute2)")?;
    let pid = process::pid_of(&child);
    let output = child.wait_with_output();
    process::waited(pid);
    let output = output.context("cannot read what `ip` says")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    #[test]
    fn a_cut_site_is_silent_and_alive() {
        if let Some(why) = Network::missing() {
            eprintln!("skipped: {why}");
            return;
        }
        let run = format!("batontest{}", std::process::id());
        let network = Network::make(&run, &["east", "west"]).expect("namespaces can be made");
        let place = (address(0), 7000);
        let east = network.inside("east", || TcpListener::bind(place)).expect("it is there");
        let _east = east.expect("its address is free");
        let knock = |from: &str, bound| {
            network
                .inside(from, || TcpStream::connect_timeout(&place.into(), bound).map(drop))
                .expect("it is there")
        };
        let long = Duration::from_secs(5);
        knock("west", long).expect("connected");
        network.cut("east").expect("it can be cut");
        let silent = knock("west", Duration::from_millis(300)).expect_err("it is cut");
        assert_eq!(silent.kind(), ErrorKind::TimedOut);
        knock("east", long).expect("inside all goes on");
        network.heal("east").expect("it can be healed");
        knock(CLIENTS, long).expect("connected again");
        let left = network.namespace("east");
        drop(network);
        assert!(!std::path::Path::new("/run/netns").join(left).exists());
    }
}
