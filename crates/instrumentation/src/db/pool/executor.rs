//! The wrapper wherever sqlx takes an executor.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use spanweave_core::sync::lock;
use sqlx::{Database, Describe, Either, Error, Execute, Executor, SqlStr};
use tracing::Instrument;

use super::call::Call;
use super::statement::Statement;
use super::{TracedPool, TracedTransaction};

type Step<DB> = Either<<DB as Database>::QueryResult, <DB as Database>::Row>;

impl<'p, DB> Executor<'p> for &'p TracedPool<DB>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    type Database = DB;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step<DB>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, DB>,
    {
        let (pool, target) = (self.inner().clone(), self.target());
        let statement = Statement::take(query);
        Steps::stream(move |out| async move {
            let statement = statement?;
            let call = Call::start(&target, statement.text());
            match call.acquire(&pool).await {
                Ok(mut connection) => pass_all(out, call, &mut connection, statement).await,
                Err(error) => call.finish(Err(error)),
            }
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<DB::Row>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, DB>,
    {
        Box::pin(TracedPool::fetch_optional(self, query))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [DB::TypeInfo],
    ) -> BoxFuture<'e, Result<DB::Statement, Error>>
    where
        'p: 'e,
    {
        self.inner().prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<DB>, Error>>
    where
        'p: 'e,
    {
        self.inner().describe(sql)
    }
}

/// A [`TracedTransaction`] where sqlx takes an executor; of
/// [`TracedTransaction::executor`]. (An executor that is a `&mut` reference to a generic type of
/// another crate makes the compiler's search for executors endless.)
pub struct TransactionExecutor<'t, DB: Database>(&'t mut TracedTransaction<DB>);

impl<DB: Database> TracedTransaction<DB> {
    /// This transaction where sqlx takes an executor: `query.fetch_all(transaction.executor())`.
    pub fn executor(&mut self) -> TransactionExecutor<'_, DB> {
        TransactionExecutor(self)
    }
}

impl<DB: Database> std::fmt::Debug for TransactionExecutor<'_, DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<'t, DB> Executor<'t> for TransactionExecutor<'t, DB>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    type Database = DB;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step<DB>, Error>>
    where
        't: 'e,
        E: 'q + Execute<'q, DB>,
    {
        let statement = Statement::take(query);
        Steps::stream(move |out| async move {
            let statement = statement?;
            let call = Call::start(&self.0.target(), statement.text());
            pass_all(out, call, self.0.inner(), statement).await
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<DB::Row>, Error>>
    where
        't: 'e,
        E: 'q + Execute<'q, DB>,
    {
        Box::pin(self.0.fetch_optional(query))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [DB::TypeInfo],
    ) -> BoxFuture<'e, Result<DB::Statement, Error>>
    where
        't: 'e,
    {
        self.0.inner().prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<DB>, Error>>
    where
        't: 'e,
    {
        self.0.inner().describe(sql)
    }
}

/// A stream made of a future that gives its items into a slot: the connection and the stream that
/// borrows from it both live in the future.
struct Steps<'e, T> {
    /// Full only between a `give` and the poll that takes it out.
    slot: Arc<Mutex<Option<T>>>,
    /// `None` once it is over.
    work: Option<BoxFuture<'e, Result<(), Error>>>,
}

struct Out<T>(Arc<Mutex<Option<T>>>);

impl<'e, T: Send + 'e> Steps<'e, T> {
    fn stream<F>(work: impl FnOnce(Out<T>) -> F) -> BoxStream<'e, Result<T, Error>>
    where
        F: Future<Output = Result<(), Error>> + Send + 'e,
    {
        let slot = Arc::new(Mutex::new(None));
        let work = Box::pin(work(Out(Arc::clone(&slot))));
        Box::pin(Self { slot, work: Some(work) })
    }
}

impl<T> Stream for Steps<'_, T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(work) = &mut self.work else {
            return Poll::Ready(None);
        };
        let polled = work.as_mut().poll(cx);
        if let Some(step) = lock(&self.slot).take() {
            return Poll::Ready(Some(Ok(step)));
        }
        let result = ready!(polled);
        self.work = None;
        Poll::Ready(result.err().map(Err))
    }
}

impl<T> Out<T> {
    /// Hands an item to the stream and goes on when the next one is asked for.
    async fn give(&self, item: T) {
        *lock(&self.0) = Some(item);
        let mut given = false;
        poll_fn(
            |_| if std::mem::replace(&mut given, true) { Poll::Ready(()) } else { Poll::Pending },
        )
        .await;
    }
}

/// Runs a statement and gives out all that it yields.
async fn pass_all<DB>(
    out: Out<Step<DB>>,
    call: Call,
    connection: &mut DB::Connection,
    statement: Statement<DB>,
) -> Result<(), Error>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let mut rows = 0;
    let span = call.span().clone();
    let result = async {
        let mut steps = connection.fetch_many(statement);
        while let Some(step) = poll_fn(|cx| steps.as_mut().poll_next(cx)).await {
            let step = step?;
            rows += usize::from(matches!(step, Either::Right(_)));
            out.give(step).await;
        }
        Ok(())
    }
    .instrument(span)
    .await;
    call.record_rows(rows);
    call.finish(result)
}
