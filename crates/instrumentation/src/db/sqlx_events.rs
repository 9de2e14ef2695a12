//! Spans out of the query events of sqlx.
//!
//! sqlx 0.9 emits an event with target `sqlx::query` when a statement is over (from a `Drop`), in
//! the span of the caller, also on SQLite's worker thread. Its fields:
//!
//! | field | meaning |
//! |---|---|
//! | `db.statement` | `"\n\n{text}\n"`; empty where `summary` is the whole text |
//! | `summary` | the first four words of the text |
//! | `rows_affected`, `rows_returned` | integers |
//! | `elapsed_secs` | a float; includes the caller's time between the rows |
//!
//! Nothing in it tells of an error, an SQLSTATE, the driver or the server, and BEGIN and COMMIT
//! have none.

use std::borrow::Cow;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status};
use spanweave_core::span::{AttributeValue, Attributes};
use spanweave_core::{CompletedSpan, EventSpans, EventVerdict};
use tracing_core::Metadata;

use super::query::Query;

const TARGET: &str = "sqlx::query";

/// The beginning of the names of sqlx's SQLite threads.
const SQLITE_THREAD: &str = "sqlx-sqlite-worker";

const OTHER_SYSTEM: &str = "other_sql";

/// Makes a client span of every query event of sqlx: an application that uses sqlx needs no
/// change.
///
/// The span has the name of its summary, the kind client, no status (the event tells of no error)
/// and the attributes `db.system.name`, `db.query.text`, `db.query.summary`,
/// `db.operation.name`, `db.collection.name` (where it is one), `db.response.returned_rows` and
/// `spanweave.db.rows_affected`. Errors, the server and transactions are told by the pool of
/// feature `sqlx-pool`, which silences these events.
///
/// The events are of level `DEBUG` (`WARN` for slow ones): a filter must let them through
/// (`sqlx::query=debug`).
#[derive(Clone, Debug, Default)]
pub struct SqlxQueries {
    system: Option<Cow<'static, str>>,
}

impl SqlxQueries {
    /// Without a system: `sqlite` where sqlx's worker thread tells, else `other_sql`.
    pub fn new() -> Self {
        Self::default()
    }

    /// The `db.system.name` of the application's database: `postgresql`, `mysql`, `mariadb`,
    /// `sqlite`. Statements on SQLite's worker threads stay `sqlite`.
    #[must_use]
    pub fn system(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.system = Some(name.into());
        self
    }

    fn system_of(&self, thread_name: Option<&str>) -> Cow<'static, str> {
        match (thread_name, &self.system) {
            (Some(name), _) if name.starts_with(SQLITE_THREAD) => Cow::Borrowed("sqlite"),
            (_, Some(system)) => system.clone(),
            (_, None) => Cow::Borrowed(OTHER_SYSTEM),
        }
    }
}

impl EventSpans for SqlxQueries {
    fn claims(&self, metadata: &'static Metadata<'static>) -> bool {
        metadata.is_event() && metadata.target() == TARGET
    }

    fn span_of(&self, event: &Attributes, thread_name: Option<&str>) -> EventVerdict {
        match span_of(event, self.system_of(thread_name)) {
            Some(span) => EventVerdict::Span(span),
            None => EventVerdict::Event,
        }
    }
}

/// The span of an event; `None` for one that is none of the query events described above.
fn span_of(event: &Attributes, system: Cow<'static, str>) -> Option<CompletedSpan> {
    let text = text_of(event)?;
    let Some(AttributeValue::F64(seconds)) = event.get("elapsed_secs") else {
        return None;
    };
    let duration = Duration::try_from_secs_f64(seconds).ok()?;
    let query = Query::describe(text, &system);
    let rows = |key| event.get(key).and_then(|value| value.as_i64());
    let name = query.name(&system).to_owned();
    let attributes = [
        Some(KeyValue::new("db.system.name", system)),
        Some(KeyValue::new("db.query.text", query.text.into_owned())),
        query.summary.operation().map(|name| KeyValue::new("db.operation.name", name.to_owned())),
        query.summary.collection().map(|name| KeyValue::new("db.collection.name", name.to_owned())),
        Some(query.summary.text().to_owned())
            .filter(|summary| !summary.is_empty())
            .map(|summary| KeyValue::new("db.query.summary", summary)),
        rows("rows_returned").map(|rows| KeyValue::new("db.response.returned_rows", rows)),
        rows("rows_affected").map(|rows| KeyValue::new("spanweave.db.rows_affected", rows)),
    ];
    Some(CompletedSpan {
        name: Cow::Owned(name),
        kind: SpanKind::Client,
        duration,
        attributes: attributes.into_iter().flatten().collect(),
        status: Status::Unset,
    })
}

fn text_of(event: &Attributes) -> Option<&str> {
    let text = |key| match event.get(key) {
        Some(AttributeValue::Str(text)) => Some(text),
        _ => None,
    };
    let statement = text("db.statement").unwrap_or_default();
    if statement.is_empty() {
        return text("summary");
    }
    let statement = statement.strip_prefix("\n\n").unwrap_or(statement);
    Some(statement.strip_suffix('\n').unwrap_or(statement))
}

#[cfg(test)]
mod tests {
    use opentelemetry::Value;

    use super::*;

    fn event(fields: &[(&'static str, Value)]) -> Attributes {
        let mut event = Attributes::default();
        for (key, value) in fields {
            event.set(&(*key).into(), value.clone(), 128);
        }
        event
    }

    fn attribute(span: &CompletedSpan, key: &str) -> Option<Value> {
        let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
        found.map(|attribute| attribute.value.clone())
    }

    #[test]
    fn a_query_event_becomes_a_client_span() {
        let event = event(&[
            ("summary", "SELECT name FROM users …".into()),
            ("db.statement", "\n\nSELECT name FROM users WHERE id = ?\n".into()),
            ("rows_affected", 0.into()),
            ("rows_returned", 3.into()),
            ("elapsed_secs", 0.25.into()),
        ]);
        let verdict = SqlxQueries::new().span_of(&event, Some("sqlx-sqlite-worker-0"));
        let EventVerdict::Span(span) = verdict else {
            panic!("no span: {verdict:?}");
        };
        assert_eq!(span.name, "SELECT users");
        assert_eq!(span.kind, SpanKind::Client);
        assert_eq!(span.status, Status::Unset);
        assert_eq!(span.duration, Duration::from_millis(250));
        let expected: [(&str, Value); 7] = [
            ("db.system.name", "sqlite".into()),
            ("db.query.text", "SELECT name FROM users WHERE id = ?".into()),
            ("db.query.summary", "SELECT users".into()),
            ("db.operation.name", "SELECT".into()),
            ("db.collection.name", "users".into()),
            ("db.response.returned_rows", Value::I64(3)),
            ("spanweave.db.rows_affected", Value::I64(0)),
        ];
        assert_eq!(span.attributes.len(), expected.len());
        for (key, value) in expected {
            assert_eq!(attribute(&span, key), Some(value), "{key}");
        }
    }

    #[test]
    fn a_short_text_stands_in_the_summary() {
        let event = event(&[
            ("summary", "DELETE FROM t".into()),
            ("db.statement", "".into()),
            ("elapsed_secs", 0.0.into()),
        ]);
        let span = span_of(&event, "postgresql".into()).unwrap();
        assert_eq!(attribute(&span, "db.query.text"), Some("DELETE FROM t".into()));
    }

    #[test]
    fn what_is_no_query_event_stays_an_event() {
        for fields in [
            vec![("summary", Value::from("SELECT 1"))],
            vec![("elapsed_secs", 0.5.into())],
            vec![("summary", "SELECT 1".into()), ("elapsed_secs", (-1.0).into())],
            vec![("summary", "SELECT 1".into()), ("elapsed_secs", f64::NAN.into())],
        ] {
            let verdict = SqlxQueries::new().span_of(&event(&fields), None);
            assert!(matches!(verdict, EventVerdict::Event), "{fields:?}");
        }
    }

    #[test]
    fn the_system_is_the_threads_then_the_applications_then_unknown() {
        let queries = SqlxQueries::new();
        assert_eq!(queries.system_of(Some("sqlx-sqlite-worker-7")), "sqlite");
        assert_eq!(queries.system_of(Some("tokio-rt-worker")), "other_sql");
        let queries = queries.system("postgresql");
        assert_eq!(queries.system_of(None), "postgresql");
        assert_eq!(queries.system_of(Some("sqlx-sqlite-worker-7")), "sqlite");
    }
}
