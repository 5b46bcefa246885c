//! What people ask to be changed, and the second factor that comes with it.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use failover::Request;
use failover::people::Role;
use wire::clock;
use wire::role::Peer;

use super::{Answered, Refused, Shared, answer, read, refused};
use crate::audit::asked;
use crate::codes;
use crate::routes::{Question, Routes};

pub(super) async fn request(
    State(routes): Shared,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    let request: Box<Request> = read(&peer, &body)?;
    let totp_step = code(&routes, &peer, &headers).await?;
    tracing::info!(%peer, "an operator asks: {}", asked(&request));
    let role = peer.role().unwrap_or(Role::Viewer);
    answer(routes.ask(Question::Request { by: peer.name, role, totp_step, request }).await)
}

/// The step of the code that comes with a request, if one does.
async fn code(
    routes: &Arc<Routes>,
    peer: &Peer,
    headers: &HeaderMap,
) -> Result<Option<u64>, Refused> {
    let Some(code) = headers.get(codes::HEADER) else { return Ok(None) };
    let code = code.to_str().unwrap_or_default().to_owned();
    let (routes, person) = (routes.clone(), peer.name.clone());
    // A file is read.
    let checked = tokio::task::spawn_blocking(move || {
        routes.own.codes.check(&person, &code, (clock::wall(), clock::now()))
    });
    let checked = checked.await.unwrap_or_else(|error| Err(error.to_string()));
    checked.map(Some).map_err(|text| {
        tracing::warn!(%peer, "refused: {text}");
        refused(StatusCode::FORBIDDEN, text, "nothing was changed")
    })
}
