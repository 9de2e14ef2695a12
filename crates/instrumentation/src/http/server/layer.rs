use tower_layer::Layer;

use super::service::HttpServer;
use crate::http::KnownMethods;

/// A tower layer that gives every request a server span; see the [module](super).
#[derive(Clone, Debug)]
pub struct ServerLayer {
    methods: KnownMethods,
}

/// The name under which [`ServerLayer`] is usually imported.
pub type HttpServerLayer = ServerLayer;

impl ServerLayer {
    /// The layer, with the known methods of the environment ([`KnownMethods::from_env`]).
    pub fn new() -> Self {
        Self { methods: KnownMethods::from_env() }
    }

    /// Replaces the list of known methods.
    #[must_use]
    pub fn known_methods(mut self, methods: KnownMethods) -> Self {
        self.methods = methods;
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
        HttpServer::new(inner, self.methods.clone())
    }
}
