//! What people and machines do to PostgreSQL that no network fault does: its holes, each used on
//! purpose (F-10 to F-19), and disks that hold what they should not.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wire::clock;

use super::database::{self, as_owner, program};
use super::stage::Stage;
use super::verbs::SOON;
use crate::lab::cluster::control::Part;
use crate::lab::layout::Kind;
use crate::lab::network::{CLIENTS, Spot, within};
use crate::lab::process;
use crate::script::Places;
use crate::script::verb::{Cancel, Canceller, Damage, For, Harm, Impostor};

fn only(stage: &Stage<'_>, places: &Places) -> Result<String> {
    stage.sites(places, None)?.into_iter().next().context("which site?")
}

/// Ends waits for synchronous replication: of every client that waits, or of one inside `CALL`.
pub(super) fn cancel(stage: &Stage<'_>, what: &Cancel) -> Result<()> {
    let site = only(stage, &what.site)?;
    match what.by {
        Canceller::Client => {
            // A client's cancel request is this signal to its own backend, and no more.
            let query = "select count(pg_cancel_backend(pid)) from pg_stat_activity \
                where wait_event = 'SyncRep' and usename = 'baton_probe'";
            for _ in 0..30 {
                let ended = database::ask(&stage.cluster, &site, query, SOON)?;
                if ended != "0" {
                    return Ok(());
                }
                stage.stop.pause(Duration::from_millis(100))?;
            }
            bail!("no client waits for synchronous replication at {site}")
        }
        Canceller::Procedure => {
            let call = format!("call baton_probe.append('{}-called', 9999, 1)", stage.run);
            let statements = ["set statement_timeout = '1s'", &call];
            let child = database::begin(&stage.cluster, &site, &statements)?;
            stage.lock().children.push(child);
            Ok(())
        }
    }
}

/// A superuser empties `synchronous_standby_names`, above every file of the agent's (F-13).
pub(super) fn empty_setting(stage: &Stage<'_>, places: &Places) -> Result<()> {
    let site = only(stage, places)?;
    let query = "alter system set synchronous_standby_names = ''";
    database::ask(&stage.cluster, &site, query, SOON)?;
    database::ask(&stage.cluster, &site, "select pg_reload_conf()", SOON).map(drop)
}

/// `pg_receivewal`, which acknowledges what it wrote and has no database behind it (F-14).
pub(super) fn impostor(stage: &Stage<'_>, what: &Impostor) -> Result<()> {
    let cluster = &stage.cluster;
    let site = only(stage, &what.site)?;
    let name = only(stage, &what.name)?;
    let whose = match &what.certificate {
        Some(places) => only(stage, places)?,
        None if stage.holds_data(&site) => site.clone(),
        // A witness has no instance's certificate: the best that it can show is another's.
        None => stage.home()?,
    };
    let primary = stage.home()?;
    let server = cluster.layout.postgres(&primary);
    let folder = cluster.folder().join(format!("impostor-{site}"));
    std::fs::create_dir_all(&folder)?;
    let secrets = cluster.layout.run(&whose).join("tls");
    for file in ["ca.crt", "tls.crt", "tls.key"] {
        std::fs::copy(secrets.join(file), folder.join(file))?;
    }
    let account = crate::lab::directory::Account::choose()?;
    crate::lab::directory::give(&folder, &account)?;
    let file = |name: &str| folder.join(name).display().to_string();
    let conninfo = format!(
        "host={} port={} user=baton-{whose}-1 application_name={name}-1 sslmode=verify-full \
         sslrootcert={} sslcert={} sslkey={}",
        server.ip(),
        server.port(),
        file("ca.crt"),
        file("tls.crt"),
        file("tls.key"),
    );
    let log = std::fs::File::create(folder.join("impostor.log"))?;
    let mut command = Command::new(program("pg_receivewal"));
    command.args(["--synchronous", "--verbose", "--status-interval=1", "-D"]).arg(&folder);
    command.args(["-d", &conninfo]);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    as_owner(cluster, &site, &mut command)?;
    let namespace = cluster.network()?.namespace(&site, Spot::Database);
    let child = within(&namespace, || process::spawn(&mut command))??;
    stage.lock().children.push(child);
    Ok(())
}

/// Freezes the checkpointer, which hands the new rule to everybody (F-15).
pub(super) fn stall_checkpointer(stage: &Stage<'_>, what: &For) -> Result<()> {
    let site = only(stage, &what.site)?;
    let query = "select pid from pg_stat_activity where backend_type = 'checkpointer'";
    let pid: i32 = database::ask(&stage.cluster, &site, query, SOON)?.parse()?;
    let pid = Pid::from_raw(pid);
    kill(pid, Signal::SIGSTOP)?;
    let (stop, lasts) = (stage.stop.clone(), what.lasts);
    std::thread::spawn(move || {
        let _ = stop.pause(lasts);
        let _ = kill(pid, Signal::SIGCONT);
    });
    Ok(())
}

/// A session that is content with the primary's own disk (F-16).
pub(super) fn local_session(stage: &Stage<'_>, what: &For) -> Result<()> {
    let site = only(stage, &what.site)?;
    stage.lock_load().local_session(&stage.cluster, &site)
}

/// A reader of a standby whose query blocks replay, where a superuser lets it (F-19).
pub(super) fn long_query(stage: &Stage<'_>, what: &For) -> Result<()> {
    let cluster = &stage.cluster;
    let site = only(stage, &what.site)?;
    let patient = "alter system set max_standby_streaming_delay = -1";
    database::ask(cluster, &site, patient, SOON)?;
    database::ask(cluster, &site, "select pg_reload_conf()", SOON)?;
    let sleep = format!("select pg_sleep({})", what.lasts.as_secs());
    let statements = ["begin isolation level repeatable read", "table baton_probe.lock", &sleep];
    let child = database::read(cluster, &site, &statements)?;
    stage.lock().children.push(child);
    let asleep = "select count(*) from pg_stat_activity where query like 'select pg_sleep%'";
    stage.stop.until("the long query", SOON, Duration::from_millis(50), || {
        Ok((database::ask(cluster, &site, asleep, SOON)? == "1").then_some(()))
    })?;
    let home = stage.home()?;
    // Replay stops at this record's lock.
    let column = format!("x{}", clock::now().0);
    let alter = format!("alter table baton_probe.lock add column {column} int");
    database::ask(cluster, &home, &alter, SOON).map(drop)
}

/// Questions as fast as one client can ask them.
pub(super) fn storm(stage: &Stage<'_>, what: &For) -> Result<()> {
    let layout = &stage.cluster.layout;
    let sites = stage.sites(&what.site, None)?;
    let servers: Vec<SocketAddr> = sites.iter().map(|site| layout.name_server(site)).collect();
    let namespace = stage.cluster.network()?.namespace(CLIENTS, Spot::Clients);
    let (stop, until) = (stage.stop.clone(), clock::now().after(what.lasts));
    std::thread::spawn(move || {
        let _ =
            within(&namespace, || flood(&servers, || stop.check().is_ok() && clock::now() < until));
    });
    Ok(())
}

/// Twenty thousand questions a second at the most: a sender that takes a whole processor of two
/// would starve what it asks.
fn flood(servers: &[SocketAddr], go_on: impl Fn() -> bool) {
    let Ok(socket) = std::net::UdpSocket::bind("0.0.0.0:0") else { return };
    let _ = socket.set_nonblocking(true);
    let mut question = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in crate::lab::layout::writable_name().trim_end_matches('.').split('.') {
        question.push(u8::try_from(label.len()).unwrap_or(0));
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let mut buffer = [0_u8; 512];
    while go_on() {
        for _ in 0..40 {
            for server in servers {
                let _ = socket.send_to(&question, server);
            }
        }
        while socket.recv(&mut buffer).is_ok() {}
        crate::lab::stop::breathe(Duration::from_millis(2));
    }
}

/// What lies on a disk becomes something else, while its process is down.
pub(super) fn damage(stage: &Stage<'_>, what: &Damage) -> Result<()> {
    for site in stage.sites(&what.site, None)? {
        let voter = stage.cluster.layout.daemon(&site, Kind::Voter).0.join("data/voter.redb");
        match what.how {
            Harm::FlippedLog => flip(&voter)?,
            Harm::Foreign => foreign(stage, &site)?,
            Harm::Stale => stale(stage, &site)?,
            Harm::Pages => pages(stage, &site)?,
        }
    }
    Ok(())
}

/// Every page that holds something gets one bit turned: where the log lies is not for us to know.
fn flip(path: &std::path::Path) -> Result<()> {
    let mut bytes = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
    // The first page tells the format; damage there is too easily seen.
    for page in bytes.chunks_mut(4_096).skip(1) {
        let used = page.iter().position(|byte| *byte != 0);
        if let Some(byte) = used.and_then(|at| page.get_mut(at + (4_096 - at) / 2)) {
            *byte ^= 0x10;
        }
    }
    std::fs::write(path, bytes)?;
    Ok(())
}

/// Lets the log need new files: those that are there already have room on a full disk too.
pub(super) fn grow_log(stage: &Stage<'_>) -> Result<()> {
    let home = stage.home()?;
    let statements = ["select pg_switch_wal()", "select pg_sleep(0.3)"].repeat(8);
    let child = database::begin(&stage.cluster, &home, &statements)?;
    stage.lock().children.push(child);
    Ok(())
}

/// Another cluster's directory, with another system identifier.
fn foreign(stage: &Stage<'_>, site: &str) -> Result<()> {
    let data = stage.cluster.layout.data(site);
    std::fs::remove_dir_all(&data)?;
    let mut command = Command::new(program("initdb"));
    command.arg("-D").arg(&data).args(["-U", "postgres", "-N", "-E", "UTF8", "--locale=C"]);
    as_owner(&stage.cluster, site, &mut command)?;
    let output = crate::lab::binaries::run(&stage.stop, &mut command, Duration::from_mins(1))?;
    anyhow::ensure!(output.status.success(), "initdb failed");
    Ok(())
}

/// Every page of a table that nobody changes has other content than its checksum says. Pages that
/// are in memory or in the log since the last checkpoint would hide it.
fn pages(stage: &Stage<'_>, site: &str) -> Result<()> {
    let cluster = &stage.cluster;
    let home = stage.home()?;
    database::ask(cluster, &home, "checkpoint", SOON * 3)?;
    stage.stop.pause(Duration::from_secs(1))?;
    database::ask(cluster, site, "checkpoint", SOON * 3)?;
    // Files of a standby are called as those of its primary.
    let query = "select pg_relation_filepath('baton_probe.kept')";
    let path = cluster.layout.data(site).join(database::ask(cluster, &home, query, SOON)?);
    cluster.kill_part(site, Part::Postgres);
    let mut bytes = std::fs::read(&path).with_context(|| format!("{}", path.display()))?;
    for page in bytes.chunks_mut(8_192) {
        if let Some(byte) = page.get_mut(8_000) {
            *byte ^= 0x5a;
        }
    }
    std::fs::write(path, bytes)?;
    // A page is found damaged when somebody reads it.
    stage.stop.until("a damaged page", SOON * 2, Duration::from_millis(300), || {
        let count = "select count(*) from baton_probe.kept";
        let said = database::ask(cluster, site, count, SOON);
        Ok(said.err().is_some_and(|error| error.to_string().contains("invalid page")).then_some(()))
    })
}

/// Where the copy of a directory is kept until it is put in its place.
fn copy_of(stage: &Stage<'_>, site: &str) -> std::path::PathBuf {
    stage.cluster.folder().join(format!("stale-{site}"))
}

/// Copies a site's directory as a power cut would leave it, for [`Harm::Stale`].
pub(super) fn keep_copy(stage: &Stage<'_>, site: &str) -> Result<()> {
    let cluster = &stage.cluster;
    cluster.signal_part(site, Part::Postgres, Signal::SIGSTOP);
    cluster.signal_part(site, Part::Postgres, Signal::SIGSTOP);
    let copied = copy(&cluster.layout.data(site), &copy_of(stage, site));
    cluster.signal_part(site, Part::Postgres, Signal::SIGCONT);
    copied
}

fn stale(stage: &Stage<'_>, site: &str) -> Result<()> {
    let data = stage.cluster.layout.data(site);
    std::fs::remove_dir_all(&data)?;
    copy(&copy_of(stage, site), &data)?;
    let _ = std::fs::remove_file(data.join("postmaster.pid"));
    Ok(())
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.arg("-a").arg(from).arg(to);
    let bound = Duration::from_secs(30);
    let output =
        crate::lab::binaries::run(&crate::lab::stop::Stop::default(), &mut command, bound)?;
    anyhow::ensure!(output.status.success(), "cp failed");
    Ok(())
}

/// A service manager starts the postmaster though its agent is down (SC-51).
pub(super) fn start_behind_the_back(stage: &Stage<'_>, site: &str) -> Result<()> {
    let cluster = &stage.cluster;
    let data = cluster.layout.data(site);
    let config = format!("-c config_file={}/postgresql.conf", cluster.layout.run(site).display());
    let mut command = Command::new(program("pg_ctl"));
    command.arg("-D").arg(&data).args(["-W", "-s", "-o", &config, "-l", "/dev/null", "start"]);
    as_owner(cluster, site, &mut command)?;
    let namespace = cluster.network()?.namespace(site, Spot::Database);
    let bound = Duration::from_secs(20);
    let run = || crate::lab::binaries::run(&stage.stop, &mut command, bound);
    let output = within(&namespace, run)??;
    anyhow::ensure!(output.status.success(), "pg_ctl failed");
    Ok(())
}
