//! `GET /v1/evidence/{id}`, `GET /v1/evidence/drills/{id}`: a bundle is made and signed here.

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use failover::cluster::Record;
use failover::ids::{DrillId, TransitionId};
use serde::de::DeserializeOwned;
use wire::role::Peer;

use super::{Answered, Refused, Shared, answer, asks, refused};
use crate::answers::{AuditPage, Bundle, DeclaredTopology, DrillTold, Status};
use crate::evidence::key::Key;
use crate::evidence::{self, Story};
use crate::replica::{Query, Reply};
use crate::routes::{Question, Routes};

/// A signed bundle about one transition, made by the voter that is asked from its own record.
pub(super) async fn evidence(
    State(routes): Shared,
    Extension(peer): Extension<Peer>,
    Path(id): Path<u64>,
) -> Answered {
    let query = Query::Transition(TransitionId(id));
    let (key, record, status, declared): Gathered<'_, Record> = gathered(&routes, query).await?;
    let story = Story::of_transition(&record);
    let slice = slice(&routes, story).await.map_err(unavailable)?;
    let made = (routes.name().to_owned(), wire::clock::wall());
    let told = evidence::evidence(made, &record, &status, declared.topology, slice);
    let bundle = evidence::sign(&told, key).map_err(unavailable)?;
    // What cannot be verified is not handed out.
    evidence::verify(&bundle).map_err(unavailable)?;
    asks(&routes, &peer, Some(record.service), format!("evidence of transition {id}"));
    Ok(Json(Bundle { bundle }).into_response())
}

/// A signed bundle about one drill.
pub(super) async fn of_drill(
    State(routes): Shared,
    Extension(peer): Extension<Peer>,
    Path(id): Path<u64>,
) -> Answered {
    let query = Query::Drill(DrillId(id));
    let (key, told, status, declared): Gathered<'_, DrillTold> = gathered(&routes, query).await?;
    let DrillTold { drill, transitions, waits: _ } = told;
    let slice = slice(&routes, Story::of_drill(&drill, &transitions)).await;
    let slice = slice.map_err(unavailable)?;
    let made = (routes.name().to_owned(), wire::clock::wall());
    let service = drill.service.clone();
    let whole = (drill, transitions);
    let told = evidence::drill::evidence(made, whole, &status, declared.topology, slice);
    let bundle = evidence::drill::sign(&told, key).map_err(unavailable)?;
    evidence::drill::verify(&bundle).map_err(unavailable)?;
    asks(&routes, &peer, Some(service), format!("evidence of drill {id}"));
    Ok(Json(Bundle { bundle }).into_response())
}

fn unavailable(error: String) -> Refused {
    let remedy = "ask again in a moment, or another voter";
    refused(StatusCode::SERVICE_UNAVAILABLE, error, remedy)
}

/// What every bundle is made of: the key, what it is about, how everything stands, and what is
/// declared.
type Gathered<'a, T> = (&'a Key, T, Status, DeclaredTopology);

async fn gathered<T: DeserializeOwned>(
    routes: &Routes,
    query: Query,
) -> Result<Gathered<'_, T>, Refused> {
    let key = routes.own.key.as_ref().map_err(|error| unavailable(error.clone()))?;
    let found = sought(routes, query).await?;
    let status = sought(routes, Query::Status).await?;
    Ok((key, found, status, sought(routes, Query::Topology).await?))
}

/// What the leader has, or this voter where there is none.
async fn sought<T: DeserializeOwned>(routes: &Routes, query: Query) -> Result<T, Refused> {
    let mut reply = routes.ask(Question::Query(query.clone())).await;
    if matches!(reply, Reply::NoLeader | Reply::InDoubt(_)) {
        reply = routes.ask_here(Question::Query(query)).await;
    }
    let own = |error: String| {
        refused(StatusCode::INTERNAL_SERVER_ERROR, format!("an answer of our own: {error}"), "")
    };
    let Reply::Found(value) = reply else {
        return answer(reply).and(Err(own("of another kind".into())));
    };
    serde_json::from_value(value).map_err(|error| own(error.to_string()))
}

/// The audit records of a story, as this voter has them.
async fn slice(routes: &Routes, story: Story<'_>) -> Result<evidence::Slice, String> {
    let name = story.name();
    let mut search = evidence::Search::new(story);
    let mut next = 1;
    'read: loop {
        let reply = routes.ask_here(Question::Query(Query::Audit(next))).await;
        let Reply::Found(value) = reply else {
            return Err(format!("the audit record cannot be read: {reply:?}"));
        };
        let page: AuditPage = serde_json::from_value(value).map_err(|e| e.to_string())?;
        if page.lines.is_empty() {
            break;
        }
        for line in &page.lines {
            next += 1;
            if search.take(line)? {
                break 'read;
            }
        }
    }
    let none = "this voter does not have all of its audit records";
    search.done().ok_or_else(|| format!("{name}: {none}"))
}
