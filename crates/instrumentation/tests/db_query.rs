//! The helper for any driver.
#![cfg(feature = "db")]

mod common;

use std::time::Duration;

use common::{Spans, int, text};
use opentelemetry::trace::SpanKind;
use spanweave_core::StatusCode;
use spanweave_instrumentation::db;

#[tokio::test]
async fn sql_of_any_driver_is_described_by_its_text() {
    let (spans, _guard) = Spans::on_this_thread();
    let rows: Result<u8, std::fmt::Error> =
        db::query("postgresql", "SELECT name FROM users WHERE mail = 'ada@example.org'")
            .server("db.example", 5432)
            .namespace("shop")
            .batch_size(2)
            .run(async {
                tracing::info_span!("inner").in_scope(|| ());
                Ok(3)
            })
            .await;
    assert_eq!(rows, Ok(3));
    let seen = spans.wait(2).await;
    let span = &seen[0];
    assert_eq!((span.name.as_str(), span.kind.clone()), ("SELECT users", SpanKind::Client));
    assert_eq!(span.status, StatusCode::Unset);
    span.has("db.system.name", text("postgresql"))
        .has("db.query.text", text("SELECT name FROM users WHERE mail = ?"))
        .has("db.query.summary", text("SELECT users"))
        .has("db.operation.name", text("SELECT"))
        .has("db.collection.name", text("users"))
        .has("db.operation.batch.size", int(2))
        .has("db.namespace", text("shop"))
        .has("server.address", text("db.example"))
        .has("server.port", int(5432))
        .has("error.type", None)
        .has("spanweave.outcome", None);
    assert_eq!(seen[1].parent, Some(span.span_id));
}

#[tokio::test]
async fn the_values_of_a_redis_command_are_not_shown() {
    let (spans, _guard) = Spans::on_this_thread();
    let call = db::query("redis", "SET session:7 hunter2 EX 60").start();
    call.returned_rows(1);
    call.succeed();
    db::query("redis", "PING").start().succeed();
    let seen = spans.wait(2).await;
    assert_eq!(seen[0].name, "SET");
    seen[0]
        .has("db.query.text", text("SET session:7 ? ? ?"))
        .has("db.operation.name", text("SET"))
        .has("db.response.returned_rows", int(1));
    seen[1].has("db.query.text", text("PING"));
}

#[tokio::test]
async fn failures_have_the_databases_code_or_their_type_and_no_message() {
    let (spans, _guard) = Spans::on_this_thread();
    let error = || std::io::Error::other("quotes 'hunter2'");
    let failed: Result<(), _> =
        db::query("mysql", "DELETE FROM t").run(async { Err(error()) }).await;
    failed.unwrap_err();
    let failed: Result<(), _> = db::query("mysql", "DELETE FROM t")
        .run_with_code(async { Err(error()) }, |_| Some("23505".to_owned()))
        .await;
    failed.unwrap_err();
    let pending = std::future::pending::<Result<(), std::io::Error>>();
    let call = db::query("mysql", "DELETE FROM t").run(pending);
    tokio::time::timeout(Duration::from_millis(10), call).await.unwrap_err();

    let seen = spans.wait(3).await;
    seen[0].has("error.type", text("std::io::error::Error")).has("db.response.status_code", None);
    seen[1].has("error.type", text("23505")).has("db.response.status_code", text("23505"));
    seen[2].has("error.type", None).has("spanweave.outcome", text("cancelled"));
    let statuses: Vec<_> = seen.iter().map(|span| span.status).collect();
    assert_eq!(statuses, [StatusCode::Error, StatusCode::Error, StatusCode::Unset]);
    assert!(seen.iter().all(|span| !format!("{span:?}").contains("hunter2")), "{seen:?}");
}
