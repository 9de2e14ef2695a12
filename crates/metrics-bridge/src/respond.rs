//! Requests for metrics and their answers. There is no socket in here.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap,
    HeaderName, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use crate::{SpanMetrics, negotiate};

const BEARER: &[u8] = b"Bearer ";

/// The answer of a server that has nothing else to serve.
pub(crate) fn by_path(
    metrics: &SpanMetrics,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Response<Full<Bytes>> {
    match path {
        "/metrics" => exposition(metrics, method, headers),
        "/healthz" => only_get(method).unwrap_or_else(|| {
            let json = HeaderValue::from_static("application/json");
            response(StatusCode::OK, json, metrics.health().into())
        }),
        _ => response(StatusCode::NOT_FOUND, plain(), "See /metrics.\n".into()),
    }
}

/// The metrics, for those who may see them.
pub(crate) fn exposition(
    metrics: &SpanMetrics,
    method: &Method,
    headers: &HeaderMap,
) -> Response<Full<Bytes>> {
    if let Some(refused) = only_get(method) {
        return refused;
    }
    if !is_allowed(metrics, headers) {
        let mut refused =
            response(StatusCode::UNAUTHORIZED, plain(), "A token is needed.\n".into());
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return refused;
    }
    // hyper leaves out the body of an answer to HEAD and keeps its length.
    let (content_type, body) = metrics.render(joined(headers, ACCEPT).as_deref());
    let gzip = negotiate::gzip(joined(headers, ACCEPT_ENCODING).as_deref());
    let compressed = if gzip { compress(body.as_bytes()).ok() } else { None };
    let is_compressed = compressed.is_some();
    let body = compressed.map_or_else(|| body.into(), Bytes::from);
    let mut answer = response(StatusCode::OK, HeaderValue::from_static(content_type), body);
    answer.headers_mut().insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    if is_compressed {
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

/// The answer to a method that nothing here has.
fn only_get(method: &Method) -> Option<Response<Full<Bytes>>> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, plain(), Bytes::new());
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    Some(refused)
}

/// Whether the request has the token, if one is asked for (RFC 6750, section 2.1).
fn is_allowed(metrics: &SpanMetrics, headers: &HeaderMap) -> bool {
    let Some(token) = &metrics.settings().token else { return true };
    let given = headers.get(AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
    given
        .split_at_checked(BEARER.len())
        .is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case(BEARER) && token.matches(given))
}

fn plain() -> HeaderValue {
    HeaderValue::from_static("text/plain; charset=utf-8")
}

fn response(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// All values of a list header as one; values that are not text are left out.
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let values: Vec<&str> =
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn compress(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
