//! HTTP and database instrumentation for `tracing` applications, by the OpenTelemetry semantic
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
//! | `sqlx` | spans out of the query events of an application that uses sqlx, unchanged | `db::SqlxQueries` |
//! | `sqlx-pool` | a wrapper around an sqlx pool: errors, transactions, acquire time | `db::pool` |
//! | `sqlx-executor` | that wrapper wherever sqlx takes an executor (switches on sqlx's `macros`) | `db::pool` |
//! | `full` | all of them | |
//!
//! No feature chooses a TLS stack, an async runtime or a database driver.
//!
//! An attribute of the project's own is `spanweave.outcome`: it says `cancelled` on the span of an
//! exchange that one side gave up before its end. Giving up on purpose is no error, so the status
//! of such a span stays unset.
#![forbid(unsafe_code)]

#[cfg(any(feature = "http-server", feature = "reqwest"))]
pub mod http;

#[cfg(feature = "sqlx")]
pub mod db;
