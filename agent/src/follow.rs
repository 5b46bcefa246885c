//! Following: `primary_conninfo` names the upstream, and the receiver is kicked until it streams.

use crate::instance::{Instance, PerformError};
use crate::settings::Dynamic;
use crate::start::{resolve, waiting};
use crate::{identity, processes};
use failover::InstanceId;
use nix::sys::signal::Signal;
use std::time::Duration;
use wire::clock::now;

const STEP: Duration = Duration::from_millis(10);
const KICK_EVERY: Duration = Duration::from_millis(100);
const BOUND: Duration = Duration::from_millis(400);

/// Points the running standby at an upstream. That it streams is not awaited longer than a blink:
/// the next probes tell.
///
/// # Errors
/// [`PerformError`]
pub async fn follow(instance: &Instance, upstream: &InstanceId) -> Result<(), PerformError> {
    let upstream = resolve(instance, upstream)?;
    let epoch = upstream.epoch;
    let layout = &instance.layout;
    identity::allow_stream(layout, epoch)?;
    let dynamic =
        Dynamic { upstream: Some(upstream), generation: None, enforce: waiting(), held: false };
    dynamic.write(&instance.config, layout)?;
    instance.state().sealed_at = None;
    instance.reload().await?;
    identity::forbid_streams(layout, Some(epoch))?;
    kick(instance).await
}

/// A startup process that sleeps between two attempts is woken; its interval alone would cost as
/// much as the rest of a failover.
async fn kick(instance: &Instance) -> Result<(), PerformError> {
    let connection = instance.control().await?;
    let begun = now();
    let mut kicked = begun;
    let streams = "select (select status from pg_stat_wal_receiver) || '' ";
    let startup = "select pid from pg_stat_activity where backend_type = 'startup' \
                   and wait_event = 'RecoveryRetrieveRetryInterval'";
    while now().since(begun) < BOUND {
        if connection.text(streams, BOUND).await?.as_deref() == Some("streaming") {
            break;
        }
        if now().since(kicked) >= KICK_EVERY {
            kicked = now();
            let pid = connection.text(startup, BOUND).await?.and_then(|text| text.parse().ok());
            if let Some(pid) = pid {
                processes::send(pid, Signal::SIGHUP);
            }
        }
        tokio::time::sleep(STEP).await;
    }
    instance.look.notify_one();
    Ok(())
}
