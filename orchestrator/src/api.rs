//! The HTTP API of a voter.
//!
//! Whoever has a certificate of the cluster may connect; what each may ask for is decided here,
//! by the kind, the role and the name in its certificate (I-32). Every refusal is logged.

mod alerts;
mod bundle;
mod drill;
mod request;
mod rights;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use failover::event::NoteKind;
use failover::ids::{InstanceId, NameServerId, ServiceId, TransitionId};
use failover::rehearse::Hypothesis;
use failover::report::{Observation, Report};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use wire::http::Problem;
use wire::role::{Peer, Shown};

use crate::audit::asked;
use crate::door::{self, Reason};
use crate::feed::Audience;
use crate::message::Envelope;
use crate::page;
use crate::projection::Projection;
use crate::replica::{Query, Reply};
use crate::routes::{Inbound, Question, Routes};

/// How long a poll waits for news at the most.
const POLL: Duration = Duration::from_secs(20);
/// Largest body of another voter: a snapshot.
const RAFT_BYTES: usize = 16 << 20;

type Shared = State<Arc<Routes>>;
type Answered = Result<Response, Refused>;

/// All routes.
pub fn router(routes: Arc<Routes>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/v1/report", post(report))
        .route("/v1/assignment/{instance}", get(assignment))
        .route("/v1/zone", get(zone))
        .route("/v1/raft", post(raft).layer(axum::extract::DefaultBodyLimit::max(RAFT_BYTES)))
        .route("/v1/forward", post(forward))
        .route("/v1/status", get(status))
        .route("/v1/overview", get(overview))
        .route("/v1/events", get(events))
        .route("/v1/explain/{service}", get(explain))
        .route("/v1/what-if", get(what_if))
        .route("/v1/readiness", get(readiness))
        .route("/v1/history", get(history))
        .route("/v1/transitions", get(transitions))
        .route("/v1/transitions/{id}", get(transition))
        .route("/v1/alerts", get(alerts::all))
        .route("/v1/alerts/test", post(alerts::test))
        .route("/v1/topology", get(topology))
        .route("/v1/audit", get(audit))
        .route("/v1/evidence/{id}", get(bundle::evidence))
        .route("/v1/evidence/drills/{id}", get(bundle::of_drill))
        .route("/v1/calendar", get(drill::calendar))
        .route("/v1/drills", get(drill::all))
        .route("/v1/drills/{id}", get(drill::one))
        .route("/v1/drill-plan", get(drill::plan))
        .route("/v1/approvals", get(approvals))
        .route("/v1/loss/{service}", get(loss))
        .route("/v1/requests", post(request::request))
        .with_state(routes.clone())
        .merge(page::files())
        .layer(axum::middleware::from_fn(rights::admit))
        .layer(axum::middleware::from_fn_with_state(routes, door::guard))
}

/// An error answer.
struct Refused(StatusCode, Problem);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let reason = Reason(self.1.error.clone());
        let mut response = (self.0, Json(self.1)).into_response();
        response.extensions_mut().insert(reason);
        response
    }
}

fn refused(code: StatusCode, error: impl Into<String>, remedy: &str) -> Refused {
    Refused(code, Problem::new(error).with_remedy(remedy))
}

/// Of those that [`rights`] lets in, the one that is named.
fn only(peer: &Peer, name: &str) -> Result<(), Refused> {
    if name == peer.name {
        return Ok(());
    }
    let wanted = format!("{} `{name}`", peer.kind);
    tracing::warn!(%peer, "refused: this is for {wanted}");
    Err(refused(
        StatusCode::FORBIDDEN,
        format!("this is for {wanted}; the certificate is for {peer}"),
        "use the certificate that was made for this",
    ))
}

fn read<T: DeserializeOwned>(peer: &Peer, body: &Bytes) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| {
        tracing::warn!(%peer, "refused: a body that cannot be read: {error}");
        let text = format!("the body cannot be read: {error}");
        refused(StatusCode::BAD_REQUEST, text, "run the same version on both sides")
    })
}

/// A name in a path or a query.
fn name<T: std::str::FromStr>(text: &str) -> Result<T, Refused>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| refused(StatusCode::BAD_REQUEST, error.to_string(), ""))
}

fn answer(reply: Reply) -> Answered {
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    match reply {
        Reply::Report(answer) => Ok(Json(answer).into_response()),
        Reply::Accepted(accepted) => Ok(Json(accepted).into_response()),
        Reply::Found(value) => Ok(Json(value).into_response()),
        Reply::Refused { error, findings } => {
            let findings = findings.iter().filter_map(|f| serde_json::to_value(f).ok());
            let problem = Problem { error, findings: findings.collect(), ..Problem::default() };
            Err(Refused(StatusCode::CONFLICT, problem))
        }
        Reply::Unknown(error) => Err(refused(StatusCode::NOT_FOUND, error, "")),
        Reply::NoLeader => Err(refused(
            unavailable,
            "no leader is known to this voter",
            "wait for an election, or see with `baton status` which voters are reached",
        )),
        Reply::InDoubt(error) => Err(refused(
            StatusCode::GATEWAY_TIMEOUT,
            error,
            "look at `baton history` before asking again",
        )),
        Reply::Stopped(error) => {
            Err(refused(unavailable, format!("this voter does not act: {error}"), ""))
        }
    }
}

async fn livez(State(routes): Shared) -> Answered {
    match routes.standing.borrow().stopped.clone() {
        Some(reason) => answer(Reply::Stopped(reason)),
        None => Ok(Json("alive").into_response()),
    }
}

async fn readyz(State(routes): Shared) -> Answered {
    let standing = routes.standing.borrow().clone();
    match (standing.stopped, standing.leader) {
        (Some(reason), _) => answer(Reply::Stopped(reason)),
        (None, None) => answer(Reply::NoLeader),
        (None, Some(_)) => Ok(Json("ready").into_response()),
    }
}

async fn report(State(routes): Shared, Extension(peer): Extension<Peer>, body: Bytes) -> Answered {
    let report: Report = read(&peer, &body)?;
    only(&peer, report.instance.as_str())?;
    routes.hooks(&peer, &report);
    if let Some(receiver) = report.receiver.as_ref().filter(|receiver| !receiver.streaming) {
        // A broken stream: look for oneself, now.
        routes.look(&receiver.upstream);
    }
    answer(routes.ask(Question::Report(Box::new(report))).await)
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn assignment(
    State(routes): Shared,
    Extension(peer): Extension<Peer>,
    Path(instance): Path<String>,
    Parameters(After { after }): Parameters<After>,
) -> Answered {
    only(&peer, &instance)?;
    let instance: InstanceId = name(&instance)?;
    let polling = Polling { routes: &routes, instance: &instance, done: false };
    let found = poll(&routes, |projection| {
        let assignment = projection.assignments.get(&instance)?;
        (assignment.revision.0 > after).then(|| assignment.clone())
    })
    .await;
    polling.done();
    let current = || routes.projection.borrow().assignments.get(&instance).cloned();
    match found.or_else(current) {
        Some(assignment) => Ok(Json(assignment).into_response()),
        None => Err(refused(
            StatusCode::NOT_FOUND,
            format!("instance `{instance}` is not declared, as far as this voter knows"),
            "apply the topology: `baton apply`",
        )),
    }
}

/// Notices that an agent hung up while it was waiting: perhaps it died.
struct Polling<'a> {
    routes: &'a Routes,
    instance: &'a InstanceId,
    done: bool,
}

impl Polling<'_> {
    fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.routes.look(self.instance);
        }
    }
}

#[derive(Deserialize)]
struct ZonePoll {
    #[serde(default)]
    after: u32,
    server: String,
    have: Option<u32>,
}

async fn zone(
    State(routes): Shared,
    Extension(peer): Extension<Peer>,
    Extension(shown): Extension<Shown>,
    Parameters(ZonePoll { after, server, have }): Parameters<ZonePoll>,
) -> Answered {
    only(&peer, &server)?;
    let server: NameServerId = name(&server)?;
    {
        let routes = routes.clone();
        tokio::spawn(async move {
            if let Some(version) = have {
                let server = server.clone();
                routes.observe(Observation::Follows { server, version }).await;
            }
            let certificate_seconds = shown.until.left(wire::clock::wall());
            routes.observe(Observation::Presented { server, certificate_seconds }).await;
        });
    }
    let found = poll(&routes, |projection| {
        (projection.zone.version > after).then(|| projection.zone.clone())
    })
    .await;
    let zone = found.unwrap_or_else(|| routes.projection.borrow().zone.clone());
    if zone.version == 0 {
        return Err(refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "there is no zone yet",
            "apply the topology: `baton apply`",
        ));
    }
    Ok(Json(&*zone).into_response())
}

/// Waits until `look` finds something, at most [`POLL`].
async fn poll<T>(routes: &Routes, look: impl Fn(&Projection) -> Option<T>) -> Option<T> {
    let until = Instant::now() + POLL;
    let mut changes = routes.projection.clone();
    loop {
        let found = look(&changes.borrow_and_update());
        if found.is_some() {
            return found;
        }
        match timeout_at(until, changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return None,
        }
    }
}

#[derive(Deserialize)]
struct Posted {
    /// The sender reads answers; one of an earlier version does not, and is posted to.
    #[serde(default)]
    answer: bool,
}

async fn raft(
    State(routes): Shared,
    Extension(peer): Extension<Peer>,
    Parameters(Posted { answer: reads }): Parameters<Posted>,
    body: Bytes,
) -> Answered {
    let envelope: Envelope = read(&peer, &body)?;
    if let Some(reason) = routes.standing.borrow().stopped.clone() {
        return answer(Reply::Stopped(reason));
    }
    let (sender, receiver) = oneshot::channel();
    let asker = reads.then_some(sender);
    if !routes.submit(Inbound::Peer(peer.name, Box::new(envelope), asker)) {
        return Err(refused(StatusCode::SERVICE_UNAVAILABLE, "too much to do", ""));
    }
    // What these messages make this voter say to their sender goes back the way they came: half
    // the requests of a quiet cluster.
    match receiver.await {
        Ok(answer) if !answer.messages.is_empty() || !answer.look.is_empty() => {
            Ok(Json(answer).into_response())
        }
        Ok(_) | Err(_) => Ok(StatusCode::OK.into_response()),
    }
}

async fn forward(State(routes): Shared, Extension(peer): Extension<Peer>, body: Bytes) -> Answered {
    let question: Question = read(&peer, &body)?;
    // One step only: a voter that does not lead says so, and passes nothing on.
    let leads = routes.standing.borrow().leads;
    let reply = if leads { routes.ask_here(question).await } else { Reply::NoLeader };
    Ok(Json(reply).into_response())
}

/// Asks the leader; what this voter knows itself is better than nothing, and says who answered.
async fn look_up(routes: &Routes, query: Query) -> Reply {
    let reply = routes.ask(Question::Query(query.clone())).await;
    if matches!(reply, Reply::NoLeader | Reply::InDoubt(_)) {
        return routes.ask_here(Question::Query(query)).await;
    }
    reply
}

async fn query(routes: &Routes, query: Query) -> Answered {
    answer(look_up(routes, query).await)
}

#[derive(Deserialize)]
struct StatusOf {
    /// As the voter that is asked sees it, and not the leader.
    #[serde(default)]
    here: bool,
}

async fn status(
    State(routes): Shared,
    Parameters(StatusOf { here }): Parameters<StatusOf>,
) -> Answered {
    if here {
        return answer(routes.ask_here(Question::Query(Query::Status)).await);
    }
    query(&routes, Query::Status).await
}

async fn overview(State(routes): Shared, Parameters(after): Parameters<page::After>) -> Answered {
    Ok(page::overview(&routes, Audience::Operators, after).await)
}

async fn events(State(routes): Shared) -> Answered {
    Ok(page::events(&routes, Audience::Operators))
}

async fn explain(
    State(routes): Shared,
    Extension(peer): Extension<Peer>,
    Path(service): Path<String>,
) -> Answered {
    let service: ServiceId = name(&service)?;
    let reply = look_up(&routes, Query::Explain(service.clone())).await;
    if let Reply::Found(found) = &reply {
        let first = found.pointer("/findings/0/text").and_then(serde_json::Value::as_str);
        let proposes = found.pointer("/proposes").and_then(serde_json::Value::as_str);
        let text = match (proposes, first) {
            (Some(cause), _) => format!("why something is done: {cause}"),
            (None, Some(finding)) => format!("why nothing is done: {finding}"),
            (None, None) => "why nothing is done: nothing is found amiss".into(),
        };
        asks(&routes, &peer, Some(service), text);
    }
    answer(reply)
}

/// Somebody asked what is not done, and why: that is on record.
fn asks(routes: &Arc<Routes>, peer: &Peer, service: Option<ServiceId>, text: String) {
    let (routes, by) = (Arc::clone(routes), door::called(peer));
    let note = door::note(NoteKind::Question, service, text);
    tokio::spawn(async move { routes.put_on_record(&by, note).await });
}

#[derive(Deserialize)]
struct WhatIfOf {
    /// A [`failover::rehearse::Hypothesis`] as JSON.
    hypothesis: String,
}

/// Only a leader has the evidence: nobody else answers.
async fn what_if(
    State(routes): Shared,
    Extension(peer): Extension<Peer>,
    Parameters(WhatIfOf { hypothesis }): Parameters<WhatIfOf>,
) -> Answered {
    let hypothesis: Box<Hypothesis> = read(&peer, &Bytes::from(hypothesis))?;
    let text = match &*hypothesis {
        Hypothesis::LoseSite(site) => format!("what if site {site} is lost"),
        Hypothesis::Cut(one, other) => format!("what if nothing passes between {one} and {other}"),
        Hypothesis::Freeze(instance) => format!("what if {instance} freezes"),
        Hypothesis::Ask(request) => format!("what if asked to {}", asked(request)),
    };
    let answered = answer(routes.ask(Question::Query(Query::WhatIf(hypothesis))).await);
    if answered.is_ok() {
        asks(&routes, &peer, None, text);
    }
    answered
}

#[derive(Deserialize)]
struct ReadinessOf {
    /// A site or a service.
    of: Option<String>,
}

/// As [`what_if`].
async fn readiness(
    State(routes): Shared,
    Parameters(ReadinessOf { of }): Parameters<ReadinessOf>,
) -> Answered {
    answer(routes.ask(Question::Query(Query::Readiness { of })).await)
}

#[derive(Deserialize)]
struct HistoryOf {
    service: Option<ServiceId>,
    limit: Option<usize>,
}

async fn history(
    State(routes): Shared,
    Parameters(HistoryOf { service, limit }): Parameters<HistoryOf>,
) -> Answered {
    query(&routes, Query::History { service, limit: limit.unwrap_or(100) }).await
}

async fn transitions(State(routes): Shared) -> Answered {
    query(&routes, Query::Transitions).await
}

async fn transition(State(routes): Shared, Path(id): Path<u64>) -> Answered {
    query(&routes, Query::Transition(TransitionId(id))).await
}

#[derive(Deserialize)]
struct AuditFrom {
    #[serde(default)]
    from: u64,
}

/// Answered by the voter that is asked: what each of them has can be compared.
async fn audit(
    State(routes): Shared,
    Parameters(AuditFrom { from }): Parameters<AuditFrom>,
) -> Answered {
    answer(routes.ask_here(Question::Query(Query::Audit(from))).await)
}

/// As [`what_if`].
async fn loss(State(routes): Shared, Path(service): Path<String>) -> Answered {
    let service: ServiceId = name(&service)?;
    answer(routes.ask(Question::Query(Query::Loss(service))).await)
}

async fn approvals(State(routes): Shared) -> Answered {
    query(&routes, Query::Approvals).await
}

async fn topology(State(routes): Shared) -> Answered {
    query(&routes, Query::Topology).await
}
