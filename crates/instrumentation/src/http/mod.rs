//! HTTP servers and clients.
//!
//! The pure parts decide (which methods are known, what is redacted, where a redirect leads); an
//! exchange records; the layer and the client act.

// What is said of a request.
#[cfg(any(feature = "http-server", feature = "http-client"))]
mod headers;
mod method;
mod redact;

// One request and its response, to the end of the body.
mod body;
mod exchange;

#[cfg(feature = "http-client")]
mod error_class;

#[cfg(any(feature = "http-client", feature = "reqwest"))]
pub mod client;
#[cfg(feature = "http-server")]
pub mod server;

pub use body::TracedBody;
pub use method::KnownMethods;
