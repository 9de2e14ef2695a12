//! A `reqwest` client that gives every attempt a client span and carries the trace along.
//!
//! ```
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
//! - The name is `{method}`, or `{method} {url.template}` where [`RequestBuilder::url_template`]
//!   gives one.
//! - `http.request.method`, `server.address`, `server.port`, `url.full` (credentials and
//!   signatures redacted) at the start; `http.response.status_code`, `error.type`,
//!   `network.protocol.version`, `network.peer.address/port` and `http.response.body.size` (bytes
//!   that were read) later.
//! - The status is an error for 4xx, 5xx and for a failed transfer: then `error.type` is one of
//!   `timeout`, `dns`, `connect`, `redirect`, `body` (it broke off), `decode` (it is not the JSON
//!   that was expected), `upgrade`, `request`.
//!
//! # When it ends
//! With the end of the response's body, or when the [`Response`] is dropped; not reading a body
//! is no error. A request that is dropped before its response, as by a timeout around it, ends
//! with `spanweave.outcome = "cancelled"`.
//!
//! # Redirects
//! reqwest follows redirects inside and takes `traceparent` and `baggage` along to whoever is
//! next. [`HttpClient::new`] and [`HttpClient::build`] follow them here, by reqwest's own rules (at
//! most ten, credentials stay on their host), a span each with `http.request.resend_count`, and
//! decide for every hop what may go there. After the last allowed hop the redirect itself is the
//! response. [`HttpClient::from_client`] leaves redirects to the client that it is given; what
//! reqwest repeats inside (redirects there, retries of its protocols) is not seen.
//!
//! A timeout of a request covers all its hops; one of the whole client counts for each.

mod request;

mod attempt;
mod handle;
mod redirect;

mod response;

pub use handle::HttpClient;
pub use request::RequestBuilder;
pub use response::{Response, ResponseBody};

/// The short name of [`HttpClient`].
pub type Client = HttpClient;
