//! The page and its JSON: plain HTML made on the server, no script, nothing from elsewhere.
//!
//! Every request is answered from the store as it is then; the work is done on a thread for blocking work,
//! so that receiving goes on. Two defences: everything from spans goes through one escaping function, and
//! the content security policy allows nothing but the one style sheet.

mod api;
mod html;
mod map;

mod index;
mod trace;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};

use crate::store::TraceStore;

const STYLE: &str = include_str!("style.css");

const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Traces on the first page and in what it sums up.
const RECENT: usize = 1000;

pub(crate) fn router(store: Arc<TraceStore>) -> Router {
    Router::new()
        .route("/", get(show_index))
        .route("/trace/{id}", get(show_trace))
        .route("/api/traces", get(api_traces))
        .route("/api/traces/{id}", get(api_trace))
        .route("/api/operations", get(api_operations))
        .route("/api/services", get(api_services))
        .route("/style.css", get(style))
        .layer(from_fn(guard))
        .with_state(store)
}

/// Answers only where the `Host` names this machine, and adds the headers that every answer carries.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = if is_local(request.headers()) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "this page is for localhost only\n").into_response()
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    }
    .unwrap_or_default();
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

type Store = State<Arc<TraceStore>>;

async fn show_index(State(store): Store, uri: Uri) -> Response {
    let order = index::Order::of(uri.query());
    render("text/html; charset=utf-8", move || {
        Some(index::page(&store.recent(RECENT), store.counts(), order))
    })
    .await
}

async fn show_trace(State(store): Store, Path(id): Path<String>) -> Response {
    render("text/html; charset=utf-8", move || Some(trace::page(&store.trace(id.parse().ok()?)?)))
        .await
}

async fn api_traces(State(store): Store) -> Response {
    render("application/json", move || {
        Some(api::traces(&store.traces(), store.counts()).to_string())
    })
    .await
}

async fn api_trace(State(store): Store, Path(id): Path<String>) -> Response {
    render("application/json", move || {
        Some(api::trace(&store.trace(id.parse().ok()?)?).to_string())
    })
    .await
}

async fn api_operations(State(store): Store) -> Response {
    render("application/json", move || Some(api::operations(&store.traces()).to_string())).await
}

async fn api_services(State(store): Store) -> Response {
    render("application/json", move || Some(api::services(&store.traces()).to_string())).await
}

async fn style() -> Response {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

/// 404 where `make` finds nothing.
async fn render(
    content_type: &'static str,
    make: impl FnOnce() -> Option<String> + Send + 'static,
) -> Response {
    match tokio::task::spawn_blocking(make).await {
        Ok(Some(body)) => ([(CONTENT_TYPE, content_type)], body).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "no such trace\n").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        let local = |host: &str| {
            is_local(&HeaderMap::from_iter([(HOST, HeaderValue::from_str(host).unwrap())]))
        };
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:4318", "127.9.9.9", "[::1]:1"] {
            assert!(local(host), "{host}");
        }
        for host in ["", "evil", "10.0.0.1", "localhost.evil", "[::2]:1", "[", "127.0.0.1.x"] {
            assert!(!local(host), "{host}");
        }
    }

    #[test]
    fn hostile_spans_never_break_a_page_or_the_json() {
        for traces in crate::analysis::hostile_traces() {
            let counts = crate::store::StoreCounts::default();
            let index = index::page(&traces, counts, index::Order::Slowest);
            assert!(!index.contains("<evil>"));
            for trace in &traces {
                let page = trace::page(trace);
                assert!(page.contains("&lt;evil&gt;") && !page.contains("<evil>"));
                assert!(!page.contains("NaN%") && !page.contains("inf%"));
                assert!(api::trace(trace).is_object());
            }
            assert!(api::traces(&traces, counts).is_object());
            assert!(api::operations(&traces).is_object());
            assert!(api::services(&traces).is_object());
        }
    }
}
