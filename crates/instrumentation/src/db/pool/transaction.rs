use std::sync::Arc;

use sqlx::query::QueryAs;
use sqlx::{Database, Execute, Executor, FromRow, IntoArguments, Transaction};

use super::call::Call;
use super::statement::Statement;
use super::target::Target;

/// A transaction whose statements have spans, and its end too. Dropped without
/// [`commit`](Self::commit) it is rolled back by sqlx when the connection is used next, which has
/// no span.
pub struct TracedTransaction<DB: Database> {
    inner: Transaction<'static, DB>,
    target: Arc<Target>,
}

impl<DB: Database> TracedTransaction<DB> {
    pub(super) fn new(inner: Transaction<'static, DB>, target: Arc<Target>) -> Self {
        Self { inner, target }
    }

    /// Commits.
    ///
    /// # Errors
    /// Those of `sqlx::Transaction::commit`.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        Call::start(&self.target, "COMMIT").run(self.inner.commit()).await
    }

    /// Rolls back.
    ///
    /// # Errors
    /// Those of `sqlx::Transaction::rollback`.
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        Call::start(&self.target, "ROLLBACK").run(self.inner.rollback()).await
    }

    #[cfg(feature = "sqlx-executor")]
    pub(super) fn target(&self) -> Arc<Target> {
        Arc::clone(&self.target)
    }

    /// The connection inside; what runs on it has no spans.
    pub fn inner(&mut self) -> &mut DB::Connection {
        &mut self.inner
    }
}

impl<DB> TracedTransaction<DB>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    /// Runs a statement.
    ///
    /// # Errors
    /// Those of `sqlx::Executor::execute`.
    pub async fn execute<'q, E>(&mut self, query: E) -> Result<DB::QueryResult, sqlx::Error>
    where
        E: Execute<'q, DB>,
    {
        let statement = Statement::take(query)?;
        let call = Call::start(&self.target, statement.text());
        call.execute::<DB>(&mut self.inner, statement).await
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// Those of `sqlx::Executor::fetch_all`.
    pub async fn fetch_all<'q, E>(&mut self, query: E) -> Result<Vec<DB::Row>, sqlx::Error>
    where
        E: Execute<'q, DB>,
    {
        let statement = Statement::take(query)?;
        let call = Call::start(&self.target, statement.text());
        call.fetch_all::<DB>(&mut self.inner, statement).await
    }

    /// The first row of a query, if there is one.
    ///
    /// # Errors
    /// Those of `sqlx::Executor::fetch_optional`.
    pub async fn fetch_optional<'q, E>(&mut self, query: E) -> Result<Option<DB::Row>, sqlx::Error>
    where
        E: Execute<'q, DB>,
    {
        let statement = Statement::take(query)?;
        let call = Call::start(&self.target, statement.text());
        call.fetch_optional::<DB>(&mut self.inner, statement).await
    }

    /// The first row of a query.
    ///
    /// # Errors
    /// `RowNotFound` where there is none (the span is no error then), and those of
    /// `sqlx::Executor::fetch_one`.
    pub async fn fetch_one<'q, E>(&mut self, query: E) -> Result<DB::Row, sqlx::Error>
    where
        E: Execute<'q, DB>,
    {
        self.fetch_optional(query).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// As [`fetch_all`](Self::fetch_all), for `sqlx::query_as`.
    ///
    /// # Errors
    /// As there, and where a row is not of this type.
    pub async fn fetch_all_as<'q, O, A>(
        &mut self,
        query: QueryAs<'q, DB, O, A>,
    ) -> Result<Vec<O>, sqlx::Error>
    where
        A: IntoArguments<DB> + 'q,
        O: Send + for<'r> FromRow<'r, DB::Row>,
    {
        self.fetch_all(query).await?.iter().map(O::from_row).collect()
    }

    /// As [`fetch_optional`](Self::fetch_optional), for `sqlx::query_as`.
    ///
    /// # Errors
    /// As there, and where the row is not of this type.
    pub async fn fetch_optional_as<'q, O, A>(
        &mut self,
        query: QueryAs<'q, DB, O, A>,
    ) -> Result<Option<O>, sqlx::Error>
    where
        A: IntoArguments<DB> + 'q,
        O: Send + for<'r> FromRow<'r, DB::Row>,
    {
        self.fetch_optional(query).await?.as_ref().map(O::from_row).transpose()
    }

    /// As [`fetch_one`](Self::fetch_one), for `sqlx::query_as`.
    ///
    /// # Errors
    /// As there, and where the row is not of this type.
    pub async fn fetch_one_as<'q, O, A>(
        &mut self,
        query: QueryAs<'q, DB, O, A>,
    ) -> Result<O, sqlx::Error>
    where
        A: IntoArguments<DB> + 'q,
        O: Send + for<'r> FromRow<'r, DB::Row>,
    {
        O::from_row(&self.fetch_one(query).await?)
    }
}

impl<DB: Database> std::fmt::Debug for TracedTransaction<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TracedTransaction")
            .field("system", &self.target.system)
            .finish_non_exhaustive()
    }
}
