//! How services that know each other say their names, in the headers of responses.

#[cfg(any(feature = "http-server", feature = "grpc"))]
use std::net::IpAddr;

#[cfg(any(feature = "http-server", feature = "grpc"))]
use http::HeaderValue;
use http::{HeaderMap, HeaderName};
#[cfg(any(feature = "http-server", feature = "grpc"))]
use opentelemetry::{Context, trace::TraceContextExt};
use spanweave_core::propagation::{self, Egress, service_member};

static SERVICE: HeaderName = HeaderName::from_static(service_member::RESPONSE_HEADER);

/// The header's value, if this caller is told: it has named itself in `tracestate`, and its address,
/// if it is known, is one that may know everything by the egress policy.
#[cfg(any(feature = "http-server", feature = "grpc"))]
pub(crate) fn own_name(caller: &Context, peer: Option<IpAddr>) -> Option<HeaderValue> {
    service_member::caller(caller.span().span_context().trace_state())?;
    let active = propagation::active();
    let allowed = |peer: IpAddr| active.egress().decide(&peer.to_string()) == Egress::Full;
    if !peer.is_none_or(allowed) {
        return None;
    }
    HeaderValue::try_from(service_member::to_header(active.propagators().service_name()?)).ok()
}

/// Names this service in a response.
#[cfg(any(feature = "http-server", feature = "grpc"))]
pub(crate) fn write_name(name: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(SERVICE.clone(), name);
}

/// The name that a server on `host` gives itself, if the egress policy trusts the host.
#[cfg(any(feature = "http-client", feature = "reqwest", feature = "grpc"))]
pub(crate) fn service_of(headers: &HeaderMap, host: &str) -> Option<String> {
    let name = headers.get(&SERVICE)?;
    let name = service_member::from_header(name.to_str().ok()?)?;
    (propagation::active().egress().decide(host) == Egress::Full).then_some(name)
}
