//! Who may ask for what: one table for every route. Whatever is not in it is nobody's.
//!
//! What a person may ask to be changed, the leader judges: [`failover::people`].

use std::fmt;

use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use failover::people::{Right, lacks};
use wire::role::{Kind, Peer};

use super::{Refused, refused};

/// Whom a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// Whoever has a certificate of the cluster.
    Anyone,
    /// A voter.
    Voter,
    /// The agent of the instance that is named.
    Agent,
    /// The name server that is named.
    Dns,
    /// People whose role has this right.
    Person(Right),
}

const ROUTES: &[(Method, &str, Caller)] = &[
    (Method::GET, "/livez", Caller::Anyone),
    (Method::GET, "/readyz", Caller::Anyone),
    (Method::POST, "/v1/report", Caller::Agent),
    (Method::GET, "/v1/assignment/{instance}", Caller::Agent),
    (Method::GET, "/v1/zone", Caller::Dns),
    (Method::POST, "/v1/raft", Caller::Voter),
    (Method::POST, "/v1/forward", Caller::Voter),
    (Method::GET, "/v1/status", Caller::Person(Right::Look)),
    (Method::GET, "/v1/overview", Caller::Person(Right::Look)),
    (Method::GET, "/v1/events", Caller::Person(Right::Look)),
    (Method::GET, "/v1/explain/{service}", Caller::Person(Right::Look)),
    (Method::GET, "/v1/what-if", Caller::Person(Right::Look)),
    (Method::GET, "/v1/readiness", Caller::Person(Right::Look)),
    (Method::GET, "/v1/history", Caller::Person(Right::Look)),
    (Method::GET, "/v1/transitions", Caller::Person(Right::Look)),
    (Method::GET, "/v1/transitions/{id}", Caller::Person(Right::Look)),
    (Method::GET, "/v1/topology", Caller::Person(Right::Look)),
    (Method::GET, "/v1/audit", Caller::Person(Right::Look)),
    (Method::GET, "/v1/evidence/{id}", Caller::Person(Right::Look)),
    (Method::GET, "/v1/evidence/drills/{id}", Caller::Person(Right::Look)),
    (Method::GET, "/v1/alerts", Caller::Person(Right::Look)),
    (Method::POST, "/v1/alerts/test", Caller::Person(Right::Operate)),
    (Method::GET, "/v1/calendar", Caller::Person(Right::Look)),
    (Method::GET, "/v1/drills", Caller::Person(Right::Look)),
    (Method::GET, "/v1/drills/{id}", Caller::Person(Right::Look)),
    (Method::GET, "/v1/drill-plan", Caller::Person(Right::Look)),
    (Method::GET, "/v1/loss/{service}", Caller::Person(Right::Look)),
    (Method::GET, "/v1/approvals", Caller::Person(Right::Look)),
    // What exactly, and in which role: the leader's word, on its record.
    (Method::POST, "/v1/requests", Caller::Person(Right::Look)),
];

impl Caller {
    fn refuses(self, peer: &Peer) -> Option<String> {
        let fits = match (self, peer.kind) {
            (Self::Anyone, _)
            | (Self::Voter, Kind::Voter)
            | (Self::Agent, Kind::Agent)
            | (Self::Dns, Kind::Dns) => true,
            (Self::Person(right), Kind::Operator(role)) => {
                return lacks(&peer.name, role, right);
            }
            (Self::Voter | Self::Agent | Self::Dns | Self::Person(_), _) => false,
        };
        (!fits).then(|| format!("this is for {self}; the certificate is for {peer}"))
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Voter => write!(f, "a {}", Kind::Voter),
            Self::Agent => write!(f, "an {}", Kind::Agent),
            Self::Dns => write!(f, "a {}", Kind::Dns),
            Self::Person(Right::Look) => f.write_str("a person"),
            Self::Person(right) => write!(f, "a person who is {}", right.holders()),
        }
    }
}

/// Stands before every route, behind the record of who comes.
pub(super) async fn admit(request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        // There is no such route: that is what is answered.
        return next.run(request).await;
    };
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let peer = request.extensions().get::<Peer>();
    let judged = peer.map(|peer| judge(method, path.as_str(), peer));
    match judged {
        Some(Ok(())) => next.run(request).await,
        Some(Err(refused)) => refused.into_response(),
        None => refused(StatusCode::FORBIDDEN, "nobody is known to ask", "").into_response(),
    }
}

fn judge(method: &Method, path: &str, peer: &Peer) -> Result<(), Refused> {
    let listed = ROUTES.iter().find(|(of, route, _)| of == method && *route == path);
    // The page's files are nobody's secret.
    let file = method == Method::GET && crate::page::is_file(path);
    let caller = listed.map(|(.., caller)| *caller).or(file.then_some(Caller::Anyone));
    let Some(caller) = caller else {
        let text = format!("{path} does not take {method}");
        return Err(refused(StatusCode::METHOD_NOT_ALLOWED, text, ""));
    };
    let Some(text) = caller.refuses(peer) else { return Ok(()) };
    tracing::warn!(%peer, "refused: {text}");
    Err(refused(StatusCode::FORBIDDEN, text, "use the certificate that was made for this"))
}
