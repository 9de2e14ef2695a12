//! Clients other than the wrapper around reqwest's, on real sockets.
#![cfg(all(feature = "hyper-client", feature = "reqwest-middleware", feature = "axum"))]

mod common;

use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::routing::get;
use common::{Seen, Spans, int, text};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use opentelemetry::trace::SpanKind;
use spanweave_core::StatusCode as Status;
use spanweave_core::propagation::{self, Active, Propagators};
use spanweave_instrumentation::http::client::{
    Attempts, HttpClient, HttpClientLayer, SpanMiddleware, UrlTemplate,
};
use spanweave_instrumentation::http::server::HttpServerLayer;
use tokio::net::TcpListener;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tracing::Instrument;

type Body = Empty<bytes::Bytes>;

async fn serve(traced: bool) -> SocketAddr {
    let failures = Arc::new(AtomicUsize::new(0));
    let mut app = Router::new()
        .route(
            "/",
            get(|headers: HeaderMap| async move {
                headers
                    .get("traceparent")
                    .map(|parent| parent.to_str().unwrap().to_owned())
                    .unwrap_or_default()
            }),
        )
        .route("/slow", get(|| tokio::time::sleep(Duration::from_secs(60))))
        .route(
            "/third",
            get(move || async move {
                match failures.fetch_add(1, Ordering::Relaxed) {
                    0 | 1 => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::OK,
                }
            }),
        );
    if traced {
        app = app.layer(HttpServerLayer::new());
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn request(address: SocketAddr, path: &str) -> Request<Body> {
    Request::get(format!("http://user:pass@{address}{path}")).body(Empty::new()).unwrap()
}

fn hyper() -> Client<hyper_util::client::legacy::connect::HttpConnector, Body> {
    Client::builder(TokioExecutor::new()).build_http()
}

fn attempts(seen: &[Seen]) -> Vec<&Seen> {
    seen.iter().filter(|span| span.kind == SpanKind::Client).collect()
}

#[tokio::test]
async fn hypers_client_under_the_layer_is_described_by_the_conventions() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve(false).await;
    let mut client = HttpClientLayer::new().capture_request_headers(["x-tenant"]).layer(hyper());
    let mut outgoing = request(address, "/?sig=secret");
    outgoing.extensions_mut().insert(UrlTemplate("/".into()));
    outgoing.headers_mut().insert("x-tenant", "a".parse().unwrap());
    let response = client.ready().await.unwrap().call(outgoing).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let span = spans.one().await;
    assert_eq!((span.name.as_str(), span.kind.clone()), ("GET /", SpanKind::Client));
    assert_eq!(span.status, Status::Unset);
    let url = format!("http://REDACTED:REDACTED@{address}/?sig=REDACTED");
    span.has("http.request.method", text("GET"))
        .has("url.full", text(&url))
        .has("url.template", text("/"))
        .has("server.address", text("127.0.0.1"))
        .has("server.port", int(address.port().into()))
        .has("network.protocol.version", text("1.1"))
        .has("http.response.status_code", int(200))
        .has("http.response.body.size", int(55))
        .has("http.request.resend_count", None)
        .has("error.type", None);
    assert!(span.get("http.request.header.x-tenant").is_some());
    assert_eq!(body, format!("00-{}-{}-03", span.trace_id, span.span_id));
}

#[tokio::test]
async fn failures_and_timeouts_have_a_class_and_giving_up_is_no_error() {
    let (spans, _guard) = Spans::on_this_thread();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = HttpClientLayer::new().layer(hyper());
    client.oneshot(request(gone, "/")).await.unwrap_err();

    let address = serve(false).await;
    let timed = ServiceBuilder::new()
        .layer(HttpClientLayer::new())
        .timeout(Duration::from_millis(30))
        .service(hyper());
    let error: BoxError = timed.oneshot(request(address, "/slow")).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>(), "the error is as it was");

    let client = HttpClientLayer::new().layer(hyper());
    let call = client.oneshot(request(address, "/slow"));
    tokio::time::timeout(Duration::from_millis(30), call).await.unwrap_err();

    let seen = spans.wait(3).await;
    seen[0].has("error.type", text("connect"));
    seen[1].has("error.type", text("timeout")).has("spanweave.outcome", None);
    seen[2].has("error.type", None).has("spanweave.outcome", text("cancelled"));
    let statuses: Vec<_> = seen.iter().map(|span| span.status).collect();
    assert_eq!(statuses, [Status::Error, Status::Error, Status::Unset]);
}

#[derive(Clone)]
struct Again;

impl<B> tower::retry::Policy<Request<Body>, Response<B>, hyper_util::client::legacy::Error>
    for Again
{
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        result: &mut Result<Response<B>, hyper_util::client::legacy::Error>,
    ) -> Option<Ready<()>> {
        let failed = result.as_ref().is_ok_and(|response| response.status().is_server_error());
        failed.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }
}

fn assert_siblings(seen: &[Seen]) {
    let caller = seen.iter().find(|span| span.name == "caller").unwrap();
    let attempts = attempts(seen);
    assert_eq!(attempts.len(), 3);
    for (number, attempt) in attempts.iter().enumerate() {
        assert_eq!(attempt.parent, Some(caller.span_id));
        let count = (number > 0).then(|| int(number.try_into().unwrap()));
        attempt.has("http.request.resend_count", count);
        attempt.has("http.response.status_code", int(if number < 2 { 503 } else { 200 }));
    }
}

#[tokio::test]
async fn retries_above_the_layer_are_numbered_siblings() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve(false).await;
    let client = ServiceBuilder::new().retry(Again).layer(HttpClientLayer::new()).service(hyper());
    let mut outgoing = request(address, "/third");
    outgoing.extensions_mut().insert(Attempts::new());
    let response =
        client.oneshot(outgoing).instrument(tracing::info_span!("caller")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    drop(response);
    assert_siblings(&spans.wait(4).await);
}

struct RetryMiddleware;

#[async_trait::async_trait]
impl reqwest_middleware::Middleware for RetryMiddleware {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut axum::http::Extensions,
        next: reqwest_middleware::Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        loop {
            let copy = request.try_clone().unwrap();
            let response = next.clone().run(copy, extensions).await?;
            if !response.status().is_server_error() {
                return Ok(response);
            }
        }
    }
}

#[tokio::test]
async fn the_middleware_makes_numbered_siblings_and_covers_the_body() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve(false).await;
    let client = reqwest_middleware::ClientBuilder::new(reqwest::Client::new())
        .with(RetryMiddleware)
        .with(SpanMiddleware::new())
        .build();
    let url = format!("http://{address}/third");
    let response = client.get(&url).send().instrument(tracing::info_span!("caller")).await.unwrap();
    assert_eq!(response.url().as_str(), url);
    assert!(response.remote_addr().is_some());
    drop(response);
    assert_siblings(&spans.wait(4).await);

    let text_of = client.get(format!("http://{address}/")).send().await.unwrap().text().await;
    let seen = spans.wait(5).await;
    let last = &seen[4];
    assert_eq!(text_of.unwrap(), format!("00-{}-{}-03", last.trace_id, last.span_id));
    last.has("http.response.body.size", int(55)).has("network.peer.address", text("127.0.0.1"));
}

#[tokio::test]
async fn an_applications_own_retries_are_numbered_siblings() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve(false).await;
    let (client, attempts) = (HttpClient::new(), Attempts::new());
    let call = async {
        loop {
            let request = client.get(format!("http://{address}/third")).attempts(&attempts);
            if request.send().await.unwrap().status().is_success() {
                break;
            }
        }
    };
    call.instrument(tracing::info_span!("caller")).await;
    assert_siblings(&spans.wait(4).await);
}

#[tokio::test]
async fn a_middlewares_call_that_fails_has_a_class() {
    let (spans, _guard) = Spans::on_this_thread();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = reqwest_middleware::ClientBuilder::new(reqwest::Client::new())
        .with(SpanMiddleware::new())
        .build();
    client.get(format!("http://{gone}/")).send().await.unwrap_err();
    spans.one().await.has("error.type", text("connect"));
}

#[tokio::test]
async fn every_client_records_the_name_of_the_service_that_answers() {
    let (spans, _guard) = Spans::on_this_thread();
    propagation::set_active(Active::new(Propagators::default().with_service_name("users")));
    let address = serve(true).await;
    HttpClient::new().get(format!("http://{address}/")).send().await.unwrap();
    HttpClientLayer::new().layer(hyper()).oneshot(request(address, "/")).await.unwrap();
    let seen = spans.wait(4).await;
    for attempt in attempts(&seen) {
        attempt.has("service.peer.name", text("users"));
    }
    assert_eq!(attempts(&seen).len(), 2);
}
