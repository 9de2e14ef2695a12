//! One call to the database, and its span.

use std::borrow::Cow;

use spanweave_core::clock;
use sqlx::pool::PoolConnection;
use sqlx::{Database, Executor, Pool};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::statement::Statement;
use super::target::Target;
use crate::db::query::Query;

/// The span of a call. Dropping it before its end counts as cancelled.
#[derive(Debug)]
pub(super) struct Call {
    span: Span,
    open: bool,
}

impl Call {
    pub(super) fn start(target: &Target, text: &str) -> Self {
        let query = Query::describe(text, &target.system);
        let summary = Some(query.summary.text()).filter(|summary| !summary.is_empty());
        let span = tracing::info_span!(
            target: "spanweave::db",
            "db.query",
            otel.name = query.name(&target.system),
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = &*target.system,
            db.namespace = target.namespace.as_deref(),
            db.query.text = &*query.text,
            db.query.summary = summary,
            db.operation.name = query.summary.operation(),
            db.collection.name = query.summary.collection(),
            db.response.returned_rows = Empty,
            db.response.status_code = Empty,
            db.client.connection.wait_time_ms = Empty,
            server.address = target.address.as_deref(),
            server.port = target.port.map(i64::from),
            error.type = Empty,
            spanweave.outcome = Empty,
        );
        Self { span, open: true }
    }

    pub(super) async fn acquire<DB: Database>(
        &self,
        pool: &Pool<DB>,
    ) -> Result<PoolConnection<DB>, sqlx::Error> {
        let start = clock::now();
        let connection = pool.acquire().instrument(self.span.clone()).await;
        let nanos = clock::now().saturating_sub(start);
        self.span.record("db.client.connection.wait_time_ms", nanos as f64 / 1e6);
        connection
    }

    #[cfg(feature = "sqlx-executor")]
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Runs the last part of the call and ends it.
    pub(super) async fn run<T>(
        self,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let result = work.instrument(self.span.clone()).await;
        self.finish(result)
    }

    pub(super) fn finish<T>(mut self, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.open = false;
        if let Err(error) = &result {
            let code = error.as_database_error().and_then(|error| error.code());
            if let Some(code) = &code {
                self.span.record("db.response.status_code", &**code);
            }
            self.span.record("error.type", &*code.unwrap_or(Cow::Borrowed(class(error))));
            self.span.record("otel.status_code", "ERROR");
        }
        result
    }

    pub(super) async fn execute<DB>(
        self,
        connection: &mut DB::Connection,
        statement: Statement<DB>,
    ) -> Result<DB::QueryResult, sqlx::Error>
    where
        DB: Database,
        for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    {
        self.run(connection.execute(statement)).await
    }

    pub(super) async fn fetch_all<DB>(
        self,
        connection: &mut DB::Connection,
        statement: Statement<DB>,
    ) -> Result<Vec<DB::Row>, sqlx::Error>
    where
        DB: Database,
        for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    {
        let rows = connection.fetch_all(statement).instrument(self.span.clone()).await;
        if let Ok(rows) = &rows {
            self.record_rows(rows.len());
        }
        self.finish(rows)
    }

    pub(super) async fn fetch_optional<DB>(
        self,
        connection: &mut DB::Connection,
        statement: Statement<DB>,
    ) -> Result<Option<DB::Row>, sqlx::Error>
    where
        DB: Database,
        for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    {
        let row = connection.fetch_optional(statement).instrument(self.span.clone()).await;
        if let Ok(row) = &row {
            self.record_rows(usize::from(row.is_some()));
        }
        self.finish(row)
    }

    pub(super) fn record_rows(&self, rows: usize) {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.span.record("db.response.returned_rows", rows);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.open {
            self.span.record("spanweave.outcome", "cancelled");
        }
    }
}

/// A low-cardinality class of an error for which the database gave no code.
fn class(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::Configuration(_) => "configuration",
        sqlx::Error::InvalidArgument(_) => "invalid_argument",
        sqlx::Error::Database(_) => "database",
        sqlx::Error::Io(_) => "io",
        sqlx::Error::Tls(_) => "tls",
        sqlx::Error::Protocol(_) => "protocol",
        sqlx::Error::RowNotFound => "row_not_found",
        sqlx::Error::TypeNotFound { .. } => "type_not_found",
        sqlx::Error::ColumnIndexOutOfBounds { .. } | sqlx::Error::ColumnNotFound(_) => {
            "column_not_found"
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => "decode",
        sqlx::Error::Encode(_) => "encode",
        sqlx::Error::PoolTimedOut => "pool_timed_out",
        sqlx::Error::PoolClosed => "pool_closed",
        sqlx::Error::WorkerCrashed => "worker_crashed",
        sqlx::Error::InvalidSavePointStatement | sqlx::Error::BeginFailed => "transaction",
        _ => "_OTHER",
    }
}
