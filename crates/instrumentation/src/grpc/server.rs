use std::any::Any;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response};
use http_body::Body;
use opentelemetry::baggage::BaggageExt;
use spanweave_core::propagation;
use tower_layer::Layer;
use tower_service::Service;
use tracing::field::Empty;

use super::body::{CallBody, CallFuture, End, counted};
use super::call::{Call, Side, inside};
use crate::{caller, peer};

/// A tower layer that gives every call a server span; see the [module](super). It goes into
/// `tonic::transport::Server::layer`.
#[derive(Clone, Copy, Debug, Default)]
pub struct GrpcServerLayer(());

impl GrpcServerLayer {
    /// The layer.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for GrpcServerLayer {
    type Service = GrpcServer<S>;

    fn layer(&self, inner: S) -> GrpcServer<S> {
        GrpcServer { inner }
    }
}

/// The service that [`GrpcServerLayer`] makes.
#[derive(Clone, Debug)]
pub struct GrpcServer<S> {
    inner: S,
}

impl<S, R> Service<Request<tonic::body::Body>> for GrpcServer<S>
where
    S: Service<Request<tonic::body::Body>, Response = Response<R>>,
    S::Error: Any,
    R: Body<Data = Bytes>,
    R::Error: Any,
{
    type Response = Response<CallBody<R>>;
    type Error = S::Error;
    type Future = CallFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let parent = propagation::extract(request.headers());
        let peer = request.extensions().get::<SocketAddr>().copied();
        let own_name = peer::own_name(&parent, peer.map(|peer| peer.ip()));
        let (span, carries) = span(&request, &parent);
        let passed_on = (!carries || !parent.baggage().is_empty()).then_some(parent);
        let call =
            Call::new(span, Side::Server, method(request.uri().path()).to_owned(), passed_on);
        let requests = call.requests();
        let request = request.map(|body| counted(body, requests));
        let mut call = Some(call);
        let answered = inside(&mut call, || self.inner.call(request));
        CallFuture::new(answered, call, End::Server { own_name })
    }
}

/// The span of a call, and whether it carries the caller's trace on.
fn span<B>(request: &Request<B>, parent: &opentelemetry::Context) -> (tracing::Span, bool) {
    let uri = request.uri();
    let method = method(uri.path());
    // A parent cannot be given as a value that may be absent, hence a macro.
    macro_rules! server_span {
        ($($parent:tt)*) => {
            tracing::info_span!(
                target: "spanweave::grpc::server",
                $($parent)*
                "grpc.server.call",
                otel.name = method,
                otel.kind = "server",
                otel.status_code = Empty,
                rpc.system.name = "grpc",
                rpc.method = method,
                rpc.method_original = Empty,
                rpc.status_code = Empty,
                rpc.response.status_code = Empty,
                server.address = uri.authority().map(address),
                server.port = uri
                    .authority()
                    .and_then(|authority| port(authority, uri.scheme_str()))
                    .map(i64::from),
                spanweave.rpc.request.messages = Empty,
                spanweave.rpc.response.messages = Empty,
                error.type = Empty,
                spanweave.outcome = Empty,
            )
        };
    }
    caller::under(
        parent,
        |is_root| if is_root { server_span!(parent: None,) } else { server_span!() },
    )
}

/// `package.Service/Method`.
pub(super) fn method(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path)
}

/// The host, an IPv6 address without its brackets.
pub(super) fn address(authority: &Authority) -> &str {
    let host = authority.host();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

pub(super) fn port(authority: &Authority, scheme: Option<&str>) -> Option<u16> {
    authority.port_u16().or(match scheme? {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })
}
