//! Calls of tonic, on real sockets.
#![cfg(feature = "grpc")]

mod common;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::uri::PathAndQuery;
use common::{Seen, Spans, int, text};
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{SpanKind, TraceContextExt};
use spanweave_core::SpanExt;
use spanweave_core::StatusCode as Kind;
use spanweave_core::propagation::{self, Active, Propagators};
use spanweave_instrumentation::grpc::{self, GrpcClient, GrpcClientLayer, GrpcServerLayer};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{Layer, Service, service_fn};
use tracing::Instrument;

type Codec = ProstCodec<String, String>;
type Texts = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

async fn unary(request: Request<String>) -> Result<Response<String>, Status> {
    match request.into_inner().as_str() {
        "missing" => Err(Status::not_found("no such thing")),
        "internal" => Err(Status::internal("broken")),
        "panic" => panic!("on purpose"),
        "slow" => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(Response::new(String::new()))
        }
        "tenant" => {
            let tenant = opentelemetry::Context::map_current(|cx| {
                cx.baggage().get("tenant").map(ToString::to_string)
            });
            Ok(Response::new(tenant.unwrap_or_default()))
        }
        other => Ok(Response::new(other.to_owned())),
    }
}

/// Answers every text twice; fails after `fail`, and never ends after `hang`.
async fn doubled(request: Request<Streaming<String>>) -> Result<Response<Texts>, Status> {
    let mut texts = request.into_inner();
    let (to, from) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(Ok(text)) = texts.next().await {
            match text.as_str() {
                "fail" => drop(to.send(Err(Status::data_loss("gone"))).await),
                "hang" => std::future::pending().await,
                _ => {
                    for _ in 0..2 {
                        drop(to.send(Ok(text.clone())).await);
                    }
                }
            }
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(from);
    Ok(Response::new(Box::pin(stream)))
}

impl Service<axum::http::Request<Body>> for Echo {
    type Response = axum::http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: axum::http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Codec::default());
            Ok(match request.uri().path() {
                "/test.Echo/Unary" => grpc.unary(service_fn(unary), request).await,
                "/test.Echo/Doubled" => grpc.streaming(service_fn(doubled), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

type Client = tonic::client::Grpc<GrpcClient<Channel>>;

async fn serve() -> (SocketAddr, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = Server::builder().layer(GrpcServerLayer::new()).add_service(Echo);
    tokio::spawn(server.serve_with_incoming(incoming));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let layer = GrpcClientLayer::new().destination(endpoint.uri().clone());
    (address, tonic::client::Grpc::new(layer.layer(endpoint.connect_lazy())))
}

async fn call(client: &mut Client, method: &'static str, body: &str) -> Result<String, Status> {
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static(method);
    let request = Request::new(body.to_owned());
    Ok(client.unary(request, path, Codec::default()).await?.into_inner())
}

async fn stream(client: &mut Client, texts: &'static [&'static str]) -> Streaming<String> {
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.Echo/Doubled");
    let texts = tokio_stream::iter(texts.iter().map(|text| (*text).to_owned()));
    client.streaming(Request::new(texts), path, Codec::default()).await.unwrap().into_inner()
}

/// The client's span and the server's.
fn both(seen: &[Seen]) -> [&Seen; 2] {
    assert_eq!(seen.len(), 2);
    [SpanKind::Client, SpanKind::Server]
        .map(|kind| seen.iter().find(|span| span.kind == kind).unwrap())
}

#[tokio::test]
async fn a_call_is_described_on_both_sides_and_is_one_trace() {
    let (spans, _guard) = Spans::on_this_thread();
    let (address, mut client) = serve().await;
    assert_eq!(call(&mut client, "/test.Echo/Unary", "hello").await.unwrap(), "hello");
    let seen = spans.wait(2).await;
    let [sent, served] = both(&seen);
    assert_eq!(served.parent, Some(sent.span_id));
    assert_eq!(served.trace_id, sent.trace_id);
    for span in [sent, served] {
        assert_eq!(span.name, "test.Echo/Unary");
        assert_eq!(span.status, Kind::Unset);
        span.has("rpc.system.name", text("grpc"))
            .has("rpc.method", text("test.Echo/Unary"))
            .has("rpc.status_code", text("OK"))
            .has("rpc.response.status_code", text("OK"))
            .has("spanweave.rpc.request.messages", int(1))
            .has("spanweave.rpc.response.messages", int(1))
            .has("server.address", text("127.0.0.1"))
            .has("server.port", int(address.port().into()))
            .has("error.type", None)
            .has("spanweave.outcome", None);
    }
}

#[tokio::test]
async fn codes_are_errors_by_the_side_that_sees_them() {
    let (spans, _guard) = Spans::on_this_thread();
    let (_, mut client) = serve().await;
    for (body, code, name, server_fails) in [
        ("missing", Code::NotFound, "NOT_FOUND", false),
        ("internal", Code::Internal, "INTERNAL", true),
    ] {
        let before = spans.now().len();
        let status = call(&mut client, "/test.Echo/Unary", body).await.unwrap_err();
        assert_eq!(status.code(), code);
        let seen = spans.wait(before + 2).await;
        let [sent, served] = both(&seen[before..]);
        sent.has("rpc.status_code", text(name)).has("error.type", text(name));
        served.has("rpc.status_code", text(name));
        served.has("error.type", server_fails.then(|| text(name)));
        assert_eq!(sent.status, Kind::Error);
        assert_eq!(served.status, if server_fails { Kind::Error } else { Kind::Unset });
    }
}

#[tokio::test]
async fn a_method_that_the_server_does_not_have_makes_no_name() {
    let (spans, _guard) = Spans::on_this_thread();
    let (_, mut client) = serve().await;
    call(&mut client, "/test.Echo/Random123", "x").await.unwrap_err();
    let seen = spans.wait(2).await;
    let [sent, served] = both(&seen);
    assert_eq!((sent.name.as_str(), served.name.as_str()), ("test.Echo/Random123", "_OTHER"));
    served
        .has("rpc.method", text("_OTHER"))
        .has("rpc.method_original", text("test.Echo/Random123"))
        .has("error.type", text("UNIMPLEMENTED"));
}

#[tokio::test]
async fn the_messages_of_a_stream_are_counted_and_its_end_is_the_spans() {
    let (spans, _guard) = Spans::on_this_thread();
    let (_, mut client) = serve().await;
    let mut answers = stream(&mut client, &["a", "b", "c"]).await;
    let mut count = 0;
    while answers.next().await.transpose().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 6);
    for span in both(&spans.wait(2).await) {
        span.has("spanweave.rpc.request.messages", int(3))
            .has("spanweave.rpc.response.messages", int(6))
            .has("rpc.status_code", text("OK"));
    }
}

#[tokio::test]
async fn a_stream_that_fails_in_the_middle_is_an_error_on_both_sides() {
    let (spans, _guard) = Spans::on_this_thread();
    let (_, mut client) = serve().await;
    let mut answers = stream(&mut client, &["a", "fail"]).await;
    while answers.next().await.is_some_and(|answer| answer.is_ok()) {}
    for span in both(&spans.wait(2).await) {
        span.has("spanweave.rpc.response.messages", int(2))
            .has("rpc.status_code", text("DATA_LOSS"))
            .has("error.type", text("DATA_LOSS"));
        assert_eq!(span.status, Kind::Error);
    }
}

#[tokio::test]
async fn a_stream_that_the_client_gives_up_is_cancelled_and_no_error() {
    let (spans, _guard) = Spans::on_this_thread();
    let (_, mut client) = serve().await;
    let mut answers = stream(&mut client, &["a", "hang"]).await;
    answers.next().await.unwrap().unwrap();
    drop(answers);
    for span in both(&spans.wait(2).await) {
        span.has("rpc.status_code", text("CANCELLED")).has("spanweave.outcome", text("cancelled"));
        assert_eq!(span.status, Kind::Unset);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_and_one_that_is_late_have_their_codes() {
    let (spans, _guard) = Spans::on_this_thread();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{gone}")).unwrap();
    let channel = GrpcClientLayer::new().layer(endpoint.connect_lazy());
    let mut client = tonic::client::Grpc::new(channel);
    let status = call(&mut client, "/test.Echo/Unary", "x").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    spans.one().await.has("error.type", text("UNAVAILABLE"));

    let (address, _) = serve().await;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let endpoint = endpoint.timeout(Duration::from_millis(50));
    let channel = GrpcClientLayer::new().layer(endpoint.connect_lazy());
    let mut client = tonic::client::Grpc::new(channel);
    call(&mut client, "/test.Echo/Unary", "slow").await.unwrap_err();
    let seen = spans.wait(3).await;
    let late = seen[1..].iter().find(|span| span.kind == SpanKind::Client).unwrap();
    late.has("rpc.status_code", text("DEADLINE_EXCEEDED"));
}

#[tokio::test]
async fn a_panic_in_a_handler_is_the_outcome_of_its_span() {
    let (spans, _guard) = Spans::on_this_thread();
    let (_, mut client) = serve().await;
    call(&mut client, "/test.Echo/Unary", "panic").await.unwrap_err();
    let seen = spans.wait(2).await;
    both(&seen)[1].has("error.type", text("panic"));
}

#[tokio::test]
async fn baggage_and_the_names_of_services_travel() {
    let (spans, _guard) = Spans::on_this_thread();
    propagation::set_active(Active::new(Propagators::default().with_service_name("echo")));
    let (_, mut client) = serve().await;
    let baggage = [opentelemetry::KeyValue::new("tenant", "acme")];
    let caller = tracing::info_span!("caller");
    caller.set_parent(opentelemetry::Context::new().with_baggage(baggage)).unwrap();
    let answer = call(&mut client, "/test.Echo/Unary", "tenant").instrument(caller).await;
    assert_eq!(answer.unwrap(), "acme");
    let seen = spans.wait(3).await;
    both(&seen[1..])[0].has("service.peer.name", text("echo"));

    // A layer that does not know where it leads sends the ids alone.
    let (address, _) = serve().await;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = GrpcClientLayer::new().layer(endpoint.connect_lazy());
    let mut client = tonic::client::Grpc::new(channel);
    let caller = tracing::info_span!("caller");
    let baggage = [opentelemetry::KeyValue::new("tenant", "acme")];
    caller.set_parent(opentelemetry::Context::new().with_baggage(baggage)).unwrap();
    let answer = call(&mut client, "/test.Echo/Unary", "tenant").instrument(caller).await;
    assert_eq!(answer.unwrap(), "");
    let seen = spans.wait(6).await;
    assert_eq!(seen[3].trace_id, seen[5].trace_id);
}

#[tokio::test]
async fn metadata_is_a_carrier() {
    let (_spans, _guard) = Spans::on_this_thread();
    let span = tracing::info_span!("work");
    let mut metadata = MetadataMap::new();
    span.in_scope(|| grpc::inject(&mut metadata));
    assert!(metadata.contains_key("traceparent"));
    let cx = grpc::extract(&metadata);
    assert_eq!(cx.span().span_context().span_id(), span.span_context().span_id());
    assert!(cx.span().span_context().is_remote());
}
