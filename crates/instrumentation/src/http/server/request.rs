//! What is known of a request when it arrives.

use std::net::SocketAddr;

use http::header::{HOST, USER_AGENT};
use http::uri::Authority;
use http::{Extensions, Request, Version};
use opentelemetry::Context;
use tracing::Span;
use tracing::field::Empty;

use super::layer::Settings;
use crate::caller;
use crate::http::redact;

/// The span of a request, and whether it carries the caller's trace on: see [`caller::under`].
pub(super) fn span<B>(
    request: &Request<B>,
    settings: &Settings,
    peer: Option<SocketAddr>,
    parent: &Context,
) -> (Span, bool) {
    let method = settings.methods.describe(request.method());
    let route = route(request.extensions());
    let name = method.span_name(route);
    let uri = request.uri();
    let scheme = uri.scheme_str().unwrap_or("http");
    let query = uri.query().map(redact::query);
    let server = server(request);
    let address = server.as_ref().map(host);
    let port = server.as_ref().and_then(|authority| port(authority, scheme));
    let peer_address = peer.map(|peer| peer.ip().to_string());
    let client = peer.map(|peer| settings.proxies.client(peer.ip(), request.headers()).to_string());
    let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());

    // A parent cannot be given as a value that may be absent, hence a macro.
    macro_rules! server_span {
        ($($parent:tt)*) => {
            tracing::info_span!(
                target: "spanweave::http::server",
                $($parent)*
                "http.server.request",
                otel.name = name.as_str(),
                otel.kind = "server",
                otel.status_code = Empty,
                http.request.method = method.attribute,
                http.request.method_original = method.original,
                http.route = route,
                url.path = uri.path(),
                url.scheme = scheme,
                url.query = query.as_deref(),
                server.address = address,
                server.port = port.map(i64::from),
                client.address = client.as_deref(),
                network.peer.address = peer_address.as_deref(),
                network.peer.port = peer.map(|peer| i64::from(peer.port())),
                network.protocol.version = version(request.version()),
                user_agent.original = user_agent,
                http.request.body.size = Empty,
                http.response.status_code = Empty,
                spanweave.http.time_to_first_byte_ms = Empty,
                http.response.body.size = Empty,
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

#[cfg(feature = "axum")]
fn route(extensions: &Extensions) -> Option<&str> {
    extensions.get::<axum::extract::MatchedPath>().map(axum::extract::MatchedPath::as_str)
}

#[cfg(not(feature = "axum"))]
fn route(_: &Extensions) -> Option<&str> {
    None
}

pub(super) fn peer(extensions: &Extensions) -> Option<SocketAddr> {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::ConnectInfo(peer)) = extensions.get() {
        return Some(*peer);
    }
    extensions.get::<SocketAddr>().copied()
}

/// Whom the client asked: the authority of the target (HTTP/2, absolute form), else `Host`.
fn server<B>(request: &Request<B>) -> Option<Authority> {
    request.uri().authority().cloned().or_else(|| {
        let host = request.headers().get(HOST)?;
        Authority::try_from(host.as_bytes()).ok().filter(|authority| !authority.host().is_empty())
    })
}

/// The host, an IPv6 address without its brackets.
fn host(authority: &Authority) -> &str {
    let host = authority.host();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn port(authority: &Authority, scheme: &str) -> Option<u16> {
    authority.port_u16().or(match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    })
}

fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_09 => Some("0.9"),
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        Version::HTTP_3 => Some("3"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_whom_the_client_asked() {
        let table = [
            ("/p", Some("example.org:8080"), Some(("example.org", Some(8080)))),
            ("/p", Some("example.org"), Some(("example.org", Some(80)))),
            ("/p", Some("[::1]:81"), Some(("::1", Some(81)))),
            ("https://a.example/p", Some("b.example"), Some(("a.example", Some(443)))),
            ("/p", Some("not a host"), None),
            ("/p", Some(""), None),
            ("/p", None, None),
        ];
        for (uri, header, expected) in table {
            let mut builder = Request::builder().uri(uri);
            if let Some(header) = header {
                builder = builder.header(HOST, header);
            }
            let request = builder.body(()).unwrap();
            let scheme = request.uri().scheme_str().unwrap_or("http").to_owned();
            let server = server(&request);
            let found = server.as_ref().map(|found| (host(found), port(found, &scheme)));
            assert_eq!(found, expected, "{uri} {header:?}");
        }
    }
}
