use std::any::Any;
use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Method, Request, Response, Uri};
use http_body::Body;
use pin_project_lite::pin_project;
use spanweave_core::{SpanExt, propagation};
use tower_layer::Layer;
use tower_service::Service;

use super::Attempts;
use super::described::{Described, describe_response, start};
use crate::http::exchange::{Exchange, Outcome, has_no_body, inside};
use crate::http::headers::Captured;
use crate::http::{KnownMethods, TracedBody, error_class};

/// A tower layer that gives every request that goes out a client span and carries the trace along:
/// for hyper-util's client and anything else that is a `Service` of HTTP requests.
///
/// The span says what those of the [module](super) say, except for the peer's address, and ends
/// where they end. It has an error of the class `timeout`, `connect`, `body` or `io` where the
/// service's error or one of its sources says so, else of the error's type. A timeout goes below
/// this layer: one above it drops the request, which then counts as cancelled.
///
/// ```
/// # #[cfg(feature = "hyper-client")]
/// # fn client() {
/// use hyper_util::client::legacy::Client;
/// use hyper_util::rt::TokioExecutor;
/// use spanweave_instrumentation::http::client::HttpClientLayer;
/// use tower_layer::Layer;
///
/// let client = Client::builder(TokioExecutor::new()).build_http::<String>();
/// let client = HttpClientLayer::new().layer(client);
/// # drop(client);
/// # }
/// ```
///
/// **Retries** belong above this layer: each attempt then has its span, a sibling of the one
/// before. An [`Attempts`] in the request's extensions, which copies of the request share, numbers
/// them.
#[derive(Clone, Debug)]
pub struct HttpClientLayer {
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Settings {
    methods: KnownMethods,
    request_headers: Captured,
    response_headers: Captured,
}

impl HttpClientLayer {
    /// The layer, with the known methods of the environment ([`KnownMethods::from_env`]).
    pub fn new() -> Self {
        Self {
            settings: Settings {
                methods: KnownMethods::from_env(),
                request_headers: Captured::default(),
                response_headers: Captured::default(),
            },
        }
    }

    /// Replaces the list of known methods.
    #[must_use]
    pub fn known_methods(mut self, methods: KnownMethods) -> Self {
        self.settings.methods = methods;
        self
    }

    /// Request headers that become attributes (`http.request.header.<name>`, an array of strings);
    /// none by default. Values of those whose names say that they are secret are masked.
    #[must_use]
    pub fn capture_request_headers<N: AsRef<str>>(
        mut self,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.settings.request_headers = Captured::new("http.request.header.", names);
        self
    }

    /// Response headers that become attributes (`http.response.header.<name>`), likewise.
    #[must_use]
    pub fn capture_response_headers<N: AsRef<str>>(
        mut self,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.settings.response_headers = Captured::new("http.response.header.", names);
        self
    }
}

impl Default for HttpClientLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for HttpClientLayer {
    type Service = HttpClientService<S>;

    fn layer(&self, inner: S) -> HttpClientService<S> {
        HttpClientService { inner, settings: Arc::new(self.settings.clone()) }
    }
}

/// The URL with names in place of its values, such as `/users/{id}`, in the extensions of a request:
/// it becomes `url.template` and part of the span's name, so it must be one of few.
#[derive(Clone, Debug)]
pub struct UrlTemplate(pub Cow<'static, str>);

/// The service that [`HttpClientLayer`] makes.
#[derive(Clone, Debug)]
pub struct HttpClientService<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S, B, R> Service<Request<B>> for HttpClientService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Any,
    R: Body,
    R::Error: Any,
{
    type Response = Response<TracedBody<R>>;
    type Error = S::Error;
    type Future = AttemptFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let uri = request.uri().clone();
        let url = uri.to_string();
        let span = start(&Described {
            method: self.settings.methods.describe(request.method()),
            url: &url,
            address: uri.host(),
            port: uri.port_u16().or_else(|| known_port(&uri)),
            template: request.extensions().get::<UrlTemplate>().map(|template| &*template.0),
            resend_count: request.extensions().get::<Attempts>().map_or(0, Attempts::next),
        });
        propagation::inject_context_for(&span.context(), &uri, request.headers_mut());
        self.settings.request_headers.record(request.headers(), &span);
        let method = request.method().clone();
        let mut exchange = Some(Exchange::new(span));
        let inner = inside(&mut exchange, || self.inner.call(request));
        let settings = Arc::clone(&self.settings);
        AttemptFuture { inner, exchange, sent: Sent { method, uri, settings } }
    }
}

fn known_port(uri: &Uri) -> Option<u16> {
    match uri.scheme_str()? {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[derive(Debug)]
struct Sent {
    method: Method,
    uri: Uri,
    settings: Arc<Settings>,
}

pin_project! {
    /// The future of an attempt: polled inside its span, which goes on with the response's body.
    #[derive(Debug)]
    pub struct AttemptFuture<F> {
        #[pin]
        inner: F,
        exchange: Option<Exchange>,
        sent: Sent,
    }
}

impl<F, R, E> Future for AttemptFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
    R::Error: Any,
    E: Any,
{
    type Output = Result<Response<TracedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(inside(this.exchange, || this.inner.poll(cx)));
        let exchange = this.exchange.take();
        Poll::Ready(match result {
            Ok(response) => {
                let covered = exchange.and_then(|exchange| this.sent.arrived(exchange, &response));
                Ok(response.map(|body| TracedBody::new(body, covered, error_class::class)))
            }
            Err(error) => {
                if let Some(exchange) = exchange {
                    exchange.finish(Outcome::Failed(error_class::class(&error)));
                }
                Err(error)
            }
        })
    }
}

impl Sent {
    /// What covers the body, if there is one.
    fn arrived<R: Body>(&self, mut exchange: Exchange, response: &Response<R>) -> Option<Exchange> {
        let status = response.status();
        let host = self.uri.host().unwrap_or_default();
        describe_response(exchange.span(), response.version(), response.headers(), host);
        self.settings.response_headers.record(response.headers(), exchange.span());
        exchange.head(status, status.is_client_error() || status.is_server_error());
        if has_no_body(&self.method, status) || response.body().is_end_stream() {
            exchange.finish(Outcome::Complete);
            return None;
        }
        exchange.complete_if_dropped();
        exchange.expect_body(None);
        Some(exchange)
    }
}
