//! `/metrics` on a socket of its own.
//!
//! One thread with a current-thread runtime serves all connections, so the application's runtime
//! is not needed and not disturbed. Limits: [`CONNECTIONS`] at once, [`PATIENCE`] with each, and
//! [`MAX_HEAD`] bytes for a request's head. The thread carries the mark that
//! suppresses telemetry: what it does makes no spans.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use spanweave_core::sync::lock;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use crate::settings::ServeAddress;
use crate::{Error, SpanMetrics, respond};

/// Connections at once; further ones wait in the listener's backlog.
const CONNECTIONS: usize = 64;

/// How slow a client may be.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For the head of a request; a connection may be idle for so long, too.
    head: Duration,
    /// For a connection with all its requests. It ends clients that do not read what they asked
    /// for; a scraper only connects anew.
    connection: Duration,
}

const PATIENCE: Patience =
    Patience { head: Duration::from_secs(5), connection: Duration::from_secs(120) };

/// Heads of scrapers have some hundred bytes. It is the least that hyper takes.
const MAX_HEAD: usize = 8_192;

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
        Self::start_with(address.into(), metrics, PATIENCE)
    }

    fn start_with(
        wanted: ServeAddress,
        metrics: Arc<SpanMetrics>,
        patience: Patience,
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
                if let Err(error) = runtime.block_on(serve(listener, metrics, patience, stopped)) {
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
    patience: Patience,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::spawn(accept(listener, metrics, patience));
    // An error means that the server was dropped. With the runtime, all tasks end.
    drop(stopped.wait_for(|stop| *stop).await);
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, metrics: Arc<SpanMetrics>, patience: Patience) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let metrics = metrics.clone();
                tokio::spawn(async move {
                    serve_connection(stream, metrics, patience).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve_connection(stream: TcpStream, metrics: Arc<SpanMetrics>, patience: Patience) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (method, path) = (request.method(), request.uri().path());
        let response = respond::by_path(&metrics, method, path, request.headers());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // How a connection ends is the client's affair.
    drop(tokio::time::timeout(patience.connection, connection).await);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use spanweave_core::clock;

    use super::*;
    use crate::Metrics;

    /// More bytes of answers than the buffers of two sockets hold.
    const REQUESTS: usize = 20_000;

    #[test]
    fn a_client_that_does_not_read_its_answers_is_cut() {
        let metrics = SpanMetrics::new(Metrics::default(), "shop", Arc::default(), Arc::default());
        let all = REQUESTS * metrics.render(None).1.len();
        let patience =
            Patience { head: Duration::from_secs(20), connection: Duration::from_secs(1) };
        let server = MetricsServer::start_with("127.0.0.1:0".into(), metrics, patience).unwrap();
        let mut slow = TcpStream::connect(server.address()).unwrap();
        slow.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let start = clock::instant();
        for _ in 0..REQUESTS {
            // The server stops reading once it cannot write, and cuts the connection then.
            if slow.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").is_err() {
                break;
            }
        }
        thread::sleep(patience.connection.saturating_sub(start.elapsed()));
        let mut answers = Vec::new();
        // A reset counts as the end, too.
        let end = slow.read_to_end(&mut answers);
        let timed_out = end.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        assert!(!timed_out && start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        assert!(answers.len() < all, "{} of {all} bytes", answers.len());
    }
}
