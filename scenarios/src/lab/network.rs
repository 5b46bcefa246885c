//! Sites with networks of their own, so that what passes between them can be cut, plane by plane
//! and direction by direction, while everything in them lives on.
//!
//! Each kind of daemon at a site is a network namespace with an address of its own: who speaks to
//! whom is then told by two addresses, whatever ports are used and whoever connected. All are on
//! point-to-point links to a hub namespace that routes and holds the faults, in one `nft` table
//! that is replaced whole. The addresses are of 198.18.0.0/15, set aside for measuring (RFC 2544),
//! and exist in these namespaces only; the machine's own network is not touched. Needs root, `ip`
//! and `nft`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use super::process;

/// The place of those who belong to no site.
pub const CLIENTS: &str = "clients";

/// Who has an address of its own at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// The voter.
    Voter,
    /// The agent and PostgreSQL.
    Database,
    /// The name server.
    Names,
    /// Clients.
    Clients,
}

impl Spot {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Voter, Self::Database, Self::Names, Self::Clients];

    const fn word(self) -> &'static str {
        match self {
            Self::Voter => "v",
            Self::Database => "p",
            Self::Names => "n",
            Self::Clients => "c",
        }
    }
}

/// Somebody with an address: a site (or [`CLIENTS`]) and a spot there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The site.
    pub site: String,
    /// Who there.
    pub spot: Spot,
}

/// What becomes of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They vanish.
    Dropped,
    /// So many of a hundred vanish.
    Lost(u8),
}

/// Packets from one end to another and what becomes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where they come from.
    pub from: End,
    /// Where they go.
    pub to: End,
    /// What becomes of them.
    pub fate: Fate,
}

/// The namespaces of a run. Dropped: gone.
#[derive(Debug)]
pub struct Network {
    run: String,
    ends: BTreeMap<End, Ipv4Addr>,
    faults: Mutex<Vec<Fault>>,
}

impl Network {
    /// Why namespaces cannot be had here; `None` when they can.
    pub fn missing() -> Option<String> {
        if !nix::unistd::Uid::effective().is_root() {
            return Some("cutting a site off needs network namespaces, and those need root".into());
        }
        let name = format!("baton-try-{}", std::process::id());
        let tried = ip(&["netns", "add", &name])
            .and_then(|()| nft(&name, "table inet baton\n"))
            .and_then(|()| ip(&["netns", "del", &name]));
        tried.err().map(|error| {
            remove(&[name]);
            format!("network namespaces cannot be had here: {error:#}")
        })
    }

    /// The names of the namespaces that a run with these sites makes.
    pub fn namespaces(run: &str, sites: &[&str]) -> Vec<String> {
        let hub = std::iter::once(format!("{run}-hub"));
        ends(sites).into_keys().map(|end| namespace(run, &end)).chain(hub).collect()
    }

    /// Makes them: all of `sites` at their [`address`]es, and the clients.
    ///
    /// # Errors
    /// Those of `ip` and `nft`.
    pub fn make(run: &str, sites: &[&str]) -> Result<Self> {
        // Made first, so that a failure half way is cleaned up too.
        let network =
            Self { run: run.to_owned(), ends: ends(sites), faults: Mutex::new(Vec::new()) };
        let hub = format!("{run}-hub");
        let mut all = format!("netns add {hub}\n");
        let mut inside = "link set lo up\n".to_owned();
        for (index, (end, address)) in network.ends.iter().enumerate() {
            let own = namespace(run, end);
            let _ = writeln!(all, "netns add {own}");
            let _ = write!(
                inside,
                "link add v{index} type veth peer name eth0 netns {own}\n\
                 address add {ROUTER}/32 dev v{index}\nlink set v{index} up\n\
                 route add {address}/32 dev v{index}\n"
            );
        }
        batch(None, &all)?;
        batch(Some(&hub), &inside)?;
        for (end, address) in &network.ends {
            let text = format!(
                "link set lo up\naddress add {address}/32 dev eth0\nlink set eth0 up\n\
                 route add {ROUTER}/32 dev eth0\nroute add default via {ROUTER} src {address}\n"
            );
            batch(Some(&namespace(run, end)), &text)?;
        }
        within(&hub, || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
        network.enact(&[])?;
        Ok(network)
    }

    /// The namespace of an end.
    pub fn namespace(&self, site: &str, spot: Spot) -> String {
        namespace(&self.run, &End { site: site.to_owned(), spot })
    }

    /// Everybody at a place.
    pub fn at(&self, site: &str) -> Vec<End> {
        self.ends.keys().filter(|end| end.site == site).cloned().collect()
    }

    /// Changes the faults, whole and at once.
    ///
    /// # Errors
    /// Those of `nft`; nothing has changed then.
    pub fn change(&self, change: impl FnOnce(&mut Vec<Fault>)) -> Result<()> {
        let mut held = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = held.clone();
        change(&mut wanted);
        self.enact(&wanted)?;
        *held = wanted;
        Ok(())
    }

    /// Cuts a site off: nothing gets in or out, silently. Inside it everything goes on.
    ///
    /// # Errors
    /// Those of `nft`.
    pub fn cut(&self, site: &str) -> Result<()> {
        let (here, there): (Vec<End>, Vec<End>) =
            self.ends.keys().cloned().partition(|end| end.site == site);
        if here.is_empty() {
            bail!("{site} is no site of this network");
        }
        self.change(|faults| {
            for (one, other) in here.iter().flat_map(|one| there.iter().map(move |o| (one, o))) {
                for (from, to) in [(one, other), (other, one)] {
                    let (from, to) = (from.clone(), to.clone());
                    faults.push(Fault { from, to, fate: Fate::Dropped });
                }
            }
        })
    }

    /// Undoes every fault of a site.
    ///
    /// # Errors
    /// Those of `nft`.
    pub fn heal(&self, site: &str) -> Result<()> {
        self.change(|faults| faults.retain(|f| f.from.site != site && f.to.site != site))
    }

    fn enact(&self, faults: &[Fault]) -> Result<()> {
        let mut text = "table inet baton\ndelete table inet baton\ntable inet baton {\n\
            chain faults { type filter hook forward priority 0; policy accept;\n"
            .to_owned();
        for fault in faults {
            let address = |end: &End| {
                let found = self.ends.get(end);
                found.with_context(|| format!("{} is no place of this network", end.site))
            };
            let (from, to) = (address(&fault.from)?, address(&fault.to)?);
            let _ = write!(text, "ip saddr {from} ip daddr {to} ");
            match fault.fate {
                Fate::Dropped => text.push_str("drop\n"),
                Fate::Lost(percent) => {
                    let _ = writeln!(text, "numgen random mod 100 < {} drop", percent.min(100));
                }
            }
        }
        text.push_str("}\n}\n");
        nft(&format!("{}-hub", self.run), &text)
    }

    /// Does `work` in a place: what it starts and every socket it opens belongs there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn inside<T: Send>(
        &self,
        site: &str,
        spot: Spot,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T> {
        within(&self.namespace(site, spot), work)
    }
}

/// The hub's address on every link.
const ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

fn ends(sites: &[&str]) -> BTreeMap<End, Ipv4Addr> {
    let mut all = BTreeMap::new();
    for (index, site) in sites.iter().enumerate() {
        for spot in Spot::ALL {
            all.insert(End { site: (*site).to_owned(), spot }, address(index, spot));
        }
    }
    let clients = End { site: CLIENTS.to_owned(), spot: Spot::Clients };
    all.insert(clients, address(200, Spot::Clients));
    all
}

fn namespace(run: &str, end: &End) -> String {
    format!("{run}-{}-{}", end.site, end.spot.word())
}

/// Does `work` on a thread that entered `namespace`; only that thread is moved.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let door = door(namespace)?;
    std::thread::scope(|scope| {
        let moved = scope.spawn(|| {
            setns(&door, CloneFlags::CLONE_NEWNET)?;
            Ok::<T, nix::Error>(work())
        });
        let done = moved.join().map_err(|_| anyhow::anyhow!("work inside {namespace} failed"))?;
        done.with_context(|| format!("cannot enter {namespace}"))
    })
}

/// Moves the calling thread into `namespace` for good.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn enter(namespace: &str) -> Result<()> {
    setns(&door(namespace)?, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter {namespace}"))
}

fn door(namespace: &str) -> Result<std::fs::File> {
    let path = format!("/run/netns/{namespace}");
    std::fs::File::open(&path).with_context(|| format!("cannot open {path}"))
}

impl Drop for Network {
    fn drop(&mut self) {
        let sites: Vec<&str> = self
            .ends
            .keys()
            .filter(|end| end.spot == Spot::Voter)
            .map(|end| end.site.as_str())
            .collect();
        remove(&Self::namespaces(&self.run, &sites));
    }
}

/// Removes namespaces, as far as they exist; their links go with them.
pub fn remove(namespaces: &[String]) {
    for namespace in namespaces.iter().rev() {
        if std::path::Path::new("/run/netns").join(namespace).exists() {
            let _ = ip(&["netns", "del", namespace]);
        }
    }
}

/// An address of the site with this index: 198.18.1.1 for the first one's voter, …
pub fn address(index: usize, spot: Spot) -> Ipv4Addr {
    let third = u8::try_from(index + 1).unwrap_or(u8::MAX);
    let last = match spot {
        Spot::Voter => 1,
        Spot::Database => 2,
        Spot::Names => 3,
        Spot::Clients => 4,
    };
    Ipv4Addr::new(198, 18, third, last)
}

fn ip(arguments: &[&str]) -> Result<()> {
    fed("ip", arguments, "")
}

fn batch(namespace: Option<&str>, lines: &str) -> Result<()> {
    let mut arguments = vec!["-batch", "-"];
    if let Some(namespace) = namespace {
        arguments.splice(0..0, ["-n", namespace]);
    }
    fed("ip", &arguments, lines)
}

fn nft(namespace: &str, text: &str) -> Result<()> {
    within(namespace, || fed("nft", &["-f", "-"], text))?
}

/// Runs `program` with `text` as its input.
fn fed(program: &str, arguments: &[&str], text: &str) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = process::spawn(&mut command);
    let mut child = started
        .with_context(|| format!("`{program}` is needed (packages iproute2 and nftables)"))?;
    let pid = process::pid_of(&child);
    let given = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
    let output = child.wait_with_output();
    process::waited(pid);
    let output = output.with_context(|| format!("cannot read what `{program}` says"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", arguments.join(" "), said.trim());
    }
    given.with_context(|| format!("cannot write to `{program}`"))
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
        let place = (address(0, Spot::Database), 7000);
        let east = network
            .inside("east", Spot::Database, || TcpListener::bind(place))
            .expect("it is there");
        let _east = east.expect("its address is free");
        let knock = |from: &str, bound| {
            network
                .inside(from, Spot::Clients, || {
                    TcpStream::connect_timeout(&place.into(), bound).map(drop)
                })
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
        let end = |site: &str, spot| End { site: site.to_owned(), spot };
        let one_way = Fault {
            from: end("east", Spot::Database),
            to: end("west", Spot::Clients),
            fate: Fate::Dropped,
        };
        network.change(|faults| faults.push(one_way)).expect("it can be cut");
        knock("west", Duration::from_millis(300)).expect_err("no answer comes back");
        knock(CLIENTS, long).expect("only the one link is cut");
        let left = network.namespace("east", Spot::Database);
        drop(network);
        assert!(!std::path::Path::new("/run/netns").join(left).exists());
    }
}
