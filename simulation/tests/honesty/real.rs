//! PostgreSQL's side: two servers in a folder, every session a `psql` of its own.

use crate::ground::{STEP, rest, until};
use crate::{Rule, Servers, Side, Told};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Two servers.
pub struct Real {
    folder: TempDir,
    bin: PathBuf,
    postmasters: [Option<Child>; 2],
    frozen: [Vec<u32>; 2],
    writers: BTreeMap<u64, Child>,
    reader: Option<Child>,
    impostor: Option<Child>,
    checkpointer: Option<u32>,
}

fn at(side: Side) -> usize {
    match side {
        Side::A => 0,
        Side::B => 1,
    }
}

const SETTINGS: &str = "
listen_addresses = ''
port = 5432
shared_buffers = 16MB
fsync = off
max_wal_senders = 8
wal_level = replica
hot_standby = on
max_standby_streaming_delay = -1
wal_retrieve_retry_interval = 100ms
wal_sender_timeout = 10s
wal_receiver_timeout = 10s
wal_receiver_status_interval = 1s
autovacuum = off
log_min_messages = warning
";

impl Real {
    pub fn new(bin: &Path) -> Self {
        let folder = TempDir::with_prefix("baton-honesty").unwrap();
        let mut real = Self {
            folder,
            bin: bin.to_owned(),
            postmasters: [None, None],
            frozen: [Vec::new(), Vec::new()],
            writers: BTreeMap::new(),
            reader: None,
            impostor: None,
            checkpointer: None,
        };
        for side in [Side::A, Side::B] {
            std::fs::create_dir(real.place(side)).unwrap();
        }
        let data = real.data(Side::A);
        let arguments = ["-U", "postgres", "-A", "trust", "-N", "-D"];
        let made = real.program("initdb").args(arguments).arg(&data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let text = "include 'own.conf'\n";
        std::fs::write(data.join("postgresql.conf"), text).unwrap();
        real.configure(Side::A, "", false);
        real.start(Side::A, false);
        real.sql(Side::A, "create table t (n bigint); create table h (n int)");
        let from = format!("host={} port=5432 user=postgres", real.place(Side::A).display());
        let copy = real.data(Side::B);
        let arguments = ["-c", "fast", "-N", "-d", &from, "-D"];
        let copied = real.program("pg_basebackup").args(arguments).arg(&copy).output().unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        real.configure(Side::B, "", true);
        real.start(Side::B, true);
        assert!(real.streams(Side::B, true));
        real.rule(Rule::Standby);
        let sync = "select count(*) from pg_stat_replication where sync_state = 'quorum'";
        assert!(until(Duration::from_secs(20), || real.sql(Side::A, sync) == "1"));
        real
    }

    fn place(&self, side: Side) -> PathBuf {
        self.folder.path().join(if side == Side::A { "a" } else { "b" })
    }

    fn data(&self, side: Side) -> PathBuf {
        self.place(side).join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.env("PGUSER", "postgres").env("PGDATABASE", "postgres").env("LC_ALL", "C");
        command.env("PGCONNECT_TIMEOUT", "10").stdin(Stdio::null());
        command
    }

    fn configure(&self, side: Side, names: &str, follows: bool) {
        let other = if side == Side::A { Side::B } else { Side::A };
        let name = if side == Side::A { "a" } else { "b" };
        let from = format!(
            "host={} port=5432 user=postgres application_name={name}",
            self.place(other).display()
        );
        let conninfo = if follows { from.as_str() } else { "" };
        let text = format!(
            "{SETTINGS}unix_socket_directories = '{}'\nsynchronous_standby_names = '{names}'\n\
             primary_conninfo = '{conninfo}'\n",
            self.place(side).display()
        );
        std::fs::write(self.data(side).join("own.conf"), text).unwrap();
        if self.postmasters[at(side)].is_some() {
            Self::signal(self.pid(side), "HUP");
        }
    }

    fn pid(&self, side: Side) -> u32 {
        self.postmasters[at(side)].as_ref().unwrap().id()
    }

    fn signal(pid: u32, name: &str) {
        let number = pid.to_string();
        drop(Command::new("kill").args(["-s", name, &number]).stderr(Stdio::null()).status());
    }

    fn ask(&self, side: Side, query: &str) -> Output {
        let socket = self.place(side).display().to_string();
        let arguments = ["-X", "-q", "-A", "-t", "-h", &socket, "-c", query];
        self.program("psql").args(arguments).output().unwrap()
    }

    fn sql(&self, side: Side, query: &str) -> String {
        let output = self.ask(side, query);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The checkpointer says whether commits wait, and reads the settings before it writes a
    /// checkpoint that is asked for.
    fn settle(&self) {
        if self.checkpointer.is_none() {
            self.sql(Side::A, "checkpoint");
        }
    }

    fn begin(&mut self, number: u64, level: &str) {
        let socket = self.place(Side::A).display().to_string();
        let insert = format!("insert into t values ({number})");
        let child = self
            .program("psql")
            .args(["-X", "-h", &socket, "-c", &insert])
            .env("PGAPPNAME", format!("w{number}"))
            .env("PGOPTIONS", format!("-c synchronous_commit={level}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        self.writers.insert(number, child);
        // It has written, or is done.
        let waits = waits(number);
        let begun = until(Duration::from_secs(20), || {
            self.writers.get_mut(&number).unwrap().try_wait().unwrap().is_some()
                || self.sql(Side::A, &waits) == "1"
        });
        assert!(begun, "the session that writes {number} got nowhere");
    }

    /// The process and everything it forked.
    fn tree(pid: u32) -> Vec<u32> {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let mut all = vec![pid];
        all.extend(children.split_ascii_whitespace().filter_map(|text| text.parse::<u32>().ok()));
        all
    }

    fn ended(&mut self, side: Side) -> bool {
        let Some(child) = &mut self.postmasters[at(side)] else { return true };
        let ended = child.try_wait().unwrap().is_some();
        if ended {
            self.postmasters[at(side)] = None;
        }
        ended
    }
}

fn waits(number: u64) -> String {
    format!(
        "select count(*) from pg_stat_activity \
         where application_name = 'w{number}' and wait_event = 'SyncRep'"
    )
}

impl Servers for Real {
    fn write(&mut self, number: u64) {
        self.begin(number, "on");
    }

    fn write_local(&mut self, number: u64) {
        self.begin(number, "local");
    }

    fn told(&mut self, number: u64) -> Told {
        // A commit that only waits a moment is given that moment.
        let mut moments = 0;
        loop {
            let child = self.writers.get_mut(&number).unwrap();
            if child.try_wait().unwrap().is_some() {
                break;
            }
            let waits = self.sql(Side::A, &waits(number)) == "1";
            moments = if waits { moments + 1 } else { 0 };
            if moments > 40 {
                return Told::Waits;
            }
            rest(STEP);
        }
        let child = self.writers.remove(&number).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let warned = said.contains("canceling wait for synchronous replication");
        let told = match (output.status.success(), warned) {
            (true, true) => Told::Warned,
            (true, false) => Told::Success,
            (false, _) => Told::Lost,
        };
        // It may be asked again.
        let again = match told {
            Told::Success => "exit 0",
            Told::Warned => "echo canceling wait for synchronous replication >&2; exit 0",
            Told::Lost | Told::Waits => "exit 1",
        };
        let mut stand_in = Command::new("sh");
        stand_in.args(["-c", again]).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.writers.insert(number, stand_in.spawn().unwrap());
        told
    }

    fn cancel(&mut self, number: u64) {
        let query = format!(
            "select pg_cancel_backend(pid) from pg_stat_activity \
             where application_name = 'w{number}'"
        );
        self.sql(Side::A, &query);
        rest(Duration::from_millis(300));
    }

    fn terminate(&mut self) {
        let query = "select pg_terminate_backend(pid) from pg_stat_activity \
                     where wait_event = 'SyncRep'";
        self.sql(Side::A, query);
        rest(Duration::from_millis(300));
    }

    fn hang_up(&mut self, number: u64) {
        let mut child = self.writers.remove(&number).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        rest(Duration::from_millis(300));
    }

    fn sees(&mut self, side: Side, number: u64) -> bool {
        self.sql(side, &format!("select count(*) from t where n = {number}")) == "1"
    }

    fn freeze(&mut self, side: Side) {
        let pids = Self::tree(self.pid(side));
        for pid in &pids {
            Self::signal(*pid, "STOP");
        }
        self.frozen[at(side)] = pids;
    }

    fn thaw(&mut self, side: Side) {
        for pid in std::mem::take(&mut self.frozen[at(side)]).iter().rev() {
            Self::signal(*pid, "CONT");
        }
        rest(Duration::from_secs(1));
    }

    fn rule(&mut self, rule: Rule) {
        let names = match rule {
            Rule::Standby => "ANY 1 (\"b\")",
            Rule::First => "FIRST 1 (\"b\")",
            Rule::Both => "ANY 2 (\"a\",\"b\")",
            Rule::Nobody => "ANY 1 (\"nobody\")",
            Rule::Empty => "",
        };
        self.configure(Side::A, names, false);
        let shown = || self.sql(Side::A, "show synchronous_standby_names") == names;
        assert!(until(Duration::from_secs(20), shown));
        self.settle();
        rest(Duration::from_millis(500));
    }

    fn stall_checkpointer(&mut self) {
        let query = "select pid from pg_stat_activity where backend_type = 'checkpointer'";
        let pid: u32 = self.sql(Side::A, query).parse().unwrap();
        Self::signal(pid, "STOP");
        self.checkpointer = Some(pid);
    }

    fn resume_checkpointer(&mut self) {
        if let Some(pid) = self.checkpointer.take() {
            Self::signal(pid, "CONT");
            self.settle();
            rest(Duration::from_secs(1));
        }
    }

    fn kill(&mut self, side: Side) {
        Self::signal(self.pid(side), "QUIT");
        assert!(until(Duration::from_secs(20), || self.ended(side)));
    }

    fn stop(&mut self, side: Side) -> bool {
        Self::signal(self.pid(side), "INT");
        // Not more than the frozen are waited for; on a busy machine even nothing takes a while.
        let limit = if self.frozen.iter().all(Vec::is_empty) { 20_000 } else { 500 };
        until(Duration::from_millis(limit), || self.ended(side))
    }

    fn ends(&mut self, side: Side, within: Duration) -> bool {
        until(within, || self.ended(side))
    }

    fn start(&mut self, side: Side, standby: bool) {
        let data = self.data(side);
        let signal = data.join("standby.signal");
        if standby {
            std::fs::write(&signal, "").unwrap();
        } else {
            drop(std::fs::remove_file(&signal));
        }
        let log = File::options().create(true).append(true).open(self.place(side).join("log"));
        let log = log.unwrap();
        let child = self
            .program("postgres")
            .arg("-D")
            .arg(&data)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        self.postmasters[at(side)] = Some(child);
        let up = until(Duration::from_mins(1), || self.sql(side, "select 1") == "1");
        let log = std::fs::read_to_string(self.place(side).join("log")).unwrap_or_default();
        assert!(up, "{side:?} does not start: {log}");
    }

    fn promote(&mut self, side: Side) -> bool {
        let said = self.sql(side, "select pg_promote(true, 1)");
        if said == "t" {
            return true;
        }
        // On a busy machine one second may be too short; with replay held up none is enough.
        self.reader.is_none() && self.writable(side, true)
    }

    fn writable(&mut self, side: Side, wanted: bool) -> bool {
        let limit = if wanted { Duration::from_secs(20) } else { Duration::from_secs(1) };
        let out = "select not pg_is_in_recovery()";
        until(limit, || (self.sql(side, out) == "t") == wanted) == wanted
    }

    fn timeline(&mut self, side: Side) -> u32 {
        let query = "select case when pg_is_in_recovery() \
                     then (select received_tli from pg_stat_wal_receiver) \
                     else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))\
                          ::bit(32)::int end";
        let of = |side: Side| self.sql(side, query).parse().unwrap_or(0);
        // A standby streams what was left of the one before first.
        let other = if side == Side::A { Side::B } else { Side::A };
        let wanted = of(other);
        until(Duration::from_secs(20), || wanted == 0 || of(side) >= wanted);
        of(side)
    }

    fn follow(&mut self, side: Side, other: bool) {
        self.configure(side, "", other);
        rest(Duration::from_secs(1));
    }

    fn streams(&mut self, side: Side, wanted: bool) -> bool {
        let limit = if wanted { Duration::from_secs(20) } else { Duration::from_secs(3) };
        let query = "select count(*) from pg_stat_wal_receiver where status = 'streaming'";
        if wanted {
            return until(limit, || self.sql(side, query) == "1");
        }
        rest(limit);
        // One that is refused tries again and again, and may just be trying.
        (0..8).all(|_| {
            rest(STEP);
            self.sql(side, query) == "1"
        })
    }

    fn hold_replay(&mut self) {
        let socket = self.place(Side::B).display().to_string();
        let query = "begin isolation level repeatable read; select count(*) from h; \
                     select pg_sleep(600)";
        let child = self
            .program("psql")
            .args(["-X", "-q", "-h", &socket, "-c", query])
            .env("PGAPPNAME", "reader")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.reader = Some(child);
        let sleeps = "select count(*) from pg_stat_activity \
                      where application_name = 'reader' and wait_event = 'PgSleep'";
        assert!(until(Duration::from_secs(20), || self.sql(Side::B, sleeps) == "1"));
        self.sql(Side::A, "drop table h");
    }

    fn release_replay(&mut self) {
        let query = "select pg_terminate_backend(pid) from pg_stat_activity \
                     where application_name = 'reader'";
        self.sql(Side::B, query);
        if let Some(mut reader) = self.reader.take() {
            drop(reader.wait());
        }
    }

    fn pretend(&mut self) {
        let folder = self.folder.path().join("impostor");
        std::fs::create_dir(&folder).unwrap();
        let from = format!(
            "host={} port=5432 user=postgres application_name=b",
            self.place(Side::A).display()
        );
        let child = self
            .program("pg_receivewal")
            .args(["--synchronous", "--no-password", "-d", &from, "-D"])
            .arg(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.impostor = Some(child);
        let query = "select count(*) from pg_stat_replication where state = 'streaming'";
        assert!(until(Duration::from_secs(20), || self.sql(Side::A, query) == "1"));
        rest(Duration::from_secs(1));
    }

    fn stands(&mut self) -> (bool, u64) {
        let query = "select (pg_last_wal_receive_lsn() is not null)::text || ' ' \
                     || pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint";
        let said = self.sql(Side::B, query);
        let (known, replayed) = said.split_once(' ').unwrap();
        (known == "true", replayed.parse().unwrap())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let others = [self.reader.take(), self.impostor.take()].into_iter().flatten();
        let writers = std::mem::take(&mut self.writers).into_values();
        for mut child in others.chain(writers) {
            drop(child.kill());
            drop(child.wait());
        }
        let postmasters = std::mem::take(&mut self.postmasters);
        for mut child in postmasters.into_iter().flatten() {
            for pid in Self::tree(child.id()) {
                Self::signal(pid, "KILL");
            }
            drop(child.wait());
        }
    }
}
