//! The probe writer against a real PostgreSQL: an outage is measured, and a loss is found.
//!
//! Without PostgreSQL's programs in the usual places nothing is tested, and that is said.

use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use serde_json::Value;
use tempfile::TempDir;
use wire::clock::now;

/// More than anything here should take.
const GENEROUS: Duration = Duration::from_secs(30);

fn programs() -> Option<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}

/// PostgreSQL refuses to run as root.
fn as_postgres(command: &mut Command) -> &mut Command {
    if geteuid().is_root()
        && let Ok(Some(user)) = User::from_name("postgres")
    {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn give(path: &Path) {
    if geteuid().is_root()
        && let Ok(Some(user)) = User::from_name("postgres")
    {
        chown(path, Some(user.uid), Some(user.gid)).expect("root may");
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = now();
    while !holds() {
        assert!(now().since(begun) < GENEROUS, "{what}: not within {GENEROUS:?}");
        // A pause between two looks; the condition is what counts.
        let (_sender, receiver) = std::sync::mpsc::channel::<()>();
        assert!(receiver.recv_timeout(Duration::from_millis(20)).is_err());
    }
}

struct Server {
    bin: PathBuf,
    data: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Server {
    fn create(bin: PathBuf, folder: &Path) -> Self {
        let data = folder.join("pgdata");
        std::fs::create_dir(&data).expect("writable");
        give(&data);
        let mut initdb = Command::new(bin.join("initdb"));
        initdb.args(["-A", "trust", "-U", "postgres", "-N", "-D"]).arg(&data).current_dir("/");
        let made = as_postgres(&mut initdb).output().expect("initdb is there");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let agent = folder.join("out/a/agent-a-1");
        for (from, to) in [("tls.crt", "s.crt"), ("tls.key", "s.key"), ("ca.crt", "ca.crt")] {
            std::fs::copy(agent.join(from), data.join(to)).expect("init wrote it");
            give(&data.join(to));
        }
        let hba = "local all all trust\nhostssl postgres baton_probe 127.0.0.1/32 cert\n";
        std::fs::write(data.join("pg_hba.conf"), hba).expect("writable");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        Self { bin, data, port, child: None }
    }

    fn start(&mut self) {
        let mut command = Command::new(self.bin.join("postgres"));
        command.arg("-D").arg(&self.data).current_dir("/");
        for setting in [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", self.data.display()),
            "ssl=on".to_owned(),
            "ssl_cert_file=s.crt".to_owned(),
            "ssl_key_file=s.key".to_owned(),
            "ssl_ca_file=ca.crt".to_owned(),
        ] {
            command.arg("-c").arg(setting);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(as_postgres(&mut command).spawn().expect("postgres is there"));
        until("PostgreSQL answers", || self.sql("select 1"));
    }

    fn sql(&self, text: &str) -> bool {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-X", "-q", "-U", "postgres", "-h"]).arg(&self.data);
        psql.args(["-p", &self.port.to_string(), "-v", "ON_ERROR_STOP=1", "-c", text]);
        psql.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
        as_postgres(&mut psql).status().expect("psql is there").success()
    }

    /// At once, as after a crash.
    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process number"));
            kill(pid, Signal::SIGQUIT).expect("it is our child");
            child.wait().expect("it is our child");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn cluster(folder: &Path) {
    let mut text = "[cluster]\nname = \"t\"\n[dns]\norigin = \"db.example.\"\n".to_owned();
    for (number, site) in ["a", "b", "c"].iter().enumerate() {
        let _ =
            write!(text, "[[site]]\nname = \"{site}\"\nvoter = \"127.0.0.1:{}\"\n", 1_000 + number);
    }
    text.push_str("[[service]]\nname = \"clinic\"\n");
    for (number, site) in ["a", "b", "c"].iter().enumerate() {
        let _ = write!(
            text,
            "[[service.instance]]\nname = \"{site}-1\"\nsite = \"{site}\"\n\
             postgres = \"127.0.0.1:{}\"\nagent = \"127.0.0.1:{}\"\n",
            2_000 + number,
            3_000 + number
        );
    }
    std::fs::write(folder.join("topology.toml"), text).expect("writable");
    let made = baton(folder).args(["init", "topology.toml", "--out", "out"]).output();
    let made = made.expect("the program was just built");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn baton(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    command.current_dir(folder).env_remove("BATON_CONFIG");
    command
}

/// A writer that runs, and notes what it writes where `to` says.
fn writer(folder: &TempDir, server: &Server, to: &[&str]) -> Child {
    let mut probe = baton(folder.path());
    probe.args(["--config", "out/operator/baton.toml", "probe", "clinic", "--every", "5ms"]);
    probe.args(["--address", &format!("127.0.0.1:{}", server.port)]).args(to);
    probe.stdout(Stdio::null()).stderr(Stdio::null());
    probe.spawn().expect("the program was just built")
}

fn acked(journal: &Path) -> usize {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    text.lines().filter(|line| line.contains("\"outcome\":\"acked\"")).count()
}

fn reconcile(folder: &TempDir, server: &Server) -> (i32, Value) {
    let address = format!("127.0.0.1:{}", server.port);
    let output = baton(folder.path())
        .args(["--config", "out/operator/baton.toml", "probe", "clinic", "--reconcile"])
        .args(["journal.jsonl", "--address", &address, "-o", "json"])
        .output()
        .expect("the program was just built");
    let said = serde_json::from_slice(&output.stdout);
    let said = said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("it ends by itself"), said)
}

/// A cluster's files and a PostgreSQL that takes the probe; nothing where there is none.
fn set_up() -> Option<(TempDir, Server)> {
    let Some(bin) = programs() else {
        eprintln!("not tested: no PostgreSQL in /usr/lib/postgresql");
        return None;
    };
    let folder = tempfile::Builder::new().prefix("baton-probe-").tempdir_in("/tmp");
    let folder = folder.expect("a temporary folder");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("it is ours");
    cluster(folder.path());
    let mut server = Server::create(bin, folder.path());
    server.start();
    let created = server.sql("create role baton_probe login")
        && server.sql("create schema baton_probe authorization baton_probe");
    assert!(created);
    Some((folder, server))
}

#[test]
fn an_outage_is_measured_and_a_loss_is_found() {
    let Some((folder, mut server)) = set_up() else { return };
    let journal = folder.path().join("journal.jsonl");
    let mut probe = writer(&folder, &server, &["--journal", "journal.jsonl"]);
    until("writes are acknowledged", || acked(&journal) > 50);
    server.stop();
    server.start();
    let before = acked(&journal);
    until("writes go on after the outage", || acked(&journal) > before + 50);
    let pid = Pid::from_raw(i32::try_from(probe.id()).expect("a process number"));
    kill(pid, Signal::SIGINT).expect("it runs");
    assert!(probe.wait().expect("it ends").success());

    let (code, said) = reconcile(&folder, &server);
    let number = |said: &Value, key: &str| said.get(key).and_then(Value::as_u64);
    assert_eq!((code, number(&said, "lost")), (0, Some(0)), "{said}");
    assert_eq!(number(&said, "acked"), Some(acked(&journal) as u64));
    assert_eq!(number(&said, "duplicates"), Some(0));
    assert!(said.get("gap_ms").and_then(Value::as_f64).is_some_and(|gap| gap > 20.0), "{said}");

    assert!(server.sql("delete from baton_probe.writes where n = 7"));
    let (code, said) = reconcile(&folder, &server);
    assert_eq!((code, number(&said, "lost")), (1, Some(1)), "{said}");
    assert_eq!(said.get("lost_numbers"), Some(&serde_json::json!([7])));
}

/// The only file of a folder whose name ends so.
fn only(folder: &Path, ending: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(ending));
    (paths.len() == 1).then(|| paths.remove(0))
}

fn sla(folder: &TempDir) -> (i32, Value) {
    let output = baton(folder.path())
        .args(["sla", "clinic", "--journal", "journal", "--topology", "topology.toml"])
        .args(["--transitions", "transitions.json", "-o", "json"])
        .output()
        .expect("the program was just built");
    let said = serde_json::from_slice(&output.stdout);
    let said = said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("it ends by itself"), said)
}

fn interruptions(said: &Value) -> &Vec<Value> {
    said["interruptions"].as_array().expect("a list")
}

/// A writer that stands for years is killed; what it measured counts, also when only the summary is
/// left of it.
#[test]
fn a_killed_writers_folder_tells_what_was_measured_before_and_after_it_is_summed_up() {
    let Some((folder, mut server)) = set_up() else { return };
    let topology = folder.path().join("topology.toml");
    let mut text = std::fs::read_to_string(&topology).expect("it was written");
    text.push_str("[sla]\nhours = [\"mon-sun 00:00-24:00\"]\nobjective = \"100 %\"\n");
    std::fs::write(&topology, text).expect("writable");
    std::fs::write(folder.path().join("transitions.json"), "[]").expect("writable");
    std::fs::create_dir(folder.path().join("journal")).expect("writable");
    assert_eq!(sla(&folder).0, 6, "nothing was measured");

    let mut probe = writer(&folder, &server, &["--folder", "journal"]);
    let journals = folder.path().join("journal");
    let written = || only(&journals, ".jsonl").map_or(0, |journal| acked(&journal));
    until("writes are acknowledged", || written() > 50);
    let (code, before) = sla(&folder);
    let year = |said: &Value, key: &str| said["year"][key].as_i64();
    // A machine that stood still is an interruption, too.
    let none = interruptions(&before).is_empty();
    assert_eq!((code == 0, year(&before, "down_ms") == Some(0)), (none, none), "{before}");
    let stopped = wire::clock::wall().0;
    server.stop();
    server.start();
    let started = wire::clock::wall().0;
    let acked = written();
    until("writes go on after the outage", || written() > acked + 50);
    probe.kill().expect("it runs");
    probe.wait().expect("it ends");

    let (code, after) = sla(&folder);
    assert_eq!(code, 7, "the objective is missed: {after}");
    let at = |one: &Value, key: &str| one[key].as_i64().expect("a time");
    let ours = interruptions(&after).iter();
    let ours = ours.filter(|it| at(it, "from") <= started && at(it, "to") >= stopped);
    let ours: Vec<&Value> = ours.collect();
    assert_eq!(ours.len(), 1, "{after}");
    assert_eq!(ours[0]["cause"]["kind"], "unknown");
    assert!(year(&after, "down_ms").is_some_and(|down| down > 20), "{after}");

    // Days later another writer in this folder sums it up and lets the file go.
    let journal = only(&journals, ".jsonl").expect("one run, one day");
    let kept = orchestrator::probe::Folder::at(&journals);
    let days = |days: i64| failover::Timestamp(wire::clock::wall().0 + days * 86_400_000);
    let week = Duration::from_hours(168);
    assert!(kept.tidy(days(0), week).expect("readable").is_empty());
    assert!(only(&journals, ".summary.json").is_none(), "the day is not over");
    assert!(kept.tidy(days(2), week).expect("readable").is_empty());
    assert!(only(&journals, ".summary.json").is_some() && journal.exists());
    assert!(kept.tidy(days(9), week).expect("readable").is_empty());
    assert!(only(&journals, ".summary.json").is_some() && !journal.exists());
    let (code, summed) = sla(&folder);
    assert_eq!((code, &summed["interruptions"]), (7, &after["interruptions"]), "{summed}");
    assert_eq!(summed["writers"], after["writers"]);
}

/// A writer that stands for years keeps the table small: its own old rows go, of whichever run
/// before it; those of others, and those that are young, stay.
#[test]
fn old_rows_of_standing_writers_are_let_go_and_nobody_elses() {
    let Some((folder, server)) = set_up() else { return };
    let probe = || writer(&folder, &server, &["--folder", "journal", "--keep", "168h"]);
    let rows = |condition: &str, count: u32| {
        let table = format!("(select count(*) from baton_probe.writes where {condition})");
        server.sql(&format!("do $$ begin assert {table} = {count}; end $$"))
    };
    let end = |mut probe: Child| {
        probe.kill().expect("it runs");
        probe.wait().expect("it ends");
    };
    let first = probe();
    until("a first writer writes", || server.sql("select 1 / count(*) from baton_probe.writes"));
    end(first);
    // Its rows become eight days old but for one; a drill's writer has left one as old.
    let aged = "set search_path to baton_probe; \
        delete from writes where n > 1; \
        insert into writes select run, 100, at from writes; \
        update writes set at = at - interval '8 days' where n = 1; \
        insert into writes select 'clinic-drill-7', 1, at from writes where n = 1; \
        create table public.kept as select run from writes where n = 100";
    // What the killed one had begun is over before that.
    let alone =
        "select 1 / (count(*) = 0)::int from pg_stat_activity where usename = 'baton_probe'";
    until("its session has ended", || server.sql(alone));
    assert!(server.sql(aged));
    assert!(rows("n = 1 and run in (select run from kept)", 1));

    let second = probe();
    until("the old row is gone", || rows("n = 1 and run in (select run from kept)", 0));
    end(second);
    assert!(rows("n = 100 and run in (select run from kept)", 1), "it is young");
    assert!(rows("run = 'clinic-drill-7'", 1), "it is another's");
}
