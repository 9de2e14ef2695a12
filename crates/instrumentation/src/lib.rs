//! HTTP, gRPC and database instrumentation for `tracing` applications, by the OpenTelemetry semantic
//! conventions: nobody writes these spans by hand.
//!
//! The spans are ordinary `tracing` spans with ordinary fields, so that they work under every
//! capture; only propagation and the query events need `spanweave-core`. Their targets begin with
//! `spanweave::` (`spanweave::http::server`, `spanweave::http::client`, `spanweave::db`), their
//! level is `INFO`.
//!
//! | feature | what it adds | where |
//! |---|---|---|
//! | `http-server` | a tower layer for servers: axum, hyper, anything that is tower | `http::server` |
//! | `axum` | axum's matched path as `http.route`, its `ConnectInfo` as the peer | `http::server` |
//! | `reqwest` | a wrapper around `reqwest::Client`, with redirects as spans of their own | `http::client` |
//! | `reqwest-middleware` | the same as a middleware of `reqwest-middleware` | `http::client` |
//! | `http-client` | a tower layer for clients | `http::client` |
//! | `hyper-client` | classes of the errors of hyper-util's client under that layer | `http::client` |
//! | `grpc` | tower layers for servers and clients of tonic, its metadata as a carrier | `grpc` |
//! | `db` | spans for the queries of any driver | `db::query` |
//! | `sqlx` | spans out of the query events of an application that uses sqlx, unchanged | `db::SqlxQueries` |
//! | `sqlx-pool` | a wrapper around an sqlx pool: errors, transactions, acquire time | `db::pool` |
//! | `sqlx-executor` | that wrapper wherever sqlx takes an executor (switches on sqlx's `macros`) | `db::pool` |
//! | `metrics` | the connections of that pool as metrics | `db::pool` |
//! | `tokio` | spawned tasks that keep their span | `tasks` |
//! | `full` | all of them | |
//!
//! No feature chooses a TLS stack, an async runtime or a database driver.
//!
//! An attribute of the project's own is `spanweave.outcome`: it says `cancelled` on the span of an
//! exchange that one side gave up before its end. Giving up on purpose is no error, so the status
//! of such a span stays unset.
#![forbid(unsafe_code)]

#[cfg(any(
    feature = "http-server",
    feature = "http-client",
    feature = "reqwest",
    feature = "grpc"
))]
mod peer;

#[cfg(any(feature = "http-server", feature = "grpc"))]
mod caller;

#[cfg(any(feature = "http-server", feature = "http-client", feature = "reqwest"))]
pub mod http;

#[cfg(feature = "grpc")]
pub mod grpc;

#[cfg(feature = "db")]
pub mod db;

#[cfg(feature = "tokio")]
pub mod tasks;
