//! A new copy of the upstream, made beside the data directory and put in its place when whole.

use crate::instance::{Instance, PerformError};
use crate::layout::{sync_folder, sync_tree};
use crate::settings::{Upstream, conninfo_with};
use crate::start::{put_in_place, remove_tree, resolve};
use crate::{history, identity};
use failover::InstanceId;
use failover::report::Severity;
use std::path::Path;

/// How libpq reaches an upstream for anything but following: under a name that is in no rule, so
/// that the program's own stream never releases a commit (I-09).
pub fn conninfo_as(instance: &Instance, upstream: &Upstream, program: &str) -> String {
    let key = instance.layout.stream_key(upstream.epoch);
    conninfo_with(&instance.config, &instance.layout, upstream.address, (program, &key))
}

/// Copies the upstream; what was in the data directory is moved aside, the newest of its kind.
///
/// # Errors
/// [`PerformError`]; the data directory is then as it was.
pub async fn clone(instance: &Instance, upstream: &InstanceId) -> Result<(), PerformError> {
    let upstream = resolve(instance, upstream)?;
    let layout = &instance.layout;
    identity::allow_stream(layout, upstream.epoch)?;
    if instance.state().pid.is_some() {
        return Err(PerformError::Stale("PostgreSQL is running"));
    }
    crate::processes::end_strangers(&layout.data).await;
    if let Some(parent) = layout.data.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let fresh = layout.beside("new");
    remove_tree(&fresh)?;
    let text = format!("copying {}", upstream.instance);
    instance.state().note("clone", Severity::Info, text);
    instance.speak.notify_one();
    let source = conninfo_as(instance, &upstream, "pg_basebackup");
    let target = fresh.display().to_string();
    let arguments = ["-D", &target, "-X", "stream", "-c", "fast", "--no-slot", "-N", "-d", &source];
    let copied = instance.programs.run("pg_basebackup", &arguments).await;
    instance.state().notes.remove("clone");
    copied.inspect_err(|_| drop(remove_tree(&fresh)))?;
    let control = history::control(&fresh)?;
    let expected = instance.assignment()?.system_identifier;
    if expected.is_some_and(|expected| expected != control.system_identifier) {
        drop(remove_tree(&fresh));
        return Err(PerformError::NotYet(format!(
            "{} is of another cluster: system identifier {}",
            upstream.instance, control.system_identifier
        )));
    }
    wire::files::write_secret(&fresh.join("standby.signal"), b"")?;
    sync_tree(&fresh)?;
    move_aside(instance, "aside")?;
    instance.promises.update(|memory| {
        memory.system_identifier = Some(control.system_identifier);
        memory.led = None;
        memory.refused = false;
        memory.beyond = false;
        // What was in doubt was so of the data that is gone.
        memory.doubt_pending = false;
    })?;
    {
        let mut state = instance.state();
        (state.unwritten, state.overruled) = (false, false);
    }
    put_in_place(instance, &fresh)
}

/// Renames the data directory, if there is one, to a name that is never started.
///
/// # Errors
/// Those of the file system.
pub fn move_aside(instance: &Instance, suffix: &str) -> Result<(), PerformError> {
    let layout = &instance.layout;
    if layout.data.exists() {
        let aside = layout.beside(suffix);
        remove_tree(&aside)?;
        std::fs::rename(&layout.data, &aside)?;
        sync_folder(layout.data.parent().unwrap_or(Path::new("/")))?;
    }
    instance.examine();
    Ok(())
}
