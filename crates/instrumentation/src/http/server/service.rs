use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use opentelemetry::baggage::BaggageExt;
use spanweave_core::propagation;
use tower_service::Service;

use super::future::ResponseFuture;
use super::request;
use crate::http::exchange::{Exchange, inside};
use crate::http::{KnownMethods, TracedBody};

/// The service that [`HttpServerLayer`](super::HttpServerLayer) makes.
#[derive(Clone, Debug)]
pub struct HttpServer<S> {
    inner: S,
    methods: KnownMethods,
}

impl<S> HttpServer<S> {
    pub(super) fn new(inner: S, methods: KnownMethods) -> Self {
        Self { inner, methods }
    }
}

impl<S, B, R> Service<Request<B>> for HttpServer<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    type Response = Response<TracedBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let parent = propagation::extract(request.headers());
        let (span, carries) = request::span(&request, &self.methods, &parent);
        // What the span does not carry on stays current: baggage, and all where there is no span.
        let passed_on = (!carries || !parent.baggage().is_empty()).then_some(parent);
        let mut exchange = Some(Exchange::new(span).in_context(passed_on));
        let method = request.method().clone();
        let inner = inside(&mut exchange, || self.inner.call(request));
        ResponseFuture::new(inner, exchange, method)
    }
}
