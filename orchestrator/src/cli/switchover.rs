//! `baton switchover` and `baton failover`: ask, then watch.

use failover::Request;

use crate::client::{Cluster, Failure};
use crate::follow::follow;
use crate::screen::{print, remark};
use crate::verbs::{Failover, Globals, Switchover, Waiting};

pub async fn switchover(globals: &Globals, arguments: Switchover) -> Result<u8, Failure> {
    let Switchover { service, to, reason, waiting } = arguments;
    ask(globals, Request::Switchover { service, to, reason }, &waiting).await
}

pub async fn failover(globals: &Globals, arguments: Failover) -> Result<u8, Failure> {
    let Failover { service, reason, waiting } = arguments;
    ask(globals, Request::Failover { service, reason }, &waiting).await
}

async fn ask(globals: &Globals, request: Request, waiting: &Waiting) -> Result<u8, Failure> {
    let cluster = Cluster::of(globals)?;
    let accepted = cluster.request(&request).await?;
    match accepted.transition {
        Some(id) if !waiting.no_wait => {
            remark(globals.output, &accepted.text);
            follow(globals, &cluster, id, waiting).await
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
