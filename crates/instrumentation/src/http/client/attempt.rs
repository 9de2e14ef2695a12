//! One request of reqwest that goes out, and its span.

use std::borrow::Cow;

use http::{Method, Uri};
use spanweave_core::{SpanExt, propagation};
use tracing::{Instrument, Span};

use super::Response;
use super::described::{Described, describe_response, start};
use crate::http::KnownMethods;
use crate::http::exchange::{Exchange, Outcome, has_no_body};

pub(super) async fn send(
    client: &reqwest::Client,
    methods: &KnownMethods,
    mut request: reqwest::Request,
    template: Option<&str>,
    resend_count: usize,
) -> reqwest::Result<Response> {
    let attempt = Attempt::start(&mut request, methods, template, resend_count);
    match attempt.inside(client.execute(request)).await {
        Ok(response) => {
            let covered = attempt.arrived(&response);
            Ok(Response::new(response, covered))
        }
        Err(error) => {
            attempt.failed(&error);
            Err(error)
        }
    }
}

/// A request on its way; dropped before its response, it counts as cancelled.
#[derive(Debug)]
pub(super) struct Attempt {
    exchange: Exchange,
    method: Method,
}

impl Attempt {
    /// Opens the span and writes the trace into the request.
    pub(super) fn start(
        request: &mut reqwest::Request,
        methods: &KnownMethods,
        template: Option<&str>,
        resend_count: usize,
    ) -> Self {
        let method = request.method().clone();
        let span = span(request, methods, template, resend_count);
        inject(&span, request);
        Self { exchange: Exchange::new(span), method }
    }

    pub(super) async fn inside<T>(&self, work: impl Future<Output = T>) -> T {
        work.instrument(self.exchange.span().clone()).await
    }

    /// The response is there. Returned: what covers its body, if there is one.
    pub(super) fn arrived(self, response: &reqwest::Response) -> Option<Exchange> {
        let Self { mut exchange, method } = self;
        let status = response.status();
        describe_peer(exchange.span(), response);
        exchange.head(status, status.is_client_error() || status.is_server_error());
        if has_no_body(&method, status) {
            exchange.finish(Outcome::Complete);
            return None;
        }
        exchange.complete_if_dropped();
        exchange.expect_body(None);
        Some(exchange)
    }

    pub(super) fn failed(self, error: &reqwest::Error) {
        self.exchange.finish(Outcome::Failed(class(error)));
    }

    #[cfg(feature = "reqwest-middleware")]
    pub(super) fn failed_otherwise(self, class: &'static str) {
        self.exchange.finish(Outcome::Failed(Cow::Borrowed(class)));
    }
}

/// A low-cardinality class of an error; the narrowest that applies.
pub(super) fn class(error: &reqwest::Error) -> Cow<'static, str> {
    Cow::Borrowed(if error.is_timeout() {
        "timeout"
    } else if error.is_dns() {
        "dns"
    } else if error.is_connect() {
        "connect"
    } else if error.is_redirect() {
        "redirect"
    } else if error.is_body() {
        "body"
    } else if error.is_decode() {
        "decode"
    } else if error.is_upgrade() {
        "upgrade"
    } else if error.is_request() {
        "request"
    } else {
        "_OTHER"
    })
}

/// The class of an error while a body is read: reqwest calls it `decode` when one breaks off.
pub(super) fn body_class(error: &reqwest::Error) -> Cow<'static, str> {
    Cow::Borrowed(if error.is_timeout() { "timeout" } else { "body" })
}

fn span(
    request: &reqwest::Request,
    methods: &KnownMethods,
    template: Option<&str>,
    resend_count: usize,
) -> Span {
    let url = request.url();
    start(&Described {
        method: methods.describe(request.method()),
        url: url.as_str(),
        address: url.host_str(),
        port: url.port_or_known_default(),
        template,
        resend_count,
    })
}

/// The trace goes along, as far as the egress policy lets it.
fn inject(span: &Span, request: &mut reqwest::Request) {
    // What is no URI for `http` (a host that is not ASCII is, by now) is no destination either.
    let Ok(destination) = request.url().as_str().parse::<Uri>() else {
        return;
    };
    // Of a span that no layer of ours sees, this is the current context.
    propagation::inject_context_for(&span.context(), &destination, request.headers_mut());
}

fn describe_peer(span: &Span, response: &reqwest::Response) {
    let host = response.url().host_str().unwrap_or_default();
    describe_response(span, response.version(), response.headers(), host);
    if let Some(peer) = response.remote_addr() {
        span.record("network.peer.address", peer.ip().to_string());
        span.record("network.peer.port", i64::from(peer.port()));
    }
}
