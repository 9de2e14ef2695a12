//! Query events of sqlx over a real SQLite file become spans.
#![cfg(feature = "sqlx")]

mod common;

use std::sync::Arc;

use common::{Spans, int, text};
use opentelemetry::trace::SpanKind;
use spanweave_core::StatusCode;
use spanweave_instrumentation::db::SqlxQueries;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

// One test: the worker thread of SQLite sees the global subscriber only.
#[tokio::test]
async fn the_statements_of_an_unchanged_application_become_client_spans() {
    let (layer, spans) = Spans::start(|config| {
        config.event_spans.push(Arc::new(SqlxQueries::new()));
    });
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options =
        SqliteConnectOptions::new().filename(folder.path().join("shop.db")).create_if_missing(true);
    // One connection: sqlx prepares each by statements of its own, in the span that needs it.
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    // Without a parent there is no span.
    sqlx::query("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
        .execute(&pool)
        .await
        .unwrap();
    async {
        let insert = "INSERT INTO users (name) VALUES (?), (?), ('Äda')";
        sqlx::query(insert).bind("secret").bind("b").execute(&pool).await.unwrap();
        let select = "SELECT name FROM users WHERE name = 'secret' OR id > 1";
        assert_eq!(sqlx::query(select).fetch_all(&pool).await.unwrap().len(), 3);
        sqlx::query("DELETE FROM users").execute(&pool).await.unwrap();
    }
    .instrument(tracing::info_span!("request"))
    .await;

    let seen = spans.wait(4).await;
    let request = seen.iter().find(|span| span.name == "request").unwrap();
    let find = |name: &str| {
        let span = seen.iter().find(|span| span.name == name).unwrap();
        assert_eq!(span.parent, Some(request.span_id), "{name}");
        assert_eq!((span.kind.clone(), span.status), (SpanKind::Client, StatusCode::Unset));
        assert!(span.duration <= request.duration, "{name}");
        span.has("db.system.name", text("sqlite")).has("db.collection.name", text("users"))
    };
    find("INSERT users")
        .has("db.query.text", text("INSERT INTO users (name) VALUES (?), (?), ('Äda')"))
        .has("db.operation.name", text("INSERT"))
        .has("db.query.summary", text("INSERT users"))
        .has("spanweave.db.rows_affected", int(3))
        .has("db.response.returned_rows", int(0));
    find("SELECT users")
        .has("db.query.text", text("SELECT name FROM users WHERE name = ? OR id > ?"))
        .has("db.response.returned_rows", int(3));
    find("DELETE users").has("db.query.text", text("DELETE FROM users"));
}
