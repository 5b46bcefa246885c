//! The page: a few files that are part of this program, and what they ask for.
//!
//! It is served twice. Behind mutual TLS, on the voter's own port, to whoever shows an operator's
//! certificate; and, only where `[page]` says so, on a plain port, with what nobody needs a
//! certificate for: no person's name, no reason, no quoted message, no address. Both only read.
//! Nothing is loaded from anywhere else, and the browser is told to refuse if it were.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query as Parameters, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use failover::ids::Revision;
use serde::Deserialize;

use crate::feed::Audience;
use crate::routes::Routes;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Every file: its path, its type, what is in it.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/page.css", CSS, include_str!("page/page.css")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/feed.js", SCRIPT, include_str!("page/feed.js")),
    ("/words.js", SCRIPT, include_str!("page/words.js")),
    ("/picture.js", SCRIPT, include_str!("page/picture.js")),
    ("/tables.js", SCRIPT, include_str!("page/tables.js")),
    ("/story.js", SCRIPT, include_str!("page/story.js")),
];

/// The browser loads from here only, sends nothing anywhere, and shows this in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// How long an overview that is asked for with `after` waits for news.
const WAIT: Duration = Duration::from_millis(500);
/// How long the first one may take to be made.
const FIRST: Duration = Duration::from_secs(3);

/// Whether a file lies there.
pub fn is_file(path: &str) -> bool {
    FILES.iter().any(|(of, ..)| *of == path)
}

/// The files.
pub fn files() -> Router {
    let mut router = Router::new();
    for (path, kind, text) in FILES {
        router = router.route(path, get(|| async { ([(header::CONTENT_TYPE, *kind)], *text) }));
    }
    router.layer(from_fn(guarded))
}

/// Everything there is on the plain port.
pub fn router(routes: Arc<Routes>) -> Router {
    Router::new()
        .route("/v1/overview", get(overview_for_anyone))
        .route("/v1/events", get(events_for_anyone))
        .with_state(routes)
        .layer(from_fn(guarded))
        .merge(files())
        .layer(from_fn(own_name))
}

/// What `GET /v1/overview` may ask.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct After {
    after: Option<u64>,
}

async fn overview_for_anyone(
    State(routes): State<Arc<Routes>>,
    Parameters(after): Parameters<After>,
) -> Response {
    overview(&routes, Audience::Anyone, after).await
}

async fn events_for_anyone(State(routes): State<Arc<Routes>>) -> Response {
    events(&routes, Audience::Anyone)
}

/// The document; with `after`, once the revision is above that, or half a second later.
pub async fn overview(routes: &Routes, audience: Audience, After { after }: After) -> Response {
    let Some(place) = routes.feed.listen(audience) else { return full() };
    let (after, within) = after.map_or((0, FIRST), |after| (after, WAIT));
    if let Some(told) = place.newest(Revision(after), within).await {
        ([(header::CONTENT_TYPE, "application/json")], told.whole()).into_response()
    } else {
        let text = "this voter does not act, or its disk does not answer: see its log\n";
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

/// The document, and then what is new in it.
pub fn events(routes: &Routes, audience: Audience) -> Response {
    let Some(place) = routes.feed.listen(audience) else { return full() };
    ([(header::CONTENT_TYPE, "text/event-stream")], place.events()).into_response()
}

fn full() -> Response {
    let text = "as many look at this voter already as may: look at another\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}

/// A site of somebody else's whose name is made to point here would be read by its own scripts:
/// names that are no address are refused.
async fn own_name(request: Request, next: Next) -> Response {
    if is_literal(request.headers()) {
        return next.run(request).await;
    }
    let text = "ask by address or as `localhost`: names are refused here, lest a foreign site's \
                name be made to point here\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

fn is_literal(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, _)) => inside,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_asked_by() {
        let asked = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a header"));
            is_literal(&headers)
        };
        for host in ["127.0.0.1:7490", "127.0.0.1", "[::1]:7490", "[::1]", "localhost:7490"] {
            assert!(asked(host), "{host}");
        }
        for host in ["evil.example", "evil.example:7490", "127.0.0.1.evil.example:7490", ""] {
            assert!(!asked(host), "{host}");
        }
        assert!(!is_literal(&HeaderMap::new()));
    }

    /// The policy lets nothing in that stands inside the page.
    #[test]
    fn nothing_is_inline_and_nothing_is_foreign() {
        for (path, _, text) in FILES {
            for mark in ["innerHTML", "outerHTML", "AdjacentHTML", "document.write", "eval("] {
                assert!(!text.contains(mark), "{path}: {mark}");
            }
            assert!(!text.contains("://"), "{path}: an address");
        }
        let (_, _, html) = FILES[0];
        for mark in ["style=", "onclick=", "<style", "<script>"] {
            assert!(!html.contains(mark), "{mark}");
        }
    }
}
