//! The HTTP client of a lane: HTTP/1.1 for OTLP/HTTP, HTTP/2 for OTLP/gRPC.
//!
//! One deadline covers everything that an attempt does: resolving, connecting, TLS, sending and
//! receiving. After an attempt that ran into it the connections are given up, so that a server
//! that hangs is not asked again over the same connection.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, PROXY_AUTHORIZATION, RETRY_AFTER, TE, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use spanweave_core::clock;
use spanweave_core::sync::lock;

use super::body::RequestBody;
use super::connect::Connector;
use super::endpoint::{Endpoint, Protocol};
use super::headers::HeaderSource;
use super::text::{base64_decode, percent_decode, printable};
use super::tls::{Tls, TlsProblem};
use crate::backend::Compression;
use crate::delivery::{self, GrpcReply, HttpReply, ReplyBody, Verdict};
use crate::lane::Form;

/// Responses are not read further than this (the OTLP specification's limit).
const LONGEST_RESPONSE: usize = 4 * 1024 * 1024;
/// The project in front, then the name that OTLP asks exporters to carry.
const PRODUCT: &str =
    concat!("spanweave/", env!("CARGO_PKG_VERSION"), " OTel-OTLP-Exporter-Rust/0.33.1");
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// A connection whose other end does not answer a ping for so long is given up.
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The backend answered.
    Answered {
        verdict: Verdict,
        /// The answer in words.
        reason: String,
    },
    /// There was no answer; it may be tried again.
    Failed {
        reason: String,
        /// Whether the backend could be reached at all.
        reached: bool,
    },
}

#[derive(Clone)]
pub(crate) struct ClientConfig {
    pub(crate) endpoint: Endpoint,
    /// The user's own headers.
    pub(crate) headers: HeaderMap,
    /// Headers that are asked for before each request.
    pub(crate) header_source: Option<HeaderSource>,
    pub(crate) tls: Tls,
    pub(crate) timeout: Duration,
}

type HttpClient = legacy::Client<HttpsConnector<Connector>, RequestBody>;

pub(crate) struct Client {
    config: ClientConfig,
    connector: HttpsConnector<Connector>,
    http: Mutex<HttpClient>,
    /// What a proxy that forwards plain HTTP wants to see.
    proxy_authorization: Option<HeaderValue>,
    /// What the source said last: not to be quoted.
    last_headers: Mutex<HeaderMap>,
}

impl Client {
    /// Fails if a certificate cannot be used.
    pub(crate) fn new(config: ClientConfig) -> Result<Self, TlsProblem> {
        let schemes =
            HttpsConnectorBuilder::new().with_tls_config(config.tls.client()?).https_or_http();
        let tcp = Connector::new(&config.endpoint, config.timeout);
        let proxy_authorization = tcp.forward_authorization();
        let connector = match config.endpoint.protocol {
            Protocol::Grpc => schemes.enable_http2().wrap_connector(tcp),
            Protocol::HttpProtobuf | Protocol::HttpJson => {
                schemes.enable_http1().wrap_connector(tcp)
            }
        };
        let http = Mutex::new(build(&connector, config.endpoint.protocol));
        Ok(Self { config, connector, http, proxy_authorization, last_headers: Mutex::default() })
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.config.endpoint.protocol
    }

    /// Gives up all connections.
    fn reset(&self) {
        *lock(&self.http) = build(&self.connector, self.protocol());
    }

    /// Sends one request, within `timeout` (at most the configured one). Must run inside a tokio
    /// runtime with time and I/O.
    pub(crate) async fn send(
        &self,
        bytes: Bytes,
        form: Form,
        compression: Compression,
        timeout: Duration,
    ) -> Attempt {
        let timeout = timeout.min(self.config.timeout);
        let exchange = async {
            let extra = match &self.config.header_source {
                None => HeaderMap::new(),
                Some(source) => match source.headers().await {
                    Ok(headers) => {
                        lock(&self.last_headers).clone_from(&headers);
                        headers
                    }
                    // What it says may hold anything.
                    Err(_) => {
                        let reason = "the callback for headers failed".to_owned();
                        return Attempt::Failed { reason, reached: false };
                    }
                },
            };
            let request = match self.request(bytes, form, compression, timeout, extra) {
                Ok(request) => request,
                Err(reason) => {
                    let verdict = Verdict::Refused;
                    return Attempt::Answered { verdict, reason: reason.into() };
                }
            };
            let http = lock(&self.http).clone();
            match http.request(request).await {
                Ok(response) if self.protocol() == Protocol::Grpc => {
                    self.understand_grpc(response).await
                }
                Ok(response) => self.understand_http(response).await,
                Err(error) => {
                    let reached = !error.is_connect();
                    Attempt::Failed { reason: describe(&error), reached }
                }
            }
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(attempt) => attempt,
            Err(_) => {
                self.reset();
                let reason = format!("no answer within {timeout:?}");
                Attempt::Failed { reason, reached: true }
            }
        }
    }

    fn request(
        &self,
        bytes: Bytes,
        form: Form,
        compression: Compression,
        timeout: Duration,
        extra: HeaderMap,
    ) -> Result<Request<RequestBody>, &'static str> {
        let endpoint = &self.config.endpoint;
        let encoding = match compression {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        };
        let body = match (endpoint.protocol, form) {
            (Protocol::Grpc, Form::Protobuf) => {
                RequestBody::grpc(bytes, encoding.is_some()).ok_or("the message is too long")?
            }
            (Protocol::Grpc, Form::Json) => return Err("gRPC takes no JSON"),
            (Protocol::HttpProtobuf | Protocol::HttpJson, _) => RequestBody::plain(bytes),
        };
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoint.uri.clone();
        let headers = request.headers_mut();
        if let Some(authorization) = &endpoint.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        for (name, value) in &self.config.headers {
            headers.insert(name, value.clone());
        }
        for (name, value) in &extra {
            headers.insert(name, value.clone());
        }
        if let Some(authorization) = &self.proxy_authorization {
            headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(PRODUCT));
        let encoding = encoding.map(HeaderValue::from_static);
        match endpoint.protocol {
            Protocol::Grpc => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                headers.insert(TE, HeaderValue::from_static("trailers"));
                if let Ok(value) = HeaderValue::try_from(grpc_timeout(timeout)) {
                    headers.insert("grpc-timeout", value);
                }
                if let Some(encoding) = encoding {
                    headers.insert("grpc-encoding", encoding);
                }
            }
            Protocol::HttpProtobuf | Protocol::HttpJson => {
                let kind = match form {
                    Form::Json => "application/json",
                    Form::Protobuf => "application/x-protobuf",
                };
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                if let Some(encoding) = encoding {
                    headers.insert(CONTENT_ENCODING, encoding);
                }
            }
        }
        Ok(request)
    }

    async fn understand_http(&self, response: Response<Incoming>) -> Attempt {
        let (head, body) = response.into_parts();
        let status = head.status.as_u16();
        let bytes = match read(body).await {
            Ok((bytes, _)) => bytes,
            // The status alone says what becomes of the request.
            Err(Unread::TooLong) => Vec::new(),
            Err(Unread::Broken(reason)) => return Attempt::Failed { reason, reached: true },
        };
        let retry_after = header(&head.headers, RETRY_AFTER.as_str())
            .and_then(|value| delivery::retry_after(value, clock::system_time()));
        let body = body_of(&head.headers, &bytes);
        let verdict = delivery::http(&HttpReply { status, retry_after, body });
        // What a backend says about credentials may quote them.
        let said = body.status_message().filter(|_| !matches!(status, 200..300 | 401 | 403));
        let said = said.as_deref();
        Attempt::Answered { verdict, reason: self.explain(format!("HTTP {status}"), said) }
    }

    async fn understand_grpc(&self, response: Response<Incoming>) -> Attempt {
        let (head, body) = response.into_parts();
        let status = head.status.as_u16();
        if status != 200 {
            let code = code_of_http(status);
            let verdict = delivery::grpc(&GrpcReply { code, details: &[], message: &[] });
            return Attempt::Answered { verdict, reason: format!("HTTP {status}") };
        }
        let (bytes, trailers) = match read(body).await {
            Ok(read) => read,
            Err(Unread::TooLong) => {
                let reason = "the response is longer than 4 MiB".to_owned();
                return Attempt::Answered { verdict: Verdict::Refused, reason };
            }
            Err(Unread::Broken(reason)) => return Attempt::Failed { reason, reached: true },
        };
        // The status stands in the trailers, or in the headers if there is nothing else.
        let trailers = trailers.filter(|trailers| trailers.contains_key("grpc-status"));
        let trailers = trailers.unwrap_or(head.headers);
        let code = header(&trailers, "grpc-status").and_then(|code| code.parse().ok());
        let Some(code) = code else {
            let reason = "the answer has no gRPC status".to_owned();
            return Attempt::Answered { verdict: Verdict::Refused, reason };
        };
        let details = header(&trailers, "grpc-status-details-bin")
            .and_then(base64_decode)
            .unwrap_or_default();
        let verdict =
            delivery::grpc(&GrpcReply { code, details: &details, message: unframe(&bytes) });
        let said = header(&trailers, "grpc-message").map(percent_decode);
        let said = said.as_deref().and_then(|said| std::str::from_utf8(said).ok());
        // What a backend says about credentials may quote them.
        let said = said.filter(|_| !matches!(code, 7 | 16));
        let reason = self.explain(format!("gRPC status {code} ({})", code_name(code)), said);
        Attempt::Answered { verdict, reason }
    }

    /// Adds what the backend said, unless it quotes a header of ours.
    fn explain(&self, reason: String, said: Option<&str>) -> String {
        match said.filter(|said| !said.is_empty() && !self.quotes_header(said)) {
            Some(said) => format!("{reason}: {}", printable(said)),
            None => reason,
        }
    }

    /// Whether `text` quotes the value of one of the user's headers.
    pub(crate) fn quotes_header(&self, text: &str) -> bool {
        let quotes = |value: &HeaderValue| {
            value.to_str().is_ok_and(|value| {
                value.split(' ').any(|word| word.len() > 3 && text.contains(word))
            })
        };
        let authorization = self.config.endpoint.authorization.iter();
        let fixed = self.config.headers.values().chain(authorization);
        fixed.chain(&self.proxy_authorization).any(quotes)
            || lock(&self.last_headers).values().any(quotes)
    }
}

fn build(connector: &HttpsConnector<Connector>, protocol: Protocol) -> HttpClient {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new()).pool_max_idle_per_host(4);
    if protocol == Protocol::Grpc {
        builder
            .http2_only(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE_ANSWER);
    }
    builder.build(connector.clone())
}

/// Why a response was not read to its end.
enum Unread {
    TooLong,
    Broken(String),
}

async fn read(mut body: Incoming) -> Result<(Vec<u8>, Option<HeaderMap>), Unread> {
    if body.size_hint().lower() > LONGEST_RESPONSE as u64 {
        return Err(Unread::TooLong);
    }
    let (mut bytes, mut trailers) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Unread::Broken(describe(&error)))?;
        match frame.into_data() {
            Ok(data) if bytes.len() + data.len() > LONGEST_RESPONSE => return Err(Unread::TooLong),
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok().or(trailers),
        }
    }
    Ok((bytes, trailers))
}

/// What a body is, by its headers. We ask for no compression, so a body that has one is not read.
fn body_of<'a>(headers: &HeaderMap, bytes: &'a [u8]) -> ReplyBody<'a> {
    let kind = header(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    if headers.contains_key(CONTENT_ENCODING) {
        ReplyBody::Unknown
    } else if kind.starts_with("application/x-protobuf") {
        ReplyBody::Protobuf(bytes)
    } else if kind.starts_with("application/json") {
        ReplyBody::Json(bytes)
    } else {
        ReplyBody::Unknown
    }
}

/// The message of a gRPC response; empty if there is none, or if it is compressed (we do not ask
/// for that) or cut off.
fn unframe(bytes: &[u8]) -> &[u8] {
    let Some((&[0, a, b, c, d], rest)) = bytes.split_first_chunk::<5>() else { return &[] };
    let len = u32::from_be_bytes([a, b, c, d]);
    usize::try_from(len).ok().and_then(|len| rest.get(..len)).unwrap_or_default()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// At most eight digits and a unit, as gRPC over HTTP/2 has it.
fn grpc_timeout(timeout: Duration) -> String {
    match timeout.as_millis().max(1) {
        millis @ 0..100_000_000 => format!("{millis}m"),
        millis => format!("{}S", (millis / 1000).min(99_999_999)),
    }
}

/// gRPC's own table for answers that are no gRPC (`http-grpc-status-mapping.md`).
fn code_of_http(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

fn code_name(code: u32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    usize::try_from(code).ok().and_then(|code| NAMES.get(code)).copied().unwrap_or("unknown")
}

/// An error with its causes. The errors of the client name no URL and no header.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    printable(&text)
}
