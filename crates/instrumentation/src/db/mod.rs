//! Databases: spans by the semantic conventions, out of what a driver tells or around its calls.
//!
//! - [`SqlxQueries`] makes spans of the query events of sqlx; the application stays as it is.
//! - `pool::TracedPool` (feature `sqlx-pool`) wraps a pool and knows the rest: errors, the server,
//!   transactions, how long a connection was waited for.
//! - [`sql`] reads SQL text.

pub mod sql;

mod query;

mod sqlx_events;

#[cfg(feature = "sqlx-pool")]
pub mod pool;

pub use sqlx_events::SqlxQueries;
