//! `GET /v1/calendar`, `GET /v1/drills`, `GET /v1/drills/{id}`, `GET /v1/drill-plan`.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, Query as Parameters, State};
use failover::Request;
use failover::ids::DrillId;
use serde::Deserialize;
use wire::role::Peer;

use super::{Answered, Shared, answer, asks, query, read};
use crate::audit::asked;
use crate::replica::Query;
use crate::routes::Question;

/// When drills are held, and when none may be.
pub(super) async fn calendar(State(routes): Shared) -> Answered {
    query(&routes, Query::Calendar).await
}

/// Every drill.
pub(super) async fn all(State(routes): Shared) -> Answered {
    query(&routes, Query::Drills).await
}

/// One drill.
pub(super) async fn one(State(routes): Shared, Path(id): Path<u64>) -> Answered {
    query(&routes, Query::Drill(DrillId(id))).await
}

#[derive(Deserialize)]
pub(super) struct PlanOf {
    /// A drill's [`Request`] as JSON.
    request: String,
}

/// What a drill would do. Only a leader has the evidence: nobody else answers.
pub(super) async fn plan(
    State(routes): Shared,
    Extension(peer): Extension<Peer>,
    Parameters(PlanOf { request }): Parameters<PlanOf>,
) -> Answered {
    let request: Box<Request> = read(&peer, &Bytes::from(request))?;
    let text = format!("what if asked to {}", asked(&request));
    let service = request.service().cloned();
    let answered = answer(routes.ask(Question::Query(Query::DrillPlan(request))).await);
    if answered.is_ok() {
        asks(&routes, &peer, service, text);
    }
    answered
}
