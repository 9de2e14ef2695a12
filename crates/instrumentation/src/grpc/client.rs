use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use spanweave_core::{SpanExt, propagation};
use tower_layer::Layer;
use tower_service::Service;
use tracing::field::Empty;

use super::body::{CallBody, CallFuture, End, counted};
use super::call::{Call, Side, inside};
use super::server::{address, method, port};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A tower layer that gives every call a client span and carries the trace in its metadata; see the
/// [module](super). It goes around a `tonic::transport::Channel` or anything that tonic's clients
/// take.
#[derive(Clone, Debug, Default)]
pub struct GrpcClientLayer {
    destination: Option<Uri>,
}

impl GrpcClientLayer {
    /// The layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the channel leads (`Endpoint::uri`). A channel is asked for paths alone, so without
    /// this the layer knows no server: the spans name none, and by the egress policy the metadata
    /// carries the ids of the trace, no baggage and no name.
    #[must_use]
    pub fn destination(mut self, uri: Uri) -> Self {
        self.destination = Some(uri);
        self
    }
}

impl<S> Layer<S> for GrpcClientLayer {
    type Service = GrpcClient<S>;

    fn layer(&self, inner: S) -> GrpcClient<S> {
        GrpcClient { inner, destination: self.destination.clone() }
    }
}

/// The service that [`GrpcClientLayer`] makes.
#[derive(Clone, Debug)]
pub struct GrpcClient<S> {
    inner: S,
    destination: Option<Uri>,
}

impl<S, R> Service<Request<tonic::body::Body>> for GrpcClient<S>
where
    S: Service<Request<tonic::body::Body>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    R: Body<Data = Bytes>,
{
    type Response = Response<CallBody<R>>;
    type Error = BoxError;
    type Future =
        CallFuture<Pin<Box<dyn Future<Output = Result<Response<R>, BoxError>> + Send + 'static>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let own = request.uri().clone();
        let method = method(own.path());
        let uri = match &self.destination {
            Some(destination) if own.host().is_none() => destination,
            _ => &own,
        };
        let span = tracing::info_span!(
            target: "spanweave::grpc::client",
            "grpc.client.call",
            otel.name = method,
            otel.kind = "client",
            otel.status_code = Empty,
            rpc.system.name = "grpc",
            rpc.method = method,
            rpc.status_code = Empty,
            rpc.response.status_code = Empty,
            server.address = uri.authority().map(address),
            server.port = uri.authority().and_then(|authority| port(authority, uri.scheme_str())).map(i64::from),
            service.peer.name = Empty,
            spanweave.rpc.request.messages = Empty,
            spanweave.rpc.response.messages = Empty,
            error.type = Empty,
            spanweave.outcome = Empty,
        );
        let call = Call::new(span, Side::Client, method.to_owned(), None);
        let requests = call.requests();
        let mut request = request.map(|body| counted(body, requests));
        propagation::inject_context_for(&call.span.context(), uri, request.headers_mut());
        let host = uri.host().unwrap_or_default().to_owned();
        let mut call = Some(call);
        let sent = inside(&mut call, || self.inner.call(request));
        let sent = Box::pin(async move { sent.await.map_err(Into::into) });
        CallFuture::new(sent, call, End::Client { host })
    }
}
