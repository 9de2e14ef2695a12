//! A tower layer that gives every request a server span.
//!
//! ```
//! # #[cfg(feature = "axum")]
//! # fn app() -> axum::Router {
//! use axum::{Router, routing::get};
//! use spanweave_instrumentation::http::server::HttpServerLayer;
//!
//! Router::new()
//!     .route("/users/{id}", get(|| async { "a user" }))
//!     .layer(HttpServerLayer::new())
//! # }
//! ```
//!
//! **With axum, add it by `Router::layer`**, after the routes: there the route is known already, and
//! requests that match none have their span, too. Around the whole router (`ServiceBuilder`), spans
//! are named by the method alone.
//!
//! # What a span says
//! - The name is `{method} {http.route}`, or the method where no route is known; never the path.
//! - `http.request.method`, `url.path`, `url.scheme`, `url.query` (signatures redacted),
//!   `http.route`, `server.address`, `server.port`, `network.protocol.version`,
//!   `user_agent.original` at the start; `http.response.status_code`, `error.type` and
//!   `http.response.body.size` (bytes that were handed to the connection) later.
//! - `http.request.body.size`: what `content-length` announces; without it, the bytes that were read
//!   of a body of axum's.
//! - `spanweave.http.time_to_first_byte_ms`: from the request's arrival to the first piece of the
//!   response's body; without a body, to its head. A float, milliseconds.
//! - `client.address`, `network.peer.address` and `network.peer.port` where the request's
//!   extensions hold a `SocketAddr`, or axum's `ConnectInfo<SocketAddr>`
//!   (`into_make_service_with_connect_info`). Headers of proxies are believed only from
//!   [`ServerLayer::trusted_proxies`].
//! - Headers that [`ServerLayer::capture_request_headers`] and
//!   [`capture_response_headers`](ServerLayer::capture_response_headers) name.
//! - The status is an error for 5xx, for a body or a service that fails and for a panic, else
//!   unset.
//!
//! # When it ends
//! With the last byte of the body. A connection that goes away before ends it with
//! `spanweave.outcome = "cancelled"` and no error; a panic with `error.type = "panic"`. Responses
//! without a body (to `HEAD`, 1xx with `101 Switching Protocols`, 204, 304) end it at once.
//! Work that was spawned with the span (`in_current_span`) keeps it open until it is done.
//!
//! With 101 the connection goes on without its request: [`upgraded`] opens a linked span for it.
//!
//! # What a response says
//! A caller that has named itself (see `spanweave_core::propagation::service_member`) is told this
//! service's name in the header `spanweave-service`, unless its address is known and public by the
//! egress policy. [`ServerLayer::trace_in_response`] adds the ids of the span for browsers.
//!
//! # Parents
//! The caller's span, where the headers name one, else the current span, if there is one.

mod client_address;
mod layer;
mod request;
mod request_body;
mod service;

mod future;
mod reply;

mod upgrade;

pub use client_address::InvalidNetwork;
pub use future::ResponseFuture;
pub use layer::{HttpServerLayer, ServerLayer};
pub use service::HttpServer;
pub use upgrade::upgraded;
