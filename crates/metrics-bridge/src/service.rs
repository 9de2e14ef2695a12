use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower_service::Service;

use crate::{SpanMetrics, respond};

/// The metrics as a tower service, to be mounted in the application's own server; made by
/// [`SpanMetrics::service`].
///
/// It answers `GET` and `HEAD` at whatever path it is mounted, in both formats by `Accept`,
/// compressed where the client takes gzip, and asks for the token if one is set. Limits for
/// connections and heads, and `/healthz`, are the application's own affair.
///
/// With axum: `Router::new().route_service("/metrics", metrics.service())`.
///
/// ```
/// use std::sync::Arc;
/// use spanweave_metrics::{Metrics, SpanMetrics};
/// use tower_service::Service;
///
/// let metrics =
///     SpanMetrics::new(Metrics::default(), "checkout", Arc::default(), Arc::default());
/// let mut service = metrics.service();
/// let answer = service.call(http::Request::new(()));
/// assert_eq!(answer.into_inner().unwrap().status(), 200);
/// ```
#[derive(Clone, Debug)]
pub struct MetricsService(Arc<SpanMetrics>);

impl MetricsService {
    pub(crate) fn new(metrics: Arc<SpanMetrics>) -> Self {
        Self(metrics)
    }
}

impl<B> Service<Request<B>> for MetricsService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(respond::exposition(&self.0, request.method(), request.headers())))
    }
}
