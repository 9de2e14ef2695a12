//! What the span of a request that goes out says, whatever client sends it.

use http::{HeaderMap, Version};
use tracing::Span;
use tracing::field::Empty;

use crate::http::method::Description;
use crate::http::redact;
use crate::peer;

/// A request, described.
#[derive(Debug)]
pub(super) struct Described<'a> {
    pub(super) method: Description<'a>,
    pub(super) url: &'a str,
    /// An IPv6 address may have its brackets.
    pub(super) address: Option<&'a str>,
    pub(super) port: Option<u16>,
    pub(super) template: Option<&'a str>,
    /// The attempts before this one.
    pub(super) resend_count: usize,
}

/// The span of an attempt.
pub(super) fn start(request: &Described<'_>) -> Span {
    let name = request.method.span_name(request.template);
    let address = request
        .address
        .map(|host| host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host));
    let resend_count = i64::try_from(request.resend_count).ok().filter(|count| *count > 0);
    tracing::info_span!(
        target: "spanweave::http::client",
        "http.client.request",
        otel.name = name.as_str(),
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = request.method.attribute,
        http.request.method_original = request.method.original,
        server.address = address,
        server.port = request.port.map(i64::from),
        url.full = &*redact::url(request.url),
        url.template = request.template,
        http.request.resend_count = resend_count,
        http.response.status_code = Empty,
        http.response.body.size = Empty,
        spanweave.http.time_to_first_byte_ms = Empty,
        network.protocol.version = Empty,
        network.peer.address = Empty,
        network.peer.port = Empty,
        service.peer.name = Empty,
        error.type = Empty,
        spanweave.outcome = Empty,
    )
}

/// Records the version, and the name that the service gives itself, if the egress policy trusts its
/// host.
pub(super) fn describe_response(span: &Span, version: Version, headers: &HeaderMap, host: &str) {
    let version = match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    };
    span.record("network.protocol.version", version);
    if let Some(service) = peer::service_of(headers, host) {
        span.record("service.peer.name", service.as_str());
    }
}
