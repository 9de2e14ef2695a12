//! The receiver: two listeners on one thread with a runtime of its own.
//!
//! A message is decoded, then the hook decides ([`Verdict`]), then its spans go to the store; both
//! transports share that path ([`intake`]) and only differ in how they frame the answer.

mod decode;
mod verdict;

mod grpc;
mod http;
mod intake;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::serve::ListenerExt;
use tokio::sync::oneshot;
use tonic::transport::server::{Server, TcpIncoming};

use crate::error::Error;
use crate::page;
use crate::store::{StoreLimits, TraceStore};

pub use intake::ReceiverCounts;
pub use verdict::{RequestInfo, Verdict};

use intake::Intake;
use verdict::Hook;

/// 64 MiB, the size up to which an OTLP receiver is expected to take a message; after decompression.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Where a [`Collector`] listens and how much it takes.
pub struct CollectorConfig {
    grpc: SocketAddr,
    http: SocketAddr,
    limits: StoreLimits,
    max_message_bytes: usize,
    hook: Option<Hook>,
}

impl Default for CollectorConfig {
    /// Free ports of 127.0.0.1, default [`StoreLimits`], messages up to 64 MiB, everything accepted.
    fn default() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            grpc: free,
            http: free,
            limits: StoreLimits::default(),
            max_message_bytes: MAX_MESSAGE_BYTES,
            hook: None,
        }
    }
}

impl CollectorConfig {
    /// The address for OTLP/gRPC; loopback only, port 0 takes a free one.
    #[must_use]
    pub fn grpc_address(mut self, address: SocketAddr) -> Self {
        self.grpc = address;
        self
    }

    /// The address for OTLP/HTTP and the page; loopback only, port 0 takes a free one.
    #[must_use]
    pub fn http_address(mut self, address: SocketAddr) -> Self {
        self.http = address;
        self
    }

    /// How much is stored.
    #[must_use]
    pub fn limits(mut self, limits: StoreLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The largest message taken, in bytes after decompression; a larger one gets 413 over HTTP and
    /// `OUT_OF_RANGE` over gRPC.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Decides about each well-formed message, on the collector's thread: it must not block (a delay is
    /// part of the verdict). Called in the order of arrival.
    #[must_use]
    pub fn hook(
        mut self,
        hook: impl Fn(&RequestInfo<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }
}

impl std::fmt::Debug for CollectorConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CollectorConfig")
            .field("grpc", &self.grpc)
            .field("http", &self.http)
            .field("limits", &self.limits)
            .field("max_message_bytes", &self.max_message_bytes)
            .finish_non_exhaustive()
    }
}

/// A running OTLP receiver; stops when dropped.
#[derive(Debug)]
pub struct Collector {
    grpc: SocketAddr,
    http: SocketAddr,
    intake: Arc<Intake>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Starts listening; both ports are open when this returns.
    ///
    /// # Errors
    /// An address that is not loopback or cannot be bound, or no thread to be had.
    pub fn start(config: CollectorConfig) -> Result<Self, Error> {
        let (grpc_listener, grpc) = bind(config.grpc)?;
        let (http_listener, http) = bind(config.http)?;
        let intake = Arc::new(Intake::new(
            Arc::new(TraceStore::new(config.limits)),
            config.hook,
            config.max_message_bytes,
        ));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(Error::runtime)?;
        let (grpc_listener, http_listener) = {
            let _entered = runtime.enter();
            (
                tokio::net::TcpListener::from_std(grpc_listener).map_err(Error::runtime)?,
                tokio::net::TcpListener::from_std(http_listener).map_err(Error::runtime)?,
            )
        };
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&intake);
        let thread = std::thread::Builder::new()
            .name("spanweave-live".to_owned())
            .spawn(move || {
                // The servers' own spans (hyper and h2 make some) must not be captured by the process that
                // embeds the collector: they would be sent here and make new ones, for ever.
                let _suppressed = opentelemetry::Context::enter_telemetry_suppressed_scope();
                runtime.block_on(serve(grpc_listener, http_listener, served, stopped));
                // Requests in delay or hang, and a page being computed, are not waited for.
                runtime.shutdown_background();
            })
            .map_err(Error::runtime)?;
        Ok(Self { grpc, http, intake, stop: Some(stop), thread: Some(thread) })
    }

    /// The OTLP/gRPC endpoint, `http://127.0.0.1:port`.
    #[must_use]
    pub fn grpc_endpoint(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// The OTLP/HTTP base URL, `http://127.0.0.1:port`; traces go to `/v1/traces` under it, and the page
    /// is at `/`.
    #[must_use]
    pub fn http_endpoint(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The spans received.
    #[must_use]
    pub fn store(&self) -> &Arc<TraceStore> {
        self.intake.store()
    }

    /// What came in, by message.
    #[must_use]
    pub fn counts(&self) -> ReceiverCounts {
        self.intake.counts()
    }

    /// Stops: both ports are closed and connections cut when this returns. The store, held elsewhere,
    /// stays readable.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        // Dropping the sender is the signal.
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.intake.count_panic();
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(
    grpc_listener: tokio::net::TcpListener,
    http_listener: tokio::net::TcpListener,
    intake: Arc<Intake>,
    stopped: oneshot::Receiver<()>,
) {
    let grpc = Server::builder()
        .add_service(grpc::service(Arc::clone(&intake)))
        .serve_with_incoming(TcpIncoming::from(grpc_listener).with_nodelay(Some(true)));
    let store = Arc::clone(intake.store());
    let router = http::router(intake).merge(page::router(store));
    let listener = http_listener.tap_io(|stream| {
        // Without it an answer may wait for the peer's delayed acknowledgement; it still arrives.
        stream.set_nodelay(true).ok();
    });
    let http = async move { axum::serve(listener, router).await };
    // A server only returns when its listener is beyond repair; the other one goes on.
    tokio::select! {
        _ = stopped => {}
        _ = async { tokio::join!(grpc, http) } => {}
    }
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    if !address.ip().is_loopback() {
        return Err(Error::not_loopback(address));
    }
    let bound = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let local = listener.local_addr()?;
        Ok((listener, local))
    };
    bound().map_err(|source| Error::bind(address, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_taken() {
        let error = Collector::start(
            CollectorConfig::default().http_address(SocketAddr::from(([0, 0, 0, 0], 0))),
        )
        .unwrap_err();
        assert!(error.to_string().contains("loopback"));
    }

    #[test]
    fn a_taken_port_is_a_clear_error() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error =
            Collector::start(CollectorConfig::default().grpc_address(taken.local_addr().unwrap()))
                .unwrap_err();
        assert!(error.is_address_in_use());
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn the_ports_are_closed_after_shutdown() {
        let collector = Collector::start(CollectorConfig::default()).unwrap();
        let (grpc, http) = (collector.grpc, collector.http);
        assert!(std::net::TcpStream::connect(grpc).is_ok());
        collector.shutdown();
        assert!(std::net::TcpStream::connect(grpc).is_err());
        assert!(std::net::TcpStream::connect(http).is_err());
    }
}
