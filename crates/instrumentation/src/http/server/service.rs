use std::any::Any;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use opentelemetry::baggage::BaggageExt;
use spanweave_core::propagation;
use tower_service::Service;

use super::future::{Reply, ResponseFuture};
use super::layer::Settings;
use super::{request, request_body};
use crate::http::TracedBody;
use crate::http::exchange::{Exchange, inside};
use crate::peer;

/// The service that [`HttpServerLayer`](super::HttpServerLayer) makes.
#[derive(Clone, Debug)]
pub struct HttpServer<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> HttpServer<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }
}

impl<S, B, R> Service<Request<B>> for HttpServer<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Any,
    R: Body,
{
    type Response = Response<TracedBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let parent = propagation::extract(request.headers());
        let peer = request::peer(request.extensions());
        let (span, carries) = request::span(&request, &self.settings, peer, &parent);
        self.settings.request_headers.record(request.headers(), &span);
        let reply = Reply {
            settings: Arc::clone(&self.settings),
            method: request.method().clone(),
            own_name: peer::own_name(&parent, peer.map(|peer| peer.ip())),
        };
        // What the span does not carry on stays current: baggage, and all where there is no span.
        let passed_on = (!carries || !parent.baggage().is_empty()).then_some(parent);
        let mut exchange = Exchange::new(span).in_context(passed_on);
        exchange.count_request_body(request_body::count(&mut request));
        let mut exchange = Some(exchange);
        let inner = inside(&mut exchange, || self.inner.call(request));
        ResponseFuture::new(inner, exchange, reply)
    }
}
