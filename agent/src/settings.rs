//! The files that tell PostgreSQL what to be.
//!
//! `postgresql.conf` in the run directory is written before every start: the data directory's own
//! file, our defaults, the user's settings, what the user may not change, and last `baton.conf`,
//! which is rewritten while PostgreSQL runs. `ALTER SYSTEM` would stand above all of them, so the
//! names that are ours are taken out of `postgresql.auto.conf` before every start and whenever
//! they are found there (F-13).

use crate::config::Config;
use crate::layout::Layout;
use crate::rehearse::STREAMS_AS;
use failover::cluster::Enforce;
use failover::topology::Timing;
use failover::{Epoch, Generation, InstanceId};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The database role that owns everything, over the agent's socket only.
pub const SUPERUSER: &str = "postgres";
/// Every instance's replication role is a member of it.
pub const INSTANCES: &str = "baton_instances";
/// A name that no instance can have: commits wait for it for ever (I-08).
pub const NOBODY: &str = "baton-nobody";

/// Settings that the user may replace.
const DEFAULTS: &[(&str, &str)] = &[
    ("max_wal_senders", "16"),
    ("max_replication_slots", "16"),
    ("wal_keep_size", "1GB"),
    ("checkpoint_timeout", "2min"),
    ("max_wal_size", "1GB"),
    ("max_standby_streaming_delay", "500ms"),
    ("max_standby_archive_delay", "500ms"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "1"),
    ("tcp_keepalives_count", "3"),
    ("ssl_min_protocol_version", "TLSv1.2"),
    ("log_checkpoints", "off"),
];

/// Settings that zero loss, fencing or the agent itself rest on.
const FIXED: &[(&str, &str)] = &[
    ("unix_socket_permissions", "0700"),
    ("ssl", "on"),
    ("wal_level", "replica"),
    ("hot_standby", "on"),
    ("wal_log_hints", "on"),
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_receiver_create_temp_slot", "off"),
    ("recovery_init_sync_method", "syncfs"),
    ("recovery_target_timeline", "latest"),
    ("restart_after_crash", "off"),
    ("superuser_reserved_connections", "8"),
    ("log_connections", "on"),
    ("log_destination", "stderr"),
    ("logging_collector", "off"),
    ("log_line_prefix", "%m [%p] "),
    ("log_min_messages", "warning"),
    ("log_error_verbosity", "default"),
    ("lc_messages", "C"),
];

/// Names whose values depend on the instance, and names that must not be set at all.
const OURS: &[&str] = &[
    "listen_addresses",
    "port",
    "unix_socket_directories",
    "hba_file",
    "ident_file",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_key_file",
    "cluster_name",
    "wal_sender_timeout",
    "wal_receiver_timeout",
    "tcp_user_timeout",
    "synchronous_standby_names",
    "synchronous_commit",
    "primary_conninfo",
    "primary_slot_name",
    "data_directory",
    "config_file",
    "external_pid_file",
    "promote_trigger_file",
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
    "recovery_min_apply_delay",
];

/// Whether a setting is baton's.
pub fn is_ours(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    OURS.contains(&name.as_str()) || FIXED.iter().any(|(fixed, _)| *fixed == name)
}

/// Why a user may not set this, or `None`.
pub fn refusal(name: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
    if is_ours(name) {
        return Some(
            "is set by baton, because what it promises rests on it: remove the line".into(),
        );
    }
    (name.is_empty() || !name.bytes().all(plain))
        .then(|| "is not the name of a setting: use letters, digits and _".into())
}

/// A value in quotes, as in `postgresql.conf`.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// Writes what PostgreSQL is started with.
///
/// # Errors
/// Those of the file system.
pub fn write_static(config: &Config, layout: &Layout, timing: &Timing) -> io::Result<()> {
    let path = |path: &Path| path.display().to_string();
    let mut text = String::from("# Written by baton before every start: changes are lost.\n");
    let own = quoted(&path(&layout.data.join("postgresql.conf")));
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} = {}", quoted(value));
    };
    for (name, value) in DEFAULTS {
        line(name, value);
    }
    for (name, value) in &config.postgres.settings {
        line(name, &value.text());
    }
    for (name, value) in FIXED {
        line(name, value);
    }
    let timeout = timing.suspect_after.max(std::time::Duration::from_secs(1)) * 2;
    let timeout = format!("{}ms", timeout.as_millis());
    let listen = config.postgres.listen;
    let addresses = if config.rehearses { String::new() } else { listen.ip().to_string() };
    line("listen_addresses", &addresses);
    line("port", &listen.port().to_string());
    line("unix_socket_directories", &path(&layout.sockets));
    line("hba_file", &path(&layout.hba()));
    line("ident_file", &path(&layout.ident()));
    line("ssl_ca_file", &path(&layout.tls("ca.crt")));
    line("ssl_cert_file", &path(&layout.tls("tls.crt")));
    line("ssl_key_file", &path(&layout.tls("tls.key")));
    line("cluster_name", config.instance.as_str());
    line("wal_sender_timeout", &timeout);
    line("wal_receiver_timeout", &timeout);
    line("tcp_user_timeout", &timeout);
    let dynamic = quoted(&path(&layout.baton_conf()));
    let text = text.replacen('\n', &format!("\ninclude_if_exists {own}\n"), 1);
    let text = format!("{text}include {dynamic}\n");
    crate::layout::replace(&layout.postgresql_conf(), text.as_bytes())
}

/// Takes our names out of what `ALTER SYSTEM` wrote. True: some were there.
///
/// # Errors
/// Those of the file system.
pub fn clear_auto_conf(layout: &Layout) -> io::Result<bool> {
    let path = layout.data.join("postgresql.auto.conf");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let foreign = |line: &&str| {
        let name = line.split('=').next().unwrap_or_default().trim();
        line.trim_start().starts_with('#') || !is_ours(name)
    };
    let kept: Vec<&str> = text.split_inclusive('\n').filter(foreign).collect();
    let kept = kept.concat();
    if kept == text {
        return Ok(false);
    }
    wire::files::write_secret(&path, kept.as_bytes())?;
    Ok(true)
}

/// What `baton.conf` says, and what of it is written in its first line for our own reading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dynamic {
    /// Whom it follows, and as of which epoch.
    pub upstream: Option<Upstream>,
    /// The recording of the rule.
    pub generation: Option<Generation>,
    /// The rule.
    pub enforce: Enforce,
    /// The placeholder stands in for the rule, until commits are seen to wait (F-15).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

/// The file is read, changed and written by one at a time.
static WRITING: Mutex<()> = Mutex::new(());

/// Whom a standby follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// The instance.
    pub instance: InstanceId,
    /// Where its PostgreSQL listens.
    pub address: SocketAddr,
    /// The epoch in which it is the primary.
    pub epoch: Epoch,
}

/// The value of `synchronous_standby_names`: never empty, never `*` (I-08).
pub fn standby_names(enforce: &Enforce) -> String {
    if enforce.instances.is_empty() {
        return format!("ANY 1 (\"{NOBODY}\")");
    }
    let names: Vec<String> = enforce.instances.iter().map(|name| format!("\"{name}\"")).collect();
    format!("ANY {} ({})", enforce.required.max(1), names.join(","))
}

impl Dynamic {
    /// Reads it back; a missing file says nothing.
    pub fn load(layout: &Layout) -> Self {
        let text = std::fs::read_to_string(layout.baton_conf()).unwrap_or_default();
        text.lines()
            .next()
            .and_then(|line| serde_json::from_str(line.strip_prefix("# baton ")?).ok())
            .unwrap_or_default()
    }

    /// Writes it; that it lasts is the pledge's part, from which it is made anew at every start.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, config: &Config, layout: &Layout) -> io::Result<()> {
        let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(config, layout)
    }

    /// Writes what `change` makes of what is there; nobody else writes in between, so a rule that
    /// was just written is not replaced by the one before. `None`: it stays.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn rewrite(
        config: &Config,
        layout: &Layout,
        change: impl FnOnce(Self) -> Option<Self>,
    ) -> io::Result<Option<Self>> {
        let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(changed) = change(Self::load(layout)) else { return Ok(None) };
        changed.put(config, layout)?;
        Ok(Some(changed))
    }

    fn put(&self, config: &Config, layout: &Layout) -> io::Result<()> {
        let head = serde_json::to_string(self)?;
        let conninfo = match &self.upstream {
            Some(upstream) => conninfo(config, layout, upstream.address, upstream.epoch),
            None => String::new(),
        };
        let commit = if self.is_single_copy() { "local" } else { "on" };
        let text = format!(
            "# baton {head}\nsynchronous_standby_names = {}\nsynchronous_commit = {commit}\n\
             primary_conninfo = {}\nprimary_slot_name = ''\n",
            quoted(&self.names()),
            quoted(&conninfo),
        );
        crate::layout::replace(&layout.baton_conf(), text.as_bytes())
    }

    /// The value of `synchronous_standby_names`.
    pub fn names(&self) -> String {
        if self.held { standby_names(&Enforce::default()) } else { standby_names(&self.enforce) }
    }

    /// Whether somebody must flush a commit before it is acknowledged.
    pub fn waits(&self) -> bool {
        self.generation.is_some() && self.enforce.required > 0
    }

    /// A rule was recorded, and it requires nobody: commits do not wait.
    pub fn is_single_copy(&self) -> bool {
        self.generation.is_some() && self.enforce.required == 0
    }
}

/// How libpq reaches another instance, with the copy of the key that belongs to an epoch.
pub fn conninfo(config: &Config, layout: &Layout, address: SocketAddr, epoch: Epoch) -> String {
    let key = layout.stream_key(epoch);
    let own = if config.rehearses { STREAMS_AS } else { config.instance.as_str() };
    conninfo_with(config, layout, address, (own, &key))
}

/// How libpq reaches another instance under a program's name, with a key.
pub fn conninfo_with(
    config: &Config,
    layout: &Layout,
    address: SocketAddr,
    (program, key): (&str, &Path),
) -> String {
    let quote = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
    let path = |path: &Path| quote(&path.display().to_string());
    format!(
        "host={} port={} user=baton-{name} application_name={program} connect_timeout=2 \
         sslmode=verify-full sslrootcert={} sslcert={} sslkey={} gssencmode=disable \
         keepalives_idle=5 keepalives_interval=1 keepalives_count=3",
        quote(&address.ip().to_string()),
        address.port(),
        path(&layout.tls("ca.crt")),
        path(&layout.tls("tls.crt")),
        path(key),
        name = config.instance,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i08_the_list_is_never_empty() {
        assert_eq!(standby_names(&Enforce::default()), "ANY 1 (\"baton-nobody\")");
        let b: InstanceId = "b-1".parse().unwrap();
        let single = Enforce { instances: [b].into(), required: 0 };
        assert_eq!(standby_names(&single), "ANY 1 (\"b-1\")");
    }

    #[test]
    fn settings_that_matter_are_refused() {
        for name in ["fsync", "Synchronous_Commit", "primary_conninfo", "a b", ""] {
            assert!(refusal(name).is_some(), "{name}");
        }
        assert!(refusal("shared_buffers").is_none());
    }

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(quoted(r"a'b\c"), r"'a''b\\c'");
    }
}
