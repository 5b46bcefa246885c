//! `baton switchover` and `baton failover`: ask, then watch.

use failover::Request;

use orchestrator::answers::Accepted;

use crate::accept_loss;
use crate::client::{Cluster, Failure};
use crate::follow::follow;
use crate::screen::{print, remark};
use crate::verbs::{Failover, Globals, Switchover, Waiting};
use crate::what_if;

pub async fn switchover(globals: &Globals, arguments: Switchover) -> Result<u8, Failure> {
    let Switchover { service, to, reason, dry_run, waiting } = arguments;
    let reason = reason.given()?;
    let request = Request::Switchover { service, to, reason };
    if dry_run {
        what_if::dry_run(globals, request).await
    } else {
        ask(globals, request, &waiting).await
    }
}

pub async fn failover(globals: &Globals, arguments: Failover) -> Result<u8, Failure> {
    if arguments.accept_loss {
        return accept_loss::run(globals, arguments).await;
    }
    let Failover { service, reason, dry_run, waiting, .. } = arguments;
    let reason = reason.given()?;
    let request = Request::Failover { service, reason };
    if dry_run {
        what_if::dry_run(globals, request).await
    } else {
        ask(globals, request, &waiting).await
    }
}

async fn ask(globals: &Globals, request: Request, waiting: &Waiting) -> Result<u8, Failure> {
    let cluster = Cluster::of(globals)?;
    let accepted = cluster.request(&request).await?;
    ended(globals, &cluster, accepted, waiting).await
}

/// The outcome of a change of primary that was asked for.
pub async fn ended(
    globals: &Globals,
    cluster: &Cluster,
    accepted: Accepted,
    waiting: &Waiting,
) -> Result<u8, Failure> {
    match accepted.transition {
        Some(id) if !waiting.no_wait => {
            remark(globals.output, &accepted.text);
            follow(globals, cluster, id, waiting).await
        }
        Some(_) | None => {
            let text = accepted.transition.map_or_else(
                || accepted.text.clone(),
                |id| format!("transition {id}: {}\nwatch it: baton report {id}", accepted.text),
            );
            print(globals.output, &accepted, &text)?;
            Ok(wire::exit::OK)
        }
    }
}
