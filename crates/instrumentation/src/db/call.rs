//! A span around a query of any driver.

use std::any::type_name;
use std::borrow::Cow;

use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::query::Query;

/// Describes a query, for a driver that has no instrumentation of its own: `system` is the
/// `db.system.name` (`postgresql`, `mysql`, `redis`, ...), `text` what is sent.
///
/// SQL is named by its summary, and its literals are replaced where it is not parameterised. Of a
/// command of redis, valkey or memcached the operation and the key stay, further arguments become
/// `?`. The values that are bound to placeholders never come here.
///
/// ```
/// # async fn get() -> Result<u64, std::io::Error> { Ok(7) }
/// # async fn run() -> Result<(), std::io::Error> {
/// let count = spanweave_instrumentation::db::query("redis", "GET visits")
///     .server("127.0.0.1", 6379)
///     .run(get())
///     .await?;
/// # Ok(())
/// # }
/// ```
pub fn query<'a>(system: &'a str, text: &'a str) -> QueryBuilder<'a> {
    QueryBuilder { system, text, namespace: None, collection: None, server: None, batch: None }
}

/// A query that is described; [`run`](Self::run) or [`start`](Self::start) opens its span.
#[derive(Clone, Copy, Debug)]
#[must_use = "the span is opened by `run` or `start`"]
pub struct QueryBuilder<'a> {
    system: &'a str,
    text: &'a str,
    namespace: Option<&'a str>,
    collection: Option<&'a str>,
    server: Option<(&'a str, u16)>,
    batch: Option<usize>,
}

impl<'a> QueryBuilder<'a> {
    /// The database (`db.namespace`).
    pub fn namespace(mut self, name: &'a str) -> Self {
        self.namespace = Some(name);
        self
    }

    /// The table or collection (`db.collection.name`), where the text does not tell.
    pub fn collection(mut self, name: &'a str) -> Self {
        self.collection = Some(name);
        self
    }

    /// The server: `server.address`, `server.port`.
    pub fn server(mut self, address: &'a str, port: u16) -> Self {
        self.server = Some((address, port));
        self
    }

    /// How many operations the query carries, where they are a batch (`db.operation.batch.size`);
    /// one is none.
    pub fn batch_size(mut self, operations: usize) -> Self {
        self.batch = Some(operations).filter(|operations| *operations != 1);
        self
    }

    /// Runs the query inside its span, which ends with it. An error makes the span's status an
    /// error and its type `error.type`; its message may quote data and is not recorded. Dropped
    /// before its end, it has `spanweave.outcome = "cancelled"`.
    ///
    /// # Errors
    /// Those of the query, as they are.
    pub async fn run<T, E>(self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.run_with_code(work, |_| None).await
    }

    /// As [`run`](Self::run), with the database's own code of an error, such as an SQLSTATE: it
    /// becomes `db.response.status_code` and `error.type`.
    ///
    /// # Errors
    /// Those of the query, as they are.
    pub async fn run_with_code<T, E>(
        self,
        work: impl Future<Output = Result<T, E>>,
        code: impl FnOnce(&E) -> Option<String>,
    ) -> Result<T, E> {
        let call = self.start();
        let result = work.instrument(call.span().clone()).await;
        match &result {
            Ok(_) => call.succeed(),
            Err(error) => match code(error) {
                Some(code) => call.fail_with_code(&code),
                None => call.fail(without_generics(type_name::<E>())),
            },
        }
        result
    }

    /// Opens the span, for a caller that knows its end.
    pub fn start(self) -> QueryCall {
        let query = Query::describe(self.text, self.system);
        let summary = query.summary.text();
        let span = tracing::info_span!(
            target: "spanweave::db",
            "db.query",
            otel.name = query.name(self.system),
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = self.system,
            db.namespace = self.namespace,
            db.query.text = &*query.text,
            db.query.summary = (!summary.is_empty()).then_some(summary),
            db.operation.name = query.summary.operation(),
            db.collection.name = self.collection.or(query.summary.collection()),
            db.operation.batch.size = self.batch.and_then(|size| i64::try_from(size).ok()),
            db.response.returned_rows = Empty,
            db.response.status_code = Empty,
            server.address = self.server.map(|(address, _)| address),
            server.port = self.server.map(|(_, port)| i64::from(port)),
            error.type = Empty,
            spanweave.outcome = Empty,
        );
        QueryCall { span, open: true }
    }
}

/// A query that runs. Dropped without an outcome, it counts as cancelled.
#[derive(Debug)]
pub struct QueryCall {
    span: Span,
    open: bool,
}

impl QueryCall {
    /// Its span, to run inside of.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// How many rows came back.
    pub fn returned_rows(&self, rows: usize) {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.span.record("db.response.returned_rows", rows);
    }

    /// It ended well.
    pub fn succeed(mut self) {
        self.open = false;
    }

    /// It failed, with an error of this low-cardinality class.
    pub fn fail(mut self, class: &str) {
        self.open = false;
        self.span.record("error.type", class);
        self.span.record("otel.status_code", "ERROR");
    }

    /// It failed, with this code of the database.
    pub fn fail_with_code(self, code: &str) {
        self.span.record("db.response.status_code", code);
        self.fail(code);
    }
}

impl Drop for QueryCall {
    fn drop(&mut self) {
        if self.open {
            self.span.record("spanweave.outcome", "cancelled");
        }
    }
}

fn without_generics(name: &str) -> &str {
    name.split_once('<').map_or(name, |(name, _)| name)
}

/// A command of a key-value store, with `?` for its arguments after the key.
pub(super) fn command(text: &str) -> Cow<'_, str> {
    let mut words = text.split_ascii_whitespace();
    let (operation, key, others) = (words.next(), words.next(), words.count());
    if others == 0 {
        return Cow::Borrowed(text);
    }
    let mut shown = [operation, key].into_iter().flatten().collect::<Vec<_>>().join(" ");
    shown.push_str(&" ?".repeat(others.min(MAX_ARGUMENTS)));
    Cow::Owned(shown)
}

/// Arguments that are shown as such.
const MAX_ARGUMENTS: usize = 64;
