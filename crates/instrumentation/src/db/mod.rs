//! Databases: spans by the semantic conventions, out of what a driver tells or around its calls.
//!
//! - `SqlxQueries` (feature `sqlx`) makes spans of the query events of sqlx; the application stays as it is.
//! - `pool::TracedPool` (feature `sqlx-pool`) wraps a pool and knows the rest: errors, the server,
//!   transactions, how long a connection was waited for.
//! - [`query`] opens the right span around the query of any other driver.
//! - [`sql`] reads SQL text.

pub mod sql;

mod query;

mod call;

#[cfg(feature = "sqlx")]
mod sqlx_events;

#[cfg(feature = "sqlx-pool")]
pub mod pool;

pub use call::{QueryBuilder, QueryCall, query};
#[cfg(feature = "sqlx")]
pub use sqlx_events::SqlxQueries;
