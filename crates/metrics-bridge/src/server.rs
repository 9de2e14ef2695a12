//! `/metrics` on a socket of its own.
//!
//! One thread with a current-thread runtime serves all connections, so the application's runtime
//! is not needed and not disturbed. Limits: [`CONNECTIONS`] at once, [`HEADER_TIMEOUT`] for a
//! request's head (idle connections are closed by it too), [`CONNECTION_LIFE`] for a connection
//! with all its requests, [`MAX_HEAD`] bytes for a head. The thread carries the mark that
//! suppresses telemetry: what it does makes no spans.

use std::convert::Infallible;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap,
    HeaderName, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use spanweave_core::sync::lock;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use crate::settings::ServeAddress;
use crate::{Error, SpanMetrics, negotiate};

/// Connections at once; further ones wait in the listener's backlog.
const CONNECTIONS: usize = 64;

/// How long a client may take for the head of a request, and how long a connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may live. It ends clients that do not read what they asked for; a
/// scraper only connects anew.
const CONNECTION_LIFE: Duration = Duration::from_secs(120);

/// Heads of scrapers have some hundred bytes. It is the least that hyper takes.
const MAX_HEAD: usize = 8_192;

const BEARER: &[u8] = b"Bearer ";

/// The pause after a failed `accept`, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `/metrics` (both formats, by `Accept`, compressed where the client takes gzip) and
/// `/healthz` (small JSON) until it is shut down or dropped.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl MetricsServer {
    /// Listens at `address` and serves in a thread of its own.
    ///
    /// # Errors
    ///
    /// The address cannot be resolved, is in use or is not ours, or the thread cannot be started.
    /// The error names the address.
    pub fn start(
        address: impl Into<ServeAddress>,
        metrics: Arc<SpanMetrics>,
    ) -> Result<Self, Error> {
        Self::start_with(address.into(), metrics, HEADER_TIMEOUT)
    }

    fn start_with(
        wanted: ServeAddress,
        metrics: Arc<SpanMetrics>,
        header_timeout: Duration,
    ) -> Result<Self, Error> {
        let failed = |error| Error::start(&wanted, error);
        let listener = wanted.bind().map_err(|error| Error::bind(&wanted, error))?;
        let address = listener.local_addr().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        let thread = thread::Builder::new()
            .name("spanweave-metrics".to_owned())
            .spawn(move || {
                let _quiet = opentelemetry::Context::enter_telemetry_suppressed_scope();
                if let Err(error) =
                    runtime.block_on(serve(listener, metrics, header_timeout, stopped))
                {
                    tracing::warn!(target: "spanweave", %address, %error, "metrics are not served");
                }
            })
            .map_err(failed)?;
        Ok(Self { address, stop, thread: Mutex::new(Some(thread)) })
    }

    /// Where it listens, with the port that was taken if the one asked for was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops at once: the socket and all connections are closed when this returns. Calling it
    /// again does nothing.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
        if let Some(thread) = lock(&self.thread).take() {
            // It can only have panicked, and then it has stopped too.
            drop(thread.join());
        }
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.shutdown();
    }
}

async fn serve(
    listener: TcpListener,
    metrics: Arc<SpanMetrics>,
    header_timeout: Duration,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::spawn(accept(listener, metrics, header_timeout));
    // An error means that the server was dropped. With the runtime, all tasks end.
    drop(stopped.wait_for(|stop| *stop).await);
    Ok(())
}

async fn accept(
    listener: tokio::net::TcpListener,
    metrics: Arc<SpanMetrics>,
    header_timeout: Duration,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let metrics = metrics.clone();
                tokio::spawn(async move {
                    serve_connection(stream, metrics, header_timeout).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve_connection(stream: TcpStream, metrics: Arc<SpanMetrics>, header_timeout: Duration) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&metrics, request.method(), request.uri().path(), request.headers());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // How a connection ends is the client's affair.
    drop(tokio::time::timeout(CONNECTION_LIFE, connection).await);
}

fn respond(
    metrics: &SpanMetrics,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Response<Full<Bytes>> {
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    if !matches!(path, "/metrics" | "/healthz") {
        return response(StatusCode::NOT_FOUND, plain, "See /metrics.\n".into());
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, plain, Bytes::new());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    if path == "/healthz" {
        let json = HeaderValue::from_static("application/json");
        return response(StatusCode::OK, json, r#"{"status":"ok"}"#.into());
    }
    if !is_allowed(metrics, headers) {
        let mut refused = response(StatusCode::UNAUTHORIZED, plain, "A token is needed.\n".into());
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

/// Whether the request has the token, if one is asked for (RFC 6750, section 2.1).
fn is_allowed(metrics: &SpanMetrics, headers: &HeaderMap) -> bool {
    let Some(token) = &metrics.settings().token else { return true };
    let given = headers.get(AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
    given
        .split_at_checked(BEARER.len())
        .is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case(BEARER) && token.matches(given))
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
