//! A wrapper around an sqlx pool.
//!
//! ```no_run
//! # use sqlx::{Database, Executor};
//! use spanweave_instrumentation::db::pool::TracedPool;
//!
//! # async fn run<DB: Database>() -> Result<(), sqlx::Error>
//! # where for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
//! #       DB::Arguments: sqlx::IntoArguments<DB> {
//! let pool = TracedPool::<DB>::connect("sqlite:shop.db").await?;
//! let rows = pool.fetch_all(sqlx::query("SELECT name FROM users")).await?;
//!
//! let mut transaction = pool.begin().await?;
//! transaction.execute(sqlx::query("DELETE FROM users")).await?;
//! transaction.commit().await?;
//! # Ok(())
//! # }
//! ```
//!
//! With feature `sqlx-executor`, `&pool` and `transaction.executor()` are executors of sqlx:
//! `sqlx::query(..).fetch_all(&pool)`, `query!` and streams work with them as well. It switches on
//! sqlx's `macros`, which takes a while to compile.
//!
//! # What a span says
//! Every statement, and each `BEGIN`, `COMMIT` and `ROLLBACK`, is a client span named by its
//! summary: `db.system.name`, `db.namespace` (the database of PostgreSQL and MySQL),
//! `server.address` and `server.port` where the connection has them, `db.query.text`,
//! `db.query.summary`, `db.operation.name`, `db.collection.name`, `db.response.returned_rows`;
//! `db.client.connection.wait_time_ms` is how long the pool took to give a connection (a float, in
//! milliseconds), which is part of the span's time.
//!
//! A failed one has the status Error, and `db.response.status_code` (an SQLSTATE, or SQLite's
//! extended result code) as its `error.type`, or a class of the error where the database gave no
//! code. The text of an error may quote data and is not recorded. No row where one was asked for
//! is no error of the database. A call that is dropped before its end has
//! `spanweave.outcome = "cancelled"`.
//!
//! With feature `metrics`, `TracedPool::observe` reports how many connections there are.
//!
//! # No double counting
//! A pool that is made here connects with sqlx's statement log off, so that no query event exists
//! from which [`SqlxQueries`](super::SqlxQueries) could make a second span.

mod statement;
mod target;

mod call;

mod transaction;
mod wrapper;

#[cfg(feature = "sqlx-executor")]
mod executor;
#[cfg(feature = "metrics")]
mod metrics;

#[cfg(feature = "sqlx-executor")]
pub use executor::TransactionExecutor;
pub use transaction::TracedTransaction;
pub use wrapper::TracedPool;
