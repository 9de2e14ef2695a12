use std::borrow::Cow;
use std::sync::Arc;

use sqlx::pool::PoolOptions;
use sqlx::query::QueryAs;
use sqlx::{
    ConnectOptions, Connection, Database, Execute, Executor, FromRow, IntoArguments, Pool,
    Transaction,
};

use super::TracedTransaction;
use super::call::Call;
use super::statement::Statement;
use super::target::Target;

/// A pool whose statements and transactions have spans; see the [module](super). Cloning is cheap.
pub struct TracedPool<DB: Database> {
    pool: Pool<DB>,
    target: Arc<Target>,
}

impl<DB: Database> TracedPool<DB> {
    /// Connects to the database of a URL.
    ///
    /// # Errors
    /// Those of `sqlx::Pool::connect`.
    pub async fn connect(url: &str) -> Result<Self, sqlx::Error> {
        Self::connect_with(PoolOptions::new(), url.parse()?).await
    }

    /// Connects; the statement log of `options` is switched off.
    ///
    /// # Errors
    /// Those of `sqlx::pool::PoolOptions::connect_with`.
    pub async fn connect_with(
        pool: PoolOptions<DB>,
        options: <DB::Connection as Connection>::Options,
    ) -> Result<Self, sqlx::Error> {
        Ok(Self::new(pool.connect_with(options.disable_statement_logging()).await?))
    }

    /// As [`connect_with`](Self::connect_with), but connects when the first connection is needed.
    pub fn connect_lazy_with(
        pool: PoolOptions<DB>,
        options: <DB::Connection as Connection>::Options,
    ) -> Self {
        Self::new(pool.connect_lazy_with(options.disable_statement_logging()))
    }

    /// Wraps a pool that exists. Its further connections are made without the statement log;
    /// those that it has already go on to emit query events, of which
    /// [`SqlxQueries`](crate::db::SqlxQueries) would make second spans.
    pub fn new(pool: Pool<DB>) -> Self {
        let options = pool.connect_options();
        let target = Arc::new(Target::of::<DB>(&options));
        pool.set_connect_options((*options).clone().disable_statement_logging());
        Self { pool, target }
    }

    /// Replaces `db.system.name`, as for a MariaDB that is reached by the MySQL driver.
    #[must_use]
    pub fn system(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        Arc::make_mut(&mut self.target).system = name.into();
        self
    }

    /// The pool inside; what runs on it has no spans.
    pub fn inner(&self) -> &Pool<DB> {
        &self.pool
    }

    /// Closes the pool and waits until its connections are closed.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Begins a transaction. Its span covers the wait for a connection and the `BEGIN`.
    ///
    /// # Errors
    /// Those of `sqlx::Pool::begin`.
    pub async fn begin(&self) -> Result<TracedTransaction<DB>, sqlx::Error> {
        let call = Call::start(&self.target, "BEGIN");
        match call.acquire(&self.pool).await {
            Ok(connection) => {
                let transaction = call.run(Transaction::begin(connection, None)).await?;
                Ok(TracedTransaction::new(transaction, Arc::clone(&self.target)))
            }
            Err(error) => call.finish(Err(error)),
        }
    }
}

#[cfg(feature = "sqlx-executor")]
impl<DB: Database> TracedPool<DB> {
    pub(super) fn target(&self) -> Arc<Target> {
        Arc::clone(&self.target)
    }
}

impl<DB> TracedPool<DB>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    /// Runs a statement.
    ///
    /// # Errors
    /// Those of `sqlx::Executor::execute`.
    pub async fn execute<'q, E>(&self, query: E) -> Result<DB::QueryResult, sqlx::Error>
    where
        E: Execute<'q, DB>,
    {
        let statement = Statement::take(query)?;
        let call = Call::start(&self.target, statement.text());
        match call.acquire(&self.pool).await {
            Ok(mut connection) => call.execute::<DB>(&mut connection, statement).await,
            Err(error) => call.finish(Err(error)),
        }
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// Those of `sqlx::Executor::fetch_all`.
    pub async fn fetch_all<'q, E>(&self, query: E) -> Result<Vec<DB::Row>, sqlx::Error>
    where
        E: Execute<'q, DB>,
    {
        let statement = Statement::take(query)?;
        let call = Call::start(&self.target, statement.text());
        match call.acquire(&self.pool).await {
            Ok(mut connection) => call.fetch_all::<DB>(&mut connection, statement).await,
            Err(error) => call.finish(Err(error)),
        }
    }

    /// The first row of a query, if there is one.
    ///
    /// # Errors
    /// Those of `sqlx::Executor::fetch_optional`.
    pub async fn fetch_optional<'q, E>(&self, query: E) -> Result<Option<DB::Row>, sqlx::Error>
    where
        E: Execute<'q, DB>,
    {
        let statement = Statement::take(query)?;
        let call = Call::start(&self.target, statement.text());
        match call.acquire(&self.pool).await {
            Ok(mut connection) => call.fetch_optional::<DB>(&mut connection, statement).await,
            Err(error) => call.finish(Err(error)),
        }
    }

    /// The first row of a query.
    ///
    /// # Errors
    /// `RowNotFound` where there is none (the span is no error then), and those of
    /// `sqlx::Executor::fetch_one`.
    pub async fn fetch_one<'q, E>(&self, query: E) -> Result<DB::Row, sqlx::Error>
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
        &self,
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
        &self,
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
        &self,
        query: QueryAs<'q, DB, O, A>,
    ) -> Result<O, sqlx::Error>
    where
        A: IntoArguments<DB> + 'q,
        O: Send + for<'r> FromRow<'r, DB::Row>,
    {
        O::from_row(&self.fetch_one(query).await?)
    }
}

impl<DB: Database> Clone for TracedPool<DB> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), target: Arc::clone(&self.target) }
    }
}

impl<DB: Database> std::fmt::Debug for TracedPool<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TracedPool").field("system", &self.target.system).finish_non_exhaustive()
    }
}
