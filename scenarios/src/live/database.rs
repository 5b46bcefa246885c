//! Asking PostgreSQL itself, as its superuser over its own socket: the only witness beside the
//! clients.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::binaries::{complaint, run};
use crate::lab::cluster::Cluster;
use crate::lab::directory::Account;
use crate::lab::network::{Spot, within};
use crate::lab::process;
use crate::lab::stop::Stop;

/// The client programs of PostgreSQL; Debian's wrappers would cost more than the query.
pub(super) fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| name.into())
}

/// `psql` as the superuser of a site's PostgreSQL.
///
/// # Errors
/// When no account can be had.
pub(super) fn psql(cluster: &Cluster, site: &str) -> Result<Command> {
    let mut command = Command::new(program("psql"));
    command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres"]);
    command.args(["-U", "postgres", "-p", &cluster.layout.ports.postgres.to_string()]);
    command.arg("-h").arg(cluster.layout.run(site));
    command.env("PGCONNECT_TIMEOUT", "3").env("PGAPPNAME", "baton-lab");
    as_owner(cluster, site, &mut command)?;
    Ok(command)
}

/// Lets `command` run as the user that owns the databases, as one of the site's processes.
///
/// # Errors
/// When no account can be had.
pub(super) fn as_owner(cluster: &Cluster, site: &str, command: &mut Command) -> Result<()> {
    if let Some((uid, gid)) = Account::choose()?.drop_to {
        command.uid(uid).gid(gid);
    }
    command.env(process::MARK, cluster.mark_of(site)).current_dir("/").process_group(0);
    Ok(())
}

/// What a query answers, columns by `|`, rows by line.
///
/// # Errors
/// What `psql` says; that it took longer than `bound`.
pub(super) fn ask(cluster: &Cluster, site: &str, query: &str, bound: Duration) -> Result<String> {
    let mut command = psql(cluster, site)?;
    command.args(["-c", query]);
    let output = run(&Stop::default(), &mut command, bound)?;
    if !output.status.success() {
        bail!("psql at {site}: {}", complaint(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Starts statements that go on by themselves.
///
/// # Errors
/// When `psql` cannot be started.
pub(super) fn begin(cluster: &Cluster, site: &str, statements: &[&str]) -> Result<Child> {
    let mut command = psql(cluster, site)?;
    for statement in statements {
        command.args(["-c", statement]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    process::spawn(&mut command).context("cannot start psql")
}

/// Starts statements of a client that goes to a site's own PostgreSQL, from inside the site.
///
/// # Errors
/// When `psql` cannot be started.
pub(super) fn read(cluster: &Cluster, site: &str, statements: &[&str]) -> Result<Child> {
    let operator = cluster.layout.folder.join("operator");
    let file = |name: &str| operator.join(name).display().to_string();
    let server = cluster.layout.postgres(site);
    let conninfo = format!(
        "host={} port={} user=baton_probe dbname=postgres connect_timeout=3 sslmode=verify-ca \
         sslrootcert={} sslcert={} sslkey={}",
        server.ip(),
        server.port(),
        file("ca.crt"),
        file("probe.crt"),
        file("probe.key"),
    );
    let mut command = Command::new(program("psql"));
    command.args(["-X", "-A", "-t", "-q", "-d", &conninfo]);
    for statement in statements {
        command.args(["-c", statement]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    as_owner(cluster, site, &mut command)?;
    let namespace = cluster.network()?.namespace(site, Spot::Clients);
    within(&namespace, || process::spawn(&mut command))?.context("cannot start psql")
}
