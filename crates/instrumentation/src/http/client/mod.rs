//! Clients that give every attempt a client span and carry the trace along: a wrapper around
//! reqwest's (`HttpClient`, feature `reqwest`), a middleware for `reqwest-middleware`
//! (`SpanMiddleware`), and a tower layer for all others (`HttpClientLayer`, feature
//! `http-client`).
//!
//! ```
//! # #[cfg(feature = "reqwest")]
//! # async fn call() -> Result<(), reqwest::Error> {
//! use spanweave_instrumentation::http::client::HttpClient;
//!
//! let client = HttpClient::new();
//! let user: String = client.get("http://127.0.0.1:8080/users/7").send().await?.text().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a span says
//! - The name is `{method}`, or `{method} {url.template}` where `RequestBuilder::url_template`
//!   gives one.
//! - `http.request.method`, `server.address`, `server.port`, `url.full` (credentials and
//!   signatures redacted) at the start; `http.response.status_code`, `error.type`,
//!   `network.protocol.version`, `network.peer.address/port`, `http.response.body.size` (bytes that
//!   were read) and `spanweave.http.time_to_first_byte_ms` later.
//! - `service.peer.name`, where the server names itself (by the layer of feature `http-server`) and
//!   the egress policy trusts its host.
//! - The status is an error for 4xx, 5xx and for a failed transfer: then `error.type` is one of
//!   `timeout`, `dns`, `connect`, `redirect`, `body` (it broke off), `decode` (it is not the JSON
//!   that was expected), `upgrade`, `request`.
//!
//! # When it ends
//! With the end of the response's body, or when the response is dropped; not reading a body
//! is no error. A request that is dropped before its response, as by a timeout around it, ends
//! with `spanweave.outcome = "cancelled"`.
//!
//! # Redirects
//! reqwest follows redirects inside and takes `traceparent` and `baggage` along to whoever is
//! next. `HttpClient::new` and `HttpClient::build` follow them here, by reqwest's own rules (at
//! most ten, credentials stay on their host), a span each with `http.request.resend_count`, and
//! decide for every hop what may go there. After the last allowed hop the redirect itself is the
//! response. `HttpClient::from_client` leaves redirects to the client that it is given; what
//! reqwest repeats inside (redirects there, retries of its protocols) is not seen.
//!
//! # Retries
//! A loop around the client makes a sibling span for each attempt; an [`Attempts`] numbers them.
//!
//! A timeout of a request covers all its hops; one of the whole client counts for each.

// What every client says.
mod attempts;
mod described;

#[cfg(feature = "http-client")]
mod layer;

// reqwest's.
#[cfg(feature = "reqwest")]
mod request;

#[cfg(feature = "reqwest")]
mod attempt;
#[cfg(feature = "reqwest")]
mod handle;
#[cfg(feature = "reqwest-middleware")]
mod middleware;
#[cfg(feature = "reqwest")]
mod redirect;

#[cfg(feature = "reqwest")]
mod response;

pub use attempts::Attempts;
#[cfg(feature = "reqwest")]
pub use handle::HttpClient;
#[cfg(feature = "http-client")]
pub use layer::{AttemptFuture, HttpClientLayer, HttpClientService, UrlTemplate};
#[cfg(feature = "reqwest-middleware")]
pub use middleware::SpanMiddleware;
#[cfg(feature = "reqwest")]
pub use request::RequestBuilder;
#[cfg(feature = "reqwest")]
pub use response::{Response, ResponseBody};

/// The short name of [`HttpClient`].
#[cfg(feature = "reqwest")]
pub type Client = HttpClient;
