//! The agent's own port: it answers what it would report, and its being open or refused is
//! evidence.

use crate::instance::Instance;
use crate::monitoring::ready;
use crate::server_log;
use crate::{identity, isolate};
use axum::extract::{Extension, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use failover::people::{Right, Role};
use failover::{Report, Timestamp};
use serde::Deserialize;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;
use wire::http::Problem;
use wire::role::{Kind, Peer};
use wire::scrub::ServerLogWindow;

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
        .route("/v1/server-log", get(server_log))
        .layer(middleware::from_fn_with_state(Arc::clone(&instance), silence))
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

/// Whose site is cut off answers nobody; its port stays taken, as that of a machine that is away
/// refuses nothing.
async fn silence(State(instance): State<Arc<Instance>>, request: Request, next: Next) -> Response {
    isolate::over(&instance).await;
    next.run(request).await
}

async fn readyz(State(instance): State<Arc<Instance>>) -> Result<&'static str, Response> {
    let unready = |reason| (StatusCode::SERVICE_UNAVAILABLE, Json(Problem::new(reason)));
    ready(&instance).map(|()| "ok").map_err(|reason: String| unready(reason).into_response())
}

#[derive(Deserialize)]
struct Window {
    /// Milliseconds since 1970.
    since: i64,
}

/// What PostgreSQL said of itself, for `baton incident collect`. Operators only.
async fn server_log(
    State(instance): State<Arc<Instance>>,
    Extension(peer): Extension<Peer>,
    Query(window): Query<Window>,
) -> Result<Json<ServerLogWindow>, Response> {
    let refused = |code, error: String| (code, Json(Problem::new(error))).into_response();
    if !matches!(peer.kind, Kind::Operator(role) if role.has(Right::Operate)) {
        let error = format!("only {} may read PostgreSQL's log", Right::Operate.holders());
        return Err(refused(StatusCode::FORBIDDEN, error));
    }
    let log = instance.layout.log();
    let read = move || server_log::window::read(&log, Timestamp(window.since));
    let read = tokio::task::spawn_blocking(read).await.map_err(io::Error::other);
    read.and_then(|read| read)
        .map(Json)
        .map_err(|error| refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
}

async fn local(State(instance): State<Arc<Instance>>) -> Json<Report> {
    Json(instance.report())
}
