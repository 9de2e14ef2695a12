//! Connecting: over TCP, to a Unix socket, or through a proxy.
//!
//! Proxies are those of `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` (lower-case, too)
//! at the start. What is TLS or HTTP/2 goes through a tunnel (`CONNECT`); plain HTTP/1.1 is
//! forwarded by the proxy.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use spanweave_core::BoxError;
use tokio::net::TcpStream;
use tower_service::Service;

use super::endpoint::{Endpoint, Protocol};

const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Makes the connections of a lane.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    route: Arc<Route>,
}

enum Route {
    Direct,
    Unix(#[cfg_attr(not(unix), allow(dead_code))] PathBuf),
    /// A proxy that forwards requests.
    Forward(Uri, Option<HeaderValue>),
    /// A proxy that is asked for a connection.
    Tunnel(Uri, Option<HeaderValue>),
}

impl Connector {
    pub(crate) fn new(endpoint: &Endpoint, timeout: Duration) -> Self {
        Self::with_proxies(endpoint, timeout, &Matcher::from_env())
    }

    fn with_proxies(endpoint: &Endpoint, timeout: Duration, proxies: &Matcher) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        tcp.set_keepalive(Some(KEEP_ALIVE));
        // A little less than the whole, so that it is seen that the backend was not even reached.
        tcp.set_connect_timeout(Some(timeout / 20 * 19));
        let proxy = || proxies.intercept(&endpoint.uri);
        let route = match (&endpoint.unix, proxy()) {
            (Some(path), _) => Route::Unix(path.clone()),
            (None, None) => Route::Direct,
            (None, Some(proxy)) => {
                let authorization = proxy.basic_auth().cloned();
                let plain = endpoint.uri.scheme() == Some(&Scheme::HTTP);
                if plain && endpoint.protocol != Protocol::Grpc {
                    Route::Forward(proxy.uri().clone(), authorization)
                } else {
                    Route::Tunnel(proxy.uri().clone(), authorization)
                }
            }
        };
        Self { tcp, route: Arc::new(route) }
    }

    /// The credentials for a proxy that forwards: they are part of each request.
    pub(crate) fn forward_authorization(&self) -> Option<HeaderValue> {
        match &*self.route {
            Route::Forward(_, authorization) => authorization.clone(),
            _ => None,
        }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (mut tcp, route) = (self.tcp.clone(), self.route.clone());
        Box::pin(async move {
            Ok(match &*route {
                Route::Direct => Stream::Tcp(tcp.call(uri).await?, false),
                #[cfg(unix)]
                Route::Unix(path) => {
                    Stream::Unix(TokioIo::new(tokio::net::UnixStream::connect(path).await?))
                }
                #[cfg(not(unix))]
                Route::Unix(_) => return Err("this system has no Unix sockets".into()),
                Route::Forward(proxy, _) => Stream::Tcp(tcp.call(proxy.clone()).await?, true),
                Route::Tunnel(proxy, authorization) => {
                    let tunnel = Tunnel::new(proxy.clone(), tcp);
                    let mut tunnel = match authorization {
                        Some(authorization) => tunnel.with_auth(authorization.clone()),
                        None => tunnel,
                    };
                    Stream::Tcp(tunnel.call(with_port(uri)?).await?, false)
                }
            })
        })
    }
}

/// `CONNECT` names a port in any case.
fn with_port(uri: Uri) -> Result<Uri, http::Error> {
    let Some(host) = uri.host().filter(|_| uri.port().is_none()) else { return Ok(uri) };
    let port = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let authority = format!("{host}:{port}");
    let mut parts = uri.into_parts();
    parts.authority = Some(authority.parse()?);
    Ok(Uri::from_parts(parts)?)
}

/// A connection.
pub(crate) enum Stream {
    /// And whether a proxy forwards requests behind it.
    Tcp(TokioIo<TcpStream>, bool),
    #[cfg(unix)]
    Unix(TokioIo<tokio::net::UnixStream>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Tcp(stream, forwarded) => stream.connected().proxy(*forwarded),
            #[cfg(unix)]
            Self::Unix(_) => Connected::new(),
        }
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_read(context, buffer),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_write(context, bytes),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_flush(context),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_shutdown(context),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream, _) => stream.is_write_vectored(),
            #[cfg(unix)]
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_write_vectored(context, slices),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::{parse_grpc, parse_http_base};
    use super::*;

    fn route(endpoint: Endpoint) -> Connector {
        let proxies = Matcher::builder()
            .all("http://user:secret@proxy:3128")
            .no("localhost,.internal")
            .build();
        Connector::with_proxies(&endpoint, Duration::from_secs(10), &proxies)
    }

    fn of<T>(parsed: Result<Endpoint, T>) -> Endpoint {
        parsed.ok().expect("an endpoint")
    }

    #[test]
    fn tls_and_http2_are_tunnelled_and_plain_http_is_forwarded() {
        let forward = route(of(parse_http_base("http://collector:4318")));
        assert!(
            matches!(&*forward.route, Route::Forward(proxy, Some(_)) if proxy.port_u16() == Some(3128))
        );
        assert!(forward.forward_authorization().is_some());
        for endpoint in [of(parse_http_base("https://collector")), of(parse_grpc("http://c:4317"))]
        {
            let tunnel = route(endpoint);
            assert!(matches!(&*tunnel.route, Route::Tunnel(..)));
            assert!(tunnel.forward_authorization().is_none());
        }
    }

    #[test]
    fn what_needs_no_proxy_has_none() {
        for text in ["http://localhost:4318", "http://a.internal"] {
            assert!(matches!(&*route(of(parse_http_base(text))).route, Route::Direct), "{text}");
        }
        let socket = route(of(parse_http_base("unix:/run/x")));
        assert!(matches!(&*socket.route, Route::Unix(_)));
    }

    #[test]
    fn a_tunnel_names_its_port() {
        for (uri, expected) in [
            ("https://host/v1/traces", "https://host:443/v1/traces"),
            ("http://host:1/", "http://host:1/"),
        ] {
            let with = with_port(uri.parse().unwrap()).unwrap();
            assert_eq!(with.to_string(), expected);
        }
    }
}
