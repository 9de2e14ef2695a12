use std::sync::Arc;

use tower_layer::Layer;

use super::client_address::{InvalidNetwork, TrustedProxies};
use super::service::HttpServer;
use crate::http::KnownMethods;
use crate::http::headers::Captured;

/// A tower layer that gives every request a server span; see the [module](super).
#[derive(Clone, Debug)]
pub struct ServerLayer {
    settings: Settings,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) methods: KnownMethods,
    pub(super) proxies: TrustedProxies,
    pub(super) request_headers: Captured,
    pub(super) response_headers: Captured,
    pub(super) trace_in_response: bool,
}

/// The name under which [`ServerLayer`] is usually imported.
pub type HttpServerLayer = ServerLayer;

impl ServerLayer {
    /// The layer, with the known methods of the environment ([`KnownMethods::from_env`]).
    pub fn new() -> Self {
        Self {
            settings: Settings {
                methods: KnownMethods::from_env(),
                proxies: TrustedProxies::default(),
                request_headers: Captured::default(),
                response_headers: Captured::default(),
                trace_in_response: false,
            },
        }
    }

    /// Replaces the list of known methods.
    #[must_use]
    pub fn known_methods(mut self, methods: KnownMethods) -> Self {
        self.settings.methods = methods;
        self
    }

    /// The proxies (addresses, or networks such as `10.0.0.0/8`) whose `Forwarded`, else
    /// `X-Forwarded-For`, says who the client is. None by default: from anybody else these headers
    /// are what the client claims, and `client.address` is the peer. The peer's address must be
    /// known, see the [module](super).
    ///
    /// # Errors
    /// A text that is no network.
    pub fn trusted_proxies<N: AsRef<str>>(
        mut self,
        networks: impl IntoIterator<Item = N>,
    ) -> Result<Self, InvalidNetwork> {
        self.settings.proxies = TrustedProxies::parse(networks)?;
        Ok(self)
    }

    /// Request headers that become attributes (`http.request.header.<name>`, an array of strings).
    /// None by default; values of those whose names say that they are secret are masked.
    #[must_use]
    pub fn capture_request_headers<N: AsRef<str>>(
        mut self,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.settings.request_headers = Captured::new("http.request.header.", names);
        self
    }

    /// Response headers that become attributes (`http.response.header.<name>`), likewise.
    #[must_use]
    pub fn capture_response_headers<N: AsRef<str>>(
        mut self,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.settings.response_headers = Captured::new("http.response.header.", names);
        self
    }

    /// Whether responses carry the ids of their span (`traceparent`, and the same in
    /// `server-timing`), so that a browser can join its own measurements to the trace. Off by
    /// default. A page of another origin must be allowed to read them
    /// (`access-control-expose-headers`, `timing-allow-origin`).
    #[must_use]
    pub fn trace_in_response(mut self, on: bool) -> Self {
        self.settings.trace_in_response = on;
        self
    }
}

impl Default for ServerLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = HttpServer<S>;

    fn layer(&self, inner: S) -> HttpServer<S> {
        HttpServer::new(inner, Arc::new(self.settings.clone()))
    }
}
