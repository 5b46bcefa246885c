//! Foreign name servers: BIND and Knot as secondaries of baton's, by AXFR and NOTIFY. They stand
//! where the clients are.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::database::as_owner;
use super::stage::Stage;
use crate::lab::cluster::Cluster;
use crate::lab::directory::{Account, give};
use crate::lab::layout::{ORIGIN, writable_name};
use crate::lab::names::Watched;
use crate::lab::network::{self, CLIENTS, Spot, within};
use crate::lab::process::{self, wait_or_kill};
use crate::lab::stop::Stop;
use crate::script::setting::Secondary;

/// Both of them answer within this once they were told.
const TOLD: Duration = Duration::from_millis(500);

/// Where one listens.
pub(super) fn address(which: Secondary) -> SocketAddr {
    let port = match which {
        Secondary::Bind => 5_301,
        Secondary::Knot => 5_302,
    };
    SocketAddr::from((network::address(200, Spot::Clients), port))
}

const fn program(which: Secondary) -> &'static str {
    match which {
        Secondary::Bind => "named",
        Secondary::Knot => "knotd",
    }
}

fn found(which: Secondary) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"];
    folders.iter().map(|f| Path::new(f).join(program(which))).find(|path| path.is_file())
}

/// Why one of them cannot be had; `None` when all can.
pub(super) fn missing(wanted: &[Secondary]) -> Option<String> {
    let lacking = wanted.iter().find(|which| found(**which).is_none())?;
    let package = match lacking {
        Secondary::Bind => "bind9",
        Secondary::Knot => "knot",
    };
    Some(format!("`{}` is not installed (package {package})", program(*lacking)))
}

/// Running ones. Dropped: ended.
#[derive(Debug)]
pub struct Secondaries {
    running: Vec<(Secondary, Child)>,
}

impl Secondaries {
    /// Starts them and waits until they answer.
    ///
    /// # Errors
    /// When one does not.
    pub(super) fn start(cluster: &Cluster, wanted: &[Secondary], stop: &Stop) -> Result<Self> {
        let mut own = Self { running: Vec::new() };
        for which in wanted {
            let folder = cluster.folder().join(program(*which));
            std::fs::create_dir_all(&folder)?;
            let config = folder.join("config");
            std::fs::write(&config, configuration(*which, cluster, &folder))?;
            give(&folder, &Account::choose()?)?;
            let log = std::fs::File::create(folder.join("secondary.log"))?;
            let path = found(*which).context("it is installed")?;
            let mut command = Command::new(path);
            command.arg("-c").arg(&config);
            if *which == Secondary::Bind {
                command.arg("-g");
            }
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            as_owner(cluster, CLIENTS, &mut command)?;
            let namespace = cluster.network()?.namespace(CLIENTS, Spot::Clients);
            let child = within(&namespace, || process::spawn(&mut command))??;
            own.running.push((*which, child));
        }
        for which in wanted {
            let what = format!("the zone at {}", program(*which));
            let bound = Duration::from_secs(30);
            stop.until(&what, bound, Duration::from_millis(100), || {
                Ok(ask(cluster, *which).map(drop))
            })?;
        }
        Ok(own)
    }

    /// Which one does not answer with the primary's address.
    pub(super) fn disagreeing(&self, stage: &Stage<'_>, primary: Ipv4Addr) -> Option<String> {
        self.running.iter().find_map(|(which, _)| {
            let answer = ask(&stage.cluster, *which);
            (answer != Some(primary)).then(|| format!("{} answers {answer:?}", program(*which)))
        })
    }
}

impl Drop for Secondaries {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
            wait_or_kill(child, Duration::from_secs(2));
        }
    }
}

fn ask(cluster: &Cluster, which: Secondary) -> Option<Ipv4Addr> {
    let asked = cluster.at_clients(|| {
        let mut watched = Watched::new(CLIENTS, address(which), &writable_name()).ok()?;
        watched.ask(TOLD)
    });
    asked.ok().flatten()
}

fn configuration(which: Secondary, cluster: &Cluster, folder: &Path) -> String {
    let layout = &cluster.layout;
    let primaries: Vec<SocketAddr> =
        layout.shape.names().iter().map(|site| layout.name_server(site)).collect();
    let own = address(which);
    let (at, zone) = (folder.display(), ORIGIN.trim_end_matches('.'));
    match which {
        Secondary::Bind => {
            let mut list = String::new();
            for primary in &primaries {
                let _ = write!(list, "{} port {}; ", primary.ip(), primary.port());
            }
            format!(
                "options {{ directory \"{at}\"; listen-on port {} {{ {}; }}; \
                 listen-on-v6 {{ none; }}; pid-file none; session-keyfile none; recursion no; \
                 notify no; dnssec-validation no; }};\ncontrols {{}};\n\
                 zone \"{zone}\" {{ type secondary; file \"zone\"; primaries {{ {list}}}; }};\n",
                own.port(),
                own.ip(),
            )
        }
        Secondary::Knot => {
            let mut text = format!(
                "server:\n  rundir: {at}\n  listen: {}@{}\ndatabase:\n  storage: {at}\nlog:\n  \
                 - target: stderr\n    any: info\nremote:\n",
                own.ip(),
                own.port()
            );
            for (number, primary) in primaries.iter().enumerate() {
                let place = format!("{}@{}", primary.ip(), primary.port());
                let _ = write!(text, "  - id: p{number}\n    address: {place}\n");
            }
            let ids: Vec<String> = (0..primaries.len()).map(|n| format!("p{n}")).collect();
            let ips: Vec<String> = primaries.iter().map(|p| p.ip().to_string()).collect();
            let _ = write!(
                text,
                "acl:\n  - id: told\n    address: [{}]\n    action: notify\nzone:\n  \
                 - domain: {zone}\n    storage: {at}\n    master: [{}]\n    acl: told\n",
                ips.join(", "),
                ids.join(", ")
            );
            text
        }
    }
}
