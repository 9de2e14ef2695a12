//! The client, on real sockets.
#![cfg(all(feature = "reqwest", feature = "axum"))]

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use common::{Seen, Spans, int, text};
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::SpanKind;
use opentelemetry::{Context, KeyValue};
use spanweave_core::StatusCode as Status;
use spanweave_core::sync::lock;
use spanweave_instrumentation::http::client::HttpClient;
use spanweave_instrumentation::http::server::HttpServerLayer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[derive(Clone, Debug)]
struct Arrived {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Arrived>>>);

impl Log {
    fn all(&self) -> Vec<Arrived> {
        lock(&self.0).clone()
    }
}

/// Answers `/status/{code}`, `/to/{status}/{url}` (a redirect) and anything else with `"hello"`.
async fn answer(
    State(log): State<Log>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap, &'static str) {
    let path = uri.path().to_owned();
    lock(&log.0).push(Arrived { method, path: path.clone(), headers, body });
    let code = |text: &str| StatusCode::from_bytes(text.as_bytes()).unwrap();
    let mut out = HeaderMap::new();
    if let Some(status) = path.strip_prefix("/status/") {
        return (code(status), out, "status");
    }
    if let Some((status, to)) = path.strip_prefix("/to/").and_then(|rest| rest.split_once('/')) {
        out.insert("location", to.parse().unwrap());
        return (code(status), out, "moved");
    }
    (StatusCode::OK, out, "\"hello\"")
}

async fn serve() -> (SocketAddr, Log) {
    let log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(answer).with_state(log.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, log)
}

fn client_spans(seen: &[Seen]) -> Vec<&Seen> {
    seen.iter().filter(|span| span.kind == SpanKind::Client).collect()
}

#[tokio::test]
async fn a_call_is_described_by_the_conventions_and_carries_its_trace() {
    let (spans, _guard) = Spans::on_this_thread();
    let (address, log) = serve().await;
    let url = format!("http://user:pass@{address}/a?sig=secret&b=1");
    let hello: String = HttpClient::new().get(&url).send().await.unwrap().json().await.unwrap();
    assert_eq!(hello, "hello");

    let span = spans.one().await;
    assert_eq!((span.name.as_str(), span.kind.clone()), ("GET", SpanKind::Client));
    assert_eq!(span.status, Status::Unset);
    let url = span.get("url.full").unwrap().to_string();
    assert!(url.ends_with("/a?sig=REDACTED&b=1") && !url.contains("pass"), "{url}");
    span.has("http.request.method", text("GET"))
        .has("server.address", text("127.0.0.1"))
        .has("server.port", int(address.port().into()))
        .has("network.peer.address", text("127.0.0.1"))
        .has("network.peer.port", int(address.port().into()))
        .has("network.protocol.version", text("1.1"))
        .has("http.response.status_code", int(200))
        .has("http.response.body.size", int(7))
        .has("http.request.resend_count", None)
        .has("error.type", None)
        .has("spanweave.outcome", None);
    let arrived = &log.all()[0];
    let traceparent = arrived.headers["traceparent"].to_str().unwrap();
    assert_eq!(traceparent[3..52], format!("{}-{}", span.trace_id, span.span_id));
    assert!(arrived.headers["authorization"].to_str().unwrap().starts_with("Basic "));
}

#[tokio::test]
async fn a_template_becomes_part_of_the_name() {
    let (spans, _guard) = Spans::on_this_thread();
    let (address, _) = serve().await;
    let client = HttpClient::new();
    let call = client.post(format!("http://{address}/users/7")).url_template("/users/{id}");
    call.json(&[1]).send().await.unwrap().bytes().await.unwrap();
    let span = spans.one().await;
    assert_eq!(span.name, "POST /users/{id}");
    span.has("url.template", text("/users/{id}"));
}

#[tokio::test]
async fn statuses_from_400_on_are_errors_of_a_client() {
    let (spans, _guard) = Spans::on_this_thread();
    let (address, _) = serve().await;
    let client = HttpClient::new();
    for status in [204, 304, 404, 503] {
        let response =
            client.get(format!("http://{address}/status/{status}")).send().await.unwrap();
        assert_eq!(response.status(), status);
        if status == 404 {
            assert!(response.error_for_status().is_err());
        }
    }
    for span in spans.wait(4).await {
        let Some(opentelemetry::Value::I64(status)) = span.get("http.response.status_code") else {
            panic!("{span:?}");
        };
        let is_error = *status >= 400;
        assert_eq!(span.status == Status::Error, is_error, "{status}");
        assert_eq!(span.status_message, "");
        span.has("error.type", is_error.then(|| text(&status.to_string())))
            .has("spanweave.outcome", None);
    }
}

#[tokio::test]
async fn failed_transfers_have_a_class() {
    let (spans, _guard) = Spans::on_this_thread();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = HttpClient::new();
    // Accepted by the system, answered by nobody.
    let silent = client.get(format!("http://{address}/")).timeout(Duration::from_millis(50));
    assert!(silent.send().await.unwrap_err().is_timeout());
    // A response that is cut in the middle of its body.
    tokio::spawn(async move {
        for _ in 0..2 {
            let (mut connection, _) = listener.accept().await.unwrap();
            assert!(connection.read(&mut [0; 1024]).await.unwrap() > 0);
            let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
            connection.write_all(cut).await.ok();
        }
    });
    let cut = client.get(format!("http://{address}/")).send().await.unwrap();
    assert!(cut.bytes().await.is_err());
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(client.get(format!("http://{closed}/")).send().await.unwrap_err().is_connect());

    let seen = spans.wait(3).await;
    for (span, (class, status)) in
        seen.iter().zip([("timeout", None), ("body", Some(200)), ("connect", None)])
    {
        assert_eq!(span.status, Status::Error);
        span.has("error.type", text(class)).has("http.response.status_code", status.map(int));
    }
}

#[tokio::test]
async fn the_span_lasts_as_long_as_the_body_is_read() {
    let (spans, _guard) = Spans::on_this_thread();
    let (address, _) = serve().await;
    let client = HttpClient::new();
    let mut response = client.get(format!("http://{address}/")).send().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(spans.now().is_empty(), "the body has not been read");
    let mut read = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert_eq!(read, b"\"hello\"");
    let span = spans.one().await;
    assert!(span.duration >= Duration::from_millis(50));
    span.has("http.response.body.size", int(7));
}

#[tokio::test]
async fn the_body_can_be_taken_and_stays_covered() {
    use http_body_util::BodyExt;
    let (spans, _guard) = Spans::on_this_thread();
    let (address, _) = serve().await;
    let response = HttpClient::new().get(format!("http://{address}/")).send().await.unwrap();
    let body = response.into_body();
    assert!(spans.now().is_empty());
    assert_eq!(body.collect().await.unwrap().to_bytes(), "\"hello\"");
    spans.one().await.has("http.response.body.size", int(7));
}

#[tokio::test]
async fn an_unread_response_is_no_error_and_an_abandoned_request_is_cancelled() {
    let (spans, _guard) = Spans::on_this_thread();
    let (address, _) = serve().await;
    let client = HttpClient::new();
    drop(client.get(format!("http://{address}/")).send().await.unwrap());
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let call = client.get(format!("http://{}/", silent.local_addr().unwrap())).send();
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    let seen = spans.wait(2).await;
    assert!(seen.iter().all(|span| span.status == Status::Unset));
    seen[0].has("spanweave.outcome", None);
    seen[1].has("spanweave.outcome", text("cancelled")).has("error.type", None);
}

#[tokio::test]
async fn every_hop_of_a_redirect_is_a_span_of_its_own() {
    let (spans, _guard) = Spans::on_this_thread();
    let (address, log) = serve().await;
    let url = format!("http://{address}/to/307//to/303//end");
    let root = tracing::info_span!("root");
    let call = HttpClient::new().post(&url).body("payload").send();
    let response = tracing::Instrument::instrument(call, root).await.unwrap();
    assert_eq!(response.url().path(), "/end");
    drop(response);
    let seen = spans.wait(4).await;
    let root = seen.iter().find(|span| span.name == "root").unwrap();
    let hops = client_spans(&seen);
    for (hop, (name, status, count)) in
        hops.iter().zip([("POST", 307, None), ("POST", 303, Some(1)), ("GET", 200, Some(2))])
    {
        assert_eq!((hop.name.as_str(), hop.parent), (name, Some(root.span_id)));
        assert_eq!(hop.status, Status::Unset);
        hop.has("http.response.status_code", int(status))
            .has("http.request.resend_count", count.map(int));
    }
    for (arrived, hop) in log.all().iter().zip(&hops) {
        let traceparent = arrived.headers["traceparent"].to_str().unwrap();
        assert!(traceparent.contains(&hop.span_id.to_string()), "each hop has its own parent");
    }
    let arrived: Vec<_> =
        log.all().iter().map(|arrived| (arrived.method.clone(), arrived.body.clone())).collect();
    let payload = Bytes::from_static(b"payload");
    let expected =
        [(Method::POST, payload.clone()), (Method::POST, payload), (Method::GET, Bytes::new())];
    assert_eq!(arrived, expected);
}

#[tokio::test]
async fn a_redirect_that_leads_in_circles_is_the_response_after_the_limit() {
    let (spans, _guard) = Spans::on_this_thread();
    let (address, log) = serve().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let circle = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            assert!(connection.read(&mut [0; 2048]).await.unwrap() > 0);
            let back = b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            connection.write_all(back).await.ok();
        }
    });
    let client = HttpClient::new();
    let response = client.get(format!("http://{circle}/")).send().await.unwrap();
    assert_eq!(response.status(), 302);
    drop(response);
    assert_eq!(spans.wait(11).await.len(), 11);
    let response = client.max_redirects(0).get(format!("http://{address}/to/302//x")).send().await;
    assert_eq!(response.unwrap().status(), 302);
    assert_eq!(log.all().len(), 1);
}

#[tokio::test]
async fn a_redirect_to_another_host_does_not_take_baggage_along() {
    let (spans, _guard) = Spans::on_this_thread();
    let (address, log) = serve().await;
    let public = "http://public.example.com/end";
    // The public host leads to the same server.
    let builder = reqwest::Client::builder().no_proxy();
    let builder = builder.resolve("public.example.com", address);
    let client = HttpClient::build(builder).unwrap();
    let public = public.replace(".com/", &format!(".com:{}/", address.port()));
    let baggage = Context::current().with_baggage([KeyValue::new("tenant", "7")]);
    let call = client
        .get(format!("http://{address}/to/302/{public}"))
        .bearer_auth("secret")
        .header("cookie", "secret=1")
        .send();
    let call = opentelemetry::trace::FutureExt::with_context(call, baggage);
    let response = call.await.unwrap();
    assert_eq!(response.status(), 200);
    drop(response);
    let arrived = log.all();
    assert_eq!(arrived[0].headers["baggage"], "tenant=7", "loopback gets everything");
    assert_eq!(arrived[1].path, "/end");
    assert!(arrived[1].headers.contains_key("traceparent"));
    for header in ["baggage", "tracestate", "authorization", "cookie"] {
        assert!(!arrived[1].headers.contains_key(header), "{header}");
    }
    spans.wait(2).await;
}

#[tokio::test]
async fn a_server_span_is_the_child_of_its_client_span() {
    let (spans, _guard) = Spans::on_this_thread();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new()
        .route("/users/{id}", axum::routing::get(|| async { "ok" }))
        .layer(HttpServerLayer::new());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let response = HttpClient::new().get(format!("http://{address}/users/7")).send().await;
    assert_eq!(response.unwrap().text().await.unwrap(), "ok");
    let seen = spans.wait(2).await;
    let find = |kind| seen.iter().find(|span| span.kind == kind).unwrap();
    let (client, server) = (find(SpanKind::Client), find(SpanKind::Server));
    assert_eq!(server.parent, Some(client.span_id));
    assert_eq!(server.trace_id, client.trace_id);
}

#[tokio::test]
async fn without_spans_the_callers_trace_still_goes_on() {
    // No subscriber: the server makes no span, and the client passes on what arrived.
    let (address, log) = serve().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = listener.local_addr().unwrap();
    let handler = move || async move {
        HttpClient::new().get(format!("http://{address}/")).send().await.unwrap();
    };
    let app = Router::new().route("/", axum::routing::get(handler)).layer(HttpServerLayer::new());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let call = reqwest::Client::new().get(format!("http://{relay}/")).header("traceparent", parent);
    call.send().await.unwrap();
    assert_eq!(log.all()[0].headers["traceparent"], parent);
}
