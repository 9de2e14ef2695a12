//! One request that goes out, and its span.

use std::borrow::Cow;

use http::{Uri, Version};
use spanweave_core::{SpanExt, propagation};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::Response;
use crate::http::exchange::{Exchange, Outcome, has_no_body};
use crate::http::{KnownMethods, redact};

pub(super) async fn send(
    client: &reqwest::Client,
    methods: &KnownMethods,
    mut request: reqwest::Request,
    template: Option<&str>,
    resend_count: usize,
) -> reqwest::Result<Response> {
    let mut exchange = Exchange::new(span(&request, methods, template, resend_count));
    inject(exchange.span(), &mut request);
    let method = request.method().clone();
    let sent = client.execute(request).instrument(exchange.span().clone()).await;
    let response = match sent {
        Ok(response) => response,
        Err(error) => {
            exchange.finish(Outcome::Failed(class(&error)));
            return Err(error);
        }
    };
    let status = response.status();
    describe_peer(exchange.span(), &response);
    exchange.head(status, status.is_client_error() || status.is_server_error());
    if has_no_body(&method, status) {
        exchange.finish(Outcome::Complete);
        return Ok(Response::new(response, None));
    }
    exchange.complete_if_dropped();
    exchange.expect_body(None);
    Ok(Response::new(response, Some(exchange)))
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
    let method = methods.describe(request.method());
    let name = method.span_name(template);
    let url = request.url();
    let address = url
        .host_str()
        .map(|host| host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host));
    let resend_count = i64::try_from(resend_count).ok().filter(|count| *count > 0);
    tracing::info_span!(
        target: "spanweave::http::client",
        "http.client.request",
        otel.name = name.as_str(),
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = method.attribute,
        http.request.method_original = method.original,
        server.address = address,
        server.port = url.port_or_known_default().map(i64::from),
        url.full = &*redact::url(url.as_str()),
        url.template = template,
        http.request.resend_count = resend_count,
        http.response.status_code = Empty,
        http.response.body.size = Empty,
        network.protocol.version = Empty,
        network.peer.address = Empty,
        network.peer.port = Empty,
        error.type = Empty,
        spanweave.outcome = Empty,
    )
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
    let version = match response.version() {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    };
    span.record("network.protocol.version", version);
    if let Some(peer) = response.remote_addr() {
        span.record("network.peer.address", peer.ip().to_string());
        span.record("network.peer.port", i64::from(peer.port()));
    }
}
