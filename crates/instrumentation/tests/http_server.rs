//! The server layer, on real sockets.
#![cfg(feature = "axum")]

mod common;

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use axum::routing::{any, get};
use bytes::Bytes;
use common::{Spans, int, text};
use http_body::Frame;
use opentelemetry::trace::{SpanKind, TraceId};
use spanweave_core::{StatusCode as Status, propagation};
use spanweave_instrumentation::http::KnownMethods;
use spanweave_instrumentation::http::server::HttpServerLayer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

const PAUSE: Duration = Duration::from_millis(40);

/// A body of `pieces` pieces with a pause before each, which then ends or fails.
struct Slow {
    pieces: usize,
    fails: bool,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Slow {
    fn body(pieces: usize, fails: bool) -> Body {
        Body::new(Self { pieces, fails, sleep: Box::pin(tokio::time::sleep(PAUSE)) })
    }
}

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.pieces == 0 {
            let failure = Err(std::io::ErrorKind::BrokenPipe.into());
            return Poll::Ready(self.fails.then_some(failure));
        }
        if self.sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.pieces -= 1;
        self.sleep = Box::pin(tokio::time::sleep(PAUSE));
        tracing::info_span!("piece").in_scope(|| {});
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"0123456789")))))
    }
}

fn app() -> Router {
    Router::new()
        .route("/users/{id}", any(|Path(id): Path<String>| async move { id }))
        .route("/fail", get(|| async { StatusCode::BAD_GATEWAY }))
        .route("/teapot", get(|| async { StatusCode::IM_A_TEAPOT }))
        .route("/empty", get(|| async { StatusCode::NO_CONTENT }))
        .route(
            "/panic",
            get(|| async {
                if true {
                    panic!("on purpose")
                }
            }),
        )
        .route("/stream", get(|| async { Slow::body(3, false) }))
        .route("/broken", get(|| async { Response::new(Slow::body(1, true)) }))
        .route("/endless", get(|| async { Slow::body(usize::MAX, false) }))
        .route("/never", get(std::future::pending::<()>))
        .route("/upgrade", get(|| async { (StatusCode::SWITCHING_PROTOCOLS, [("upgrade", "x")]) }))
        .route(
            "/known-length",
            get(|| async {
                Response::builder()
                    .header("content-length", "20")
                    .body(Slow::body(2, false))
                    .unwrap()
            }),
        )
        .route(
            "/onwards",
            get(|| async {
                let mut headers = HeaderMap::new();
                propagation::inject(&mut headers);
                headers
                    .get("baggage")
                    .map_or_else(Bytes::new, |value| Bytes::copy_from_slice(value.as_bytes()))
            }),
        )
        .layer(HttpServerLayer::new().known_methods(KnownMethods::default()))
}

async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Sends a request and reads until the server closes the connection.
async fn send(address: SocketAddr, request: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    // A connection that the server cuts off is a response, too.
    connection.read_to_end(&mut response).await.ok();
    String::from_utf8_lossy(&response).into_owned()
}

fn request(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: shop.example:8443\r\nconnection: close\r\n{headers}\r\n")
}

#[tokio::test]
async fn a_request_is_described_by_the_conventions() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve().await;
    let headers = "user-agent: test/1\r\n\
        traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    let response = send(address, &request("GET /users/7?a=1&sig=secret", headers)).await;
    assert!(response.ends_with('7'), "{response}");

    let span = spans.one().await;
    assert_eq!((span.name.as_str(), span.kind.clone()), ("GET /users/{id}", SpanKind::Server));
    assert_eq!(span.status, Status::Unset);
    assert_eq!(span.trace_id, TraceId::from_hex("4bf92f3577b34da6a3ce929d0e0e4736").unwrap());
    assert_eq!(span.parent.unwrap().to_string(), "00f067aa0ba902b7");
    span.has("http.request.method", text("GET"))
        .has("http.request.method_original", None)
        .has("http.route", text("/users/{id}"))
        .has("url.path", text("/users/7"))
        .has("url.scheme", text("http"))
        .has("url.query", text("a=1&sig=REDACTED"))
        .has("server.address", text("shop.example"))
        .has("server.port", int(8443))
        .has("client.address", text("127.0.0.1"))
        .has("network.peer.address", text("127.0.0.1"))
        .has("network.protocol.version", text("1.1"))
        .has("user_agent.original", text("test/1"))
        .has("http.response.status_code", int(200))
        .has("http.response.body.size", int(1))
        .has("error.type", None)
        .has("spanweave.outcome", None);
    assert!(matches!(span.get("network.peer.port"), Some(opentelemetry::Value::I64(1..))));
}

#[tokio::test]
async fn an_unmatched_request_is_named_by_its_method() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve().await;
    send(address, &request("GET /no/such/path", "")).await;
    let span = spans.one().await;
    assert_eq!(span.name, "GET");
    assert_eq!(span.status, Status::Unset, "4xx is the client's error");
    span.has("http.route", None).has("http.response.status_code", int(404)).has("error.type", None);
}

#[tokio::test]
async fn only_5xx_is_an_error_of_the_server() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve().await;
    send(address, &request("GET /teapot", "")).await;
    send(address, &request("GET /fail", "")).await;
    let seen = spans.wait(2).await;
    let teapot = seen.iter().find(|span| span.name == "GET /teapot").unwrap();
    assert_eq!(teapot.status, Status::Unset);
    teapot.has("error.type", None).has("http.response.status_code", int(418));
    let fail = seen.iter().find(|span| span.name == "GET /fail").unwrap();
    assert_eq!((fail.status, fail.status_message.as_str()), (Status::Error, ""));
    fail.has("error.type", text("502")).has("http.response.status_code", int(502));
}

#[tokio::test]
async fn an_unknown_method_stays_out_of_the_name() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve().await;
    send(address, &request("BREW /users/7", "")).await;
    let span = spans.one().await;
    assert_eq!(span.name, "HTTP /users/{id}");
    span.has("http.request.method", text("_OTHER"))
        .has("http.request.method_original", text("BREW"));
}

#[tokio::test]
async fn a_panic_in_the_handler_ends_the_span_as_an_error() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve().await;
    send(address, &request("GET /panic", "")).await;
    let span = spans.one().await;
    assert_eq!(span.status, Status::Error);
    span.has("error.type", text("panic"))
        .has("http.response.status_code", None)
        .has("spanweave.outcome", None);
}

#[tokio::test]
async fn a_caught_panic_is_a_panic_all_the_same() {
    let (spans, _guard) = Spans::on_this_thread();
    let call = app().oneshot(Request::get("/panic").body(Body::empty()).unwrap());
    let mut call = Box::pin(call);
    std::future::poll_fn(|cx| {
        let poll = std::panic::AssertUnwindSafe(|| call.as_mut().poll(cx));
        assert!(std::panic::catch_unwind(poll).is_err());
        Poll::Ready(())
    })
    .await;
    drop(call);
    spans.one().await.has("error.type", text("panic")).has("spanweave.outcome", None);
}

#[tokio::test]
async fn the_span_covers_the_streamed_body() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve().await;
    send(address, &request("GET /stream", "")).await;
    let seen = spans.wait(4).await;
    let span = seen.iter().find(|span| span.name == "GET /stream").unwrap();
    assert!(span.duration >= PAUSE * 3, "{:?}", span.duration);
    span.has("http.response.body.size", int(30)).has("spanweave.outcome", None);
    for piece in seen.iter().filter(|span| span.name == "piece") {
        assert_eq!(piece.parent, Some(span.span_id), "the body is polled inside the span");
    }
}

#[tokio::test]
async fn a_body_of_known_length_is_complete_with_its_last_byte() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve().await;
    send(address, &request("GET /known-length", "")).await;
    let seen = spans.wait(3).await;
    let span = seen.iter().find(|span| span.name == "GET /known-length").unwrap();
    span.has("http.response.body.size", int(20)).has("spanweave.outcome", None);
}

#[tokio::test]
async fn a_body_that_fails_is_an_error() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve().await;
    send(address, &request("GET /broken", "")).await;
    let seen = spans.wait(2).await;
    let span = seen.iter().find(|span| span.name == "GET /broken").unwrap();
    assert_eq!(span.status, Status::Error);
    span.has("error.type", text("axum_core::error::Error"))
        .has("http.response.status_code", int(200))
        .has("http.response.body.size", int(10));
}

#[tokio::test]
async fn a_dropped_connection_ends_the_span_as_cancelled() {
    for (path, status) in [("/endless", Some(200)), ("/never", None)] {
        let (spans, _guard) = Spans::on_this_thread();
        let address = serve().await;
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(request(&format!("GET {path}"), "").as_bytes()).await.unwrap();
        if status.is_some() {
            connection.read_exact(&mut [0; 20]).await.unwrap();
        } else {
            tokio::time::sleep(PAUSE).await;
        }
        drop(connection);
        let name = format!("GET {path}");
        let span = loop {
            tokio::time::sleep(PAUSE).await;
            if let Some(span) = spans.now().into_iter().find(|span| span.name == name) {
                break span;
            }
        };
        assert_eq!(span.status, Status::Unset, "{path}");
        span.has("spanweave.outcome", text("cancelled"))
            .has("http.response.status_code", status.map(int))
            .has("error.type", None);
    }
}

#[tokio::test]
async fn responses_without_a_body_end_the_span_at_once() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve().await;
    for line in ["GET /empty", "HEAD /stream", "HEAD /users/7"] {
        send(address, &request(line, "")).await;
    }
    send(address, &request("GET /upgrade", "connection: upgrade\r\nupgrade: x\r\n")).await;
    for span in spans.wait(4).await {
        assert_eq!(span.status, Status::Unset);
        span.has("spanweave.outcome", None);
        assert!(span.duration < PAUSE, "{span:?}");
    }
}

#[tokio::test]
async fn a_span_without_a_remote_parent_is_a_child_of_the_current_one() {
    let (spans, _guard) = Spans::on_this_thread();
    let outer = tracing::info_span!("outer");
    let entered = outer.enter();
    let request = Request::builder().method(Method::GET).uri("/users/7").body(Body::empty());
    let response = app().oneshot(request.unwrap());
    drop(entered);
    let response = tracing::Instrument::instrument(response, outer).await.unwrap();
    drop(response);
    let seen = spans.wait(2).await;
    let server = seen.iter().find(|span| span.kind == SpanKind::Server).unwrap();
    let outer = seen.iter().find(|span| span.name == "outer").unwrap();
    assert_eq!(server.parent, Some(outer.span_id));
}

#[tokio::test]
async fn baggage_goes_on_with_a_trace_and_without_one() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve().await;
    let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    for trace in [trace, ""] {
        let headers = format!("{trace}baggage: tenant=7\r\n");
        let response = send(address, &request("GET /onwards", &headers)).await;
        assert!(response.ends_with("tenant=7"), "{trace} {response}");
    }
    spans.wait(2).await;
}

#[tokio::test]
async fn headers_that_are_no_text_and_hosts_that_are_none_do_no_harm() {
    let (spans, _guard) = Spans::on_this_thread();
    let address = serve().await;
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = b"GET /users/7?&%zz&=& HTTP/1.1\r\nhost: [::\r\nuser-agent: \xff\xfe\r\n\
        traceparent: \xff\r\nbaggage: \xff\r\nconnection: close\r\n\r\n";
    connection.write_all(request).await.unwrap();
    let mut response = Vec::new();
    connection.read_to_end(&mut response).await.unwrap();
    assert!(response.starts_with(b"HTTP/1.1 200 "));
    let span = spans.one().await;
    assert_eq!(span.parent, None);
    span.has("server.address", None)
        .has("server.port", None)
        .has("user_agent.original", None)
        .has("url.query", text("&%zz&=&"));
}
