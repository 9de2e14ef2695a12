//! The server layer at the edge of a system: proxies, browsers, callers, long connections.
#![cfg(feature = "axum")]

mod common;

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::Event;
use axum::routing::{get, post};
use common::{Spans, int, text};
use futures_util::stream;
use opentelemetry::{Array, Value};
use spanweave_core::propagation::{self, Active, Propagator, Propagators};
use spanweave_core::{Sampler, StatusCode as Status};
use spanweave_instrumentation::http::server::{HttpServerLayer, upgraded};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn serve(layer: HttpServerLayer) -> SocketAddr {
    let app = Router::new()
        .route("/", get(|| async { ([("x-answer", "42")], "hello") }))
        .route("/upload", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/nothing", get(|| async { StatusCode::NO_CONTENT }))
        .route(
            "/events",
            get(|| async {
                let events =
                    (0..3).map(|n| Ok::<_, Infallible>(Event::default().data(n.to_string())));
                Sse::new(stream::iter(events))
            }),
        )
        .route(
            "/chat",
            get(|| async {
                let connection = upgraded("websocket");
                tokio::spawn(
                    async { tracing::info_span!("message").in_scope(|| ()) }.instrument(connection),
                );
                StatusCode::SWITCHING_PROTOCOLS
            }),
        )
        .layer(layer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn send(address: SocketAddr, line: &str, headers: &str, body: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request =
        format!("{line} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{headers}\r\n{body}");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    connection.read_to_end(&mut response).await.ok();
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test]
async fn the_client_behind_a_trusted_proxy_is_known_and_one_that_claims_to_be_another_is_not() {
    let (spans, _guard) = Spans::on_this_thread();
    let claims = "x-forwarded-for: 9.9.9.9\r\n";
    let trusting = HttpServerLayer::new().trusted_proxies(["127.0.0.0/8"]).unwrap();
    send(serve(trusting).await, "GET /", claims, "").await;
    send(serve(HttpServerLayer::new()).await, "GET /", claims, "").await;
    let seen = spans.wait(2).await;
    seen[0].has("client.address", text("9.9.9.9")).has("network.peer.address", text("127.0.0.1"));
    seen[1].has("client.address", text("127.0.0.1"));
    assert!(HttpServerLayer::new().trusted_proxies(["everybody"]).is_err());
}

#[tokio::test]
async fn sizes_of_both_bodies_and_the_time_to_the_first_byte_are_known() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve(HttpServerLayer::new()).await;
    let response = send(address, "POST /upload", "content-length: 5\r\n", "12345").await;
    assert!(response.ends_with('5'), "{response}");
    let chunked = "transfer-encoding: chunked\r\n";
    let response =
        send(address, "POST /upload", chunked, "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n").await;
    assert!(response.ends_with('7'), "{response}");
    send(address, "GET /nothing", "", "").await;
    let seen = spans.wait(3).await;
    seen[0].has("http.request.body.size", int(5)).has("http.response.body.size", int(1));
    seen[1].has("http.request.body.size", int(7)).has("http.response.body.size", int(1));
    seen[2].has("http.request.body.size", None).has("http.response.body.size", None);
    for span in &seen {
        match span.get("spanweave.http.time_to_first_byte_ms") {
            Some(Value::F64(millis)) => assert!(*millis > 0.0 && *millis < 5000.0, "{millis}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_upload_that_is_slow_is_covered_and_one_that_breaks_off_ends() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve(HttpServerLayer::new()).await;
    let head = "POST /upload HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(head.as_bytes()).await.unwrap();
    for piece in ["3\r\nabc\r\n", "2\r\nde\r\n", "0\r\n\r\n"] {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        slow.write_all(piece.as_bytes()).await.unwrap();
    }
    let span = spans.one().await;
    span.has("http.request.body.size", int(5)).has("http.response.status_code", int(200));
    assert!(span.duration >= std::time::Duration::from_millis(60), "{span:?}");

    let mut broken = TcpStream::connect(address).await.unwrap();
    broken.write_all(format!("{head}3\r\nabc\r\n").as_bytes()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    drop(broken);
    let seen = spans.wait(2).await;
    seen[1].has("http.request.body.size", int(3));
    assert_ne!(seen[1].get("http.response.status_code"), Some(&int(200)));
}

#[tokio::test]
async fn named_headers_become_arrays_and_secrets_among_them_are_masked() {
    let (spans, _guard) = Spans::on_this_thread();
    let layer = HttpServerLayer::new()
        .capture_request_headers(["X-Tenant", "authorization", "absent"])
        .capture_response_headers(["x-answer"]);
    let headers = "x-tenant: a\r\nX-Tenant: b\r\nauthorization: Bearer hunter2\r\nx-other: c\r\n";
    send(serve(layer).await, "GET /", headers, "").await;
    let span = spans.one().await;
    let array = |values: &[&'static str]| {
        Value::Array(Array::String(values.iter().map(|value| (*value).into()).collect()))
    };
    span.has("http.request.header.x-tenant", array(&["a", "b"]))
        .has("http.request.header.authorization", text("[masked]"))
        .has("http.request.header.absent", None)
        .has("http.request.header.x-other", None)
        .has("http.response.header.x-answer", array(&["42"]));
}

#[tokio::test]
async fn a_response_carries_the_trace_only_where_that_is_wanted() {
    let (spans, _guard) = Spans::on_this_thread();
    let plain = send(serve(HttpServerLayer::new()).await, "GET /", "", "").await;
    assert!(!plain.contains("traceparent"), "{plain}");
    let telling = serve(HttpServerLayer::new().trace_in_response(true)).await;
    let response = send(telling, "GET /", "", "").await;
    let span = spans.wait(2).await.remove(1);
    let parent = format!("00-{}-{}-03", span.trace_id, span.span_id);
    assert!(response.contains(&format!("\r\ntraceparent: {parent}\r\n")), "{response}");
    let timing = format!("\r\nserver-timing: traceparent;desc=\"{parent}\"\r\n");
    assert!(response.contains(&timing), "{response}");
}

#[tokio::test]
async fn callers_that_name_themselves_are_told_the_services_name() {
    let (_spans, _guard) = Spans::on_this_thread();
    propagation::set_active(Active::new(
        Propagators::new([Propagator::trace_context(), Propagator::b3()])
            .with_service_name("users, eu"),
    ));
    let address = serve(HttpServerLayer::new()).await;
    let ours = format!("traceparent: {PARENT}\r\ntracestate: sw=orders\r\n");
    let response = send(address, "GET /", &ours, "").await;
    assert!(response.contains("\r\nspanweave-service: users%2C%20eu\r\n"), "{response}");
    let other = format!("traceparent: {PARENT}\r\ntracestate: vendor=1\r\n");
    for headers in ["", &other] {
        let response = send(address, "GET /", headers, "").await;
        assert!(!response.contains("spanweave-service"), "{response}");
    }
}

#[tokio::test]
async fn a_caller_that_asks_not_to_sample_is_followed() {
    let (layer, spans) =
        Spans::start(|config| config.sampler = Sampler::always_on().parent_based());
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    propagation::set_active(Active::new(
        Propagators::new([Propagator::trace_context(), Propagator::b3()])
            .with_service_name("users, eu"),
    ));
    let address = serve(HttpServerLayer::new()).await;
    send(address, "GET /", "b3: 0\r\n", "").await;
    send(address, "GET /nothing", "", "").await;
    assert_eq!(spans.one().await.name, "GET /nothing");
}

#[tokio::test]
async fn a_span_covers_all_events_of_a_stream() {
    let (spans, _guard) = Spans::on_this_thread();
    let response = send(serve(HttpServerLayer::new()).await, "GET /events", "", "").await;
    assert!(response.contains("data: 2"), "{response}");
    let span = spans.one().await;
    span.has("http.response.body.size", int(27)).has("spanweave.outcome", None);
    assert_eq!(span.status, Status::Unset);
}

#[tokio::test]
async fn an_upgraded_connection_has_a_linked_span_of_its_own() {
    let (spans, _guard) = Spans::on_this_thread();
    send(serve(HttpServerLayer::new()).await, "GET /chat", "upgrade: x\r\n", "").await;
    let seen = spans.wait(3).await;
    let find = |name: &str| seen.iter().find(|span| span.name == name).unwrap();
    let (request, connection) = (find("GET /chat"), find("websocket"));
    request.has("http.response.status_code", int(101));
    connection.has("network.protocol.name", text("websocket"));
    assert_eq!(connection.parent, None);
    assert_ne!(connection.trace_id, request.trace_id);
    assert_eq!(connection.links, [(request.trace_id, request.span_id)]);
    assert_eq!(find("message").parent, Some(connection.span_id));
}
