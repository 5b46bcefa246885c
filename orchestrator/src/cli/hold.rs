//! `baton hold`, `baton resume` and `baton forgo`: what automation may do with one service.

use failover::Request;

use crate::approve;
use crate::client::{Cluster, Failure};
use crate::screen::print;
use crate::verbs::{Forgo, Globals, Reasoned};

pub async fn hold(globals: &Globals, arguments: Reasoned) -> Result<u8, Failure> {
    let Reasoned { service, reason } = arguments;
    ask(globals, Request::Hold { service, reason: reason.given()? }).await
}

pub async fn resume(globals: &Globals, arguments: Reasoned) -> Result<u8, Failure> {
    let Reasoned { service, reason } = arguments;
    ask(globals, Request::Resume { service, reason: reason.given()? }).await
}

pub async fn forgo(globals: &Globals, arguments: Forgo) -> Result<u8, Failure> {
    let Forgo { service, range: (from, to), reason, second } = arguments;
    let reason = reason.given()?;
    let request = Request::Forgo { service, from, to, reason };
    let (_, accepted) = approve::ask(globals, &request, &second).await?;
    print(globals.output, &accepted, &accepted.text)?;
    Ok(wire::exit::OK)
}

async fn ask(globals: &Globals, request: Request) -> Result<u8, Failure> {
    let accepted = Cluster::of(globals)?.request(&request).await?;
    print(globals.output, &accepted, &accepted.text)?;
    Ok(wire::exit::OK)
}
