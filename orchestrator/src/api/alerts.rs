//! `GET /v1/alerts`, `POST /v1/alerts/test`: what somebody must know, and whether that arrives.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use tokio::sync::oneshot;
use wire::role::Peer;

use super::{Answered, Shared, asks, query, read, refused};
use crate::answers::{ChannelsTested, TestChannels};
use crate::replica::Query;

/// How long all channels together may take.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn all(State(routes): Shared) -> Answered {
    query(&routes, Query::Alerts).await
}

/// Answered by the voter that is asked: any of them may lead one day, and tell.
pub(super) async fn test(
    State(routes): Shared,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Answered {
    let TestChannels { channel } = read(&peer, &body)?;
    asks(&routes, &peer, None, String::from("test of the channels for alerts"));
    let (sender, answer) = oneshot::channel();
    let busy = || refused(StatusCode::SERVICE_UNAVAILABLE, "a test is under way", "ask again");
    routes.tests.try_send((channel, sender)).map_err(|_| busy())?;
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(channels)) => {
            let voter = routes.name().to_owned();
            Ok(Json(ChannelsTested { voter, channels }).into_response())
        }
        Ok(Err(_)) | Err(_) => Err(refused(
            StatusCode::GATEWAY_TIMEOUT,
            "the channels did not answer in time",
            "ask for one of them with --channel",
        )),
    }
}
