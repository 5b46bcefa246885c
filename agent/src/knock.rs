//! Knocking at the primary's ports while its stream is broken: a refusal is evidence of death that
//! need not be waited for, silence is not.

use crate::instance::Instance;
use failover::report::{Knock, Port};
use failover::{InstanceId, Role};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use wire::clock::now;

const PATIENCE: Duration = Duration::from_millis(200);
/// The pause between knocks while the break is fresh.
const FRESH: Duration = Duration::from_millis(60);
const FRESH_FOR: Duration = Duration::from_secs(3);

/// Knocks for as long as the stream is broken; says so at once when the answer changes.
pub async fn watch(instance: Arc<Instance>) {
    let mut broken_since = None;
    loop {
        let heartbeat = instance.timing().heartbeat;
        let Some((target, agent, postgres)) = target(&instance) else {
            if broken_since.take().is_some() {
                instance.state().knock = None;
                instance.speak.notify_one();
            }
            instance.stream.notified().await;
            continue;
        };
        let since = *broken_since.get_or_insert_with(now);
        let (agent, postgres) = tokio::join!(knock(agent), knock(postgres));
        let knock = Knock {
            target,
            from: instance.config.site.clone(),
            agent,
            postgres,
            age: Duration::ZERO,
        };
        if note(&instance, knock) {
            instance.speak.notify_one();
        }
        let fresh = now().since(since) < FRESH_FOR;
        tokio::time::sleep(if fresh { FRESH.min(heartbeat) } else { heartbeat }).await;
    }
}

/// Takes a knock's answer down. True: it is another than the last.
fn note(instance: &Instance, knock: Knock) -> bool {
    let mut state = instance.state();
    let news = state.knock.as_ref().is_none_or(|(last, _)| *last != knock);
    state.knock = Some((knock, now()));
    news
}

/// Whom to knock at: the primary of this standby, unless its stream flows.
fn target(instance: &Instance) -> Option<(InstanceId, SocketAddr, SocketAddr)> {
    let state = instance.state();
    let assignment = state.assignment.as_ref()?;
    let Role::Standby { upstream } = &assignment.role else { return None };
    let facts = state.facts.as_ref()?;
    let flows = facts.receiver.as_ref().is_some_and(|receiver| receiver.streaming);
    let peer = assignment.peers.get(upstream)?;
    (facts.recovery && !flows).then(|| (upstream.clone(), peer.agent, peer.postgres))
}

async fn knock(address: SocketAddr) -> Port {
    match tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Port::Open,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Port::Refused,
        Ok(Err(_)) | Err(_) => Port::Silent,
    }
}
