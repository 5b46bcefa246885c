//! The agent's own port: it answers what it would report, and its being open or refused is
//! evidence.

use crate::identity;
use crate::instance::Instance;
use crate::monitoring::ready;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use failover::Report;
use failover::people::Role;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;
use wire::http::Problem;
use wire::role::Kind;

/// Serves until `shutdown` turns true.
///
/// # Errors
/// The port is taken (by whom), or the certificate cannot be used.
pub async fn serve(instance: Arc<Instance>, shutdown: watch::Receiver<bool>) -> io::Result<()> {
    let files = identity::installed(&instance.layout);
    let identity = wire::tls::Identity::load(&files).map_err(io::Error::other)?;
    let listener = wire::http::bind(instance.config.listen).await.map_err(io::Error::other)?;
    let router = Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/v1/local", get(local))
        .with_state(instance);
    wire::http::serve(listener, Arc::new(identity), LISTENERS, router, shutdown).await
}

/// Who may ask.
const LISTENERS: &[Kind] = &[
    Kind::Voter,
    Kind::Operator(Role::Viewer),
    Kind::Operator(Role::Operator),
    Kind::Operator(Role::Approver),
    Kind::Operator(Role::Admin),
];

async fn readyz(State(instance): State<Arc<Instance>>) -> Result<&'static str, Response> {
    let unready = |reason| (StatusCode::SERVICE_UNAVAILABLE, Json(Problem::new(reason)));
    ready(&instance).map(|()| "ok").map_err(|reason: String| unready(reason).into_response())
}

async fn local(State(instance): State<Arc<Instance>>) -> Json<Report> {
    Json(instance.report())
}
