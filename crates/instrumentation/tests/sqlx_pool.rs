//! The pool wrapper over a real SQLite file.
#![cfg(feature = "sqlx-pool")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Seen, Spans, int, text};
use opentelemetry::Value;
use opentelemetry::trace::SpanKind;
use spanweave_core::StatusCode;
use spanweave_instrumentation::db::SqlxQueries;
use spanweave_instrumentation::db::pool::TracedPool;
use sqlx::Row;
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{Sqlite, SqliteConnectOptions};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

async fn pool(folder: &std::path::Path) -> TracedPool<Sqlite> {
    let options =
        SqliteConnectOptions::new().filename(folder.join("shop.db")).create_if_missing(true);
    let one = PoolOptions::new().max_connections(1).acquire_timeout(Duration::from_millis(300));
    TracedPool::connect_with(one, options).await.unwrap()
}

fn named<'a>(seen: &'a [Seen], name: &str) -> &'a Seen {
    let found: Vec<_> = seen.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "exactly one {name}: {seen:#?}");
    found[0]
}

// One test: query events would come from a thread of SQLite, which sees the global subscriber
// only, and the test is that there are none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_one_span_with_its_outcome() {
    let (layer, spans) = Spans::start(|config| {
        config.event_spans.push(Arc::new(SqlxQueries::new()));
    });
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pool = pool(folder.path()).await;

    // The futures can be spawned.
    let work = {
        let pool = pool.clone();
        async move {
            let create = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE)";
            pool.execute(sqlx::query(create)).await.unwrap();
            let insert = sqlx::query("INSERT INTO users (name) VALUES (?1)").bind("ada");
            assert_eq!(pool.execute(insert).await.unwrap().rows_affected(), 1);
            let all = pool.fetch_all("SELECT name FROM users").await.unwrap();
            assert_eq!(all[0].get::<String, _>(0), "ada");
            let none = sqlx::query_as::<_, (i64,)>("SELECT id FROM users WHERE name = ?").bind("x");
            assert!(matches!(pool.fetch_one_as(none).await, Err(sqlx::Error::RowNotFound)));
        }
        .instrument(tracing::info_span!("request"))
    };
    tokio::spawn(work).await.unwrap();
    let seen = spans.wait(5).await;
    let request = named(&seen, "request");
    for span in seen.iter().filter(|span| span.name != "request") {
        assert_eq!(span.kind, SpanKind::Client);
        assert_eq!(span.parent, Some(request.span_id));
        assert_eq!(span.status, StatusCode::Unset, "no row is no error: {span:?}");
        span.has("db.system.name", text("sqlite")).has("spanweave.outcome", None);
        let waited = span.get("db.client.connection.wait_time_ms");
        assert!(matches!(waited, Some(Value::F64(0.0..))), "{span:?}");
    }
    named(&seen, "INSERT users")
        .has("db.query.text", text("INSERT INTO users (name) VALUES (?1)"))
        .has("db.query.summary", text("INSERT users"))
        .has("db.operation.name", text("INSERT"))
        .has("db.collection.name", text("users"));
    assert!(seen.iter().any(|span| span.get("db.response.returned_rows") == Some(&int(1))));
    assert!(seen.iter().any(|span| span.get("db.response.returned_rows") == Some(&int(0))));

    // Errors. 2067 is SQLITE_CONSTRAINT_UNIQUE.
    let again = sqlx::query("INSERT INTO users (name) VALUES (?)").bind("ada");
    assert!(pool.execute(again).await.unwrap_err().as_database_error().is_some());
    let seen = spans.wait(6).await;
    let failed = &seen[5];
    assert_eq!((failed.status, failed.status_message.as_str()), (StatusCode::Error, ""));
    failed.has("db.response.status_code", text("2067")).has("error.type", text("2067"));

    // Transactions, and a pool without a free connection meanwhile.
    let mut transaction = pool.begin().await.unwrap();
    transaction.execute("DELETE FROM users").await.unwrap();
    let busy = pool.fetch_optional("SELECT 1").await;
    assert!(matches!(busy, Err(sqlx::Error::PoolTimedOut)));
    transaction.rollback().await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let kept: Vec<(String,)> =
        transaction.fetch_all_as(sqlx::query_as("SELECT name FROM users")).await.unwrap();
    assert_eq!(kept, [("ada".to_owned(),)]);
    transaction.commit().await.unwrap();
    let seen = spans.wait(13).await.split_off(6);
    let names: Vec<_> = seen.iter().map(|span| span.name.as_str()).collect();
    let expected =
        ["BEGIN", "DELETE users", "SELECT", "ROLLBACK", "BEGIN", "SELECT users", "COMMIT"];
    assert_eq!(names, expected);
    let busy = named(&seen, "SELECT");
    assert_eq!(busy.status, StatusCode::Error);
    busy.has("error.type", text("pool_timed_out")).has("db.response.status_code", None);
    assert!(matches!(busy.get("db.client.connection.wait_time_ms"), Some(Value::F64(300.0..))));

    // A call that is given up.
    let transaction = pool.begin().await.unwrap();
    let given_up = pool.execute("SELECT 1");
    assert!(tokio::time::timeout(Duration::from_millis(30), given_up).await.is_err());
    transaction.commit().await.unwrap();
    let seen = spans.wait(16).await.split_off(13);
    let given_up = named(&seen, "SELECT");
    assert_eq!(given_up.status, StatusCode::Unset);
    given_up.has("spanweave.outcome", text("cancelled"));

    // The same, where sqlx takes an executor.
    #[cfg(feature = "sqlx-executor")]
    {
        let name: String =
            sqlx::query_scalar("SELECT name FROM users").fetch_one(&pool).await.unwrap();
        assert_eq!(name, "ada");
        let mut transaction = pool.begin().await.unwrap();
        let two = "INSERT INTO users (name) VALUES ('b'), ('c')";
        let inserted = sqlx::query(two).execute(transaction.executor()).await.unwrap();
        assert_eq!(inserted.rows_affected(), 2);
        let all: Vec<(String,)> = sqlx::query_as("SELECT name FROM users ORDER BY name")
            .fetch_all(transaction.executor())
            .await
            .unwrap();
        assert_eq!(all.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["ada", "b", "c"]);
        assert!(sqlx::query("SELECT nothing").execute(transaction.executor()).await.is_err());
        transaction.commit().await.unwrap();
        let seen = spans.wait(22).await.split_off(16);
        let names: Vec<_> = seen.iter().map(|span| span.name.as_str()).collect();
        let expected =
            ["SELECT users", "BEGIN", "INSERT users", "SELECT users", "SELECT", "COMMIT"];
        assert_eq!(names, expected);
        seen[0].has("db.response.returned_rows", int(1));
        seen[2].has("db.query.text", text("INSERT INTO users (name) VALUES (?), (?)"));
        seen[3].has("db.response.returned_rows", int(3)).has("spanweave.outcome", None);
        assert_eq!(seen[4].status, StatusCode::Error);
        // 1 is SQLITE_ERROR.
        seen[4].has("error.type", text("1"));
    }
    pool.close().await;
}

/// Every driver has what the wrapper asks for; that this compiles is the test.
#[tokio::test]
async fn a_mysql_pool_is_wrapped_like_any() {
    use sqlx::mysql::{MySql, MySqlConnectOptions};

    let (spans, _guard) = Spans::on_this_thread();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = MySqlConnectOptions::new().host("127.0.0.1").port(nobody.port()).database("shop");
    let one = PoolOptions::<MySql>::new().acquire_timeout(Duration::from_secs(1));
    let pool = TracedPool::connect_lazy_with(one, options).system("mariadb");
    let query = sqlx::query("SELECT `name` FROM `users` WHERE mail = \"ada\" AND id = 7");
    pool.fetch_all(query).await.unwrap_err();
    let span = spans.one().await;
    assert_eq!(span.status, StatusCode::Error);
    span.has("db.system.name", text("mariadb"))
        .has("db.namespace", text("shop"))
        .has("server.port", int(nobody.port().into()))
        .has("db.query.text", text("SELECT `name` FROM `users` WHERE mail = ? AND id = ?"));
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn a_pools_connections_are_metrics() {
    use opentelemetry::metrics::MeterProvider;
    use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
    use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

    let folder = tempfile::tempdir().unwrap();
    let pool = pool(folder.path()).await;
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder()
        .with_reader(PeriodicReader::builder(exporter.clone()).build())
        .build();
    pool.observe(&provider.meter("test"), "shop");
    let held = pool.inner().acquire().await.unwrap();
    provider.force_flush().unwrap();
    drop(held);

    let mut seen = Vec::new();
    for resource in exporter.get_finished_metrics().unwrap() {
        for metric in resource.scope_metrics().flat_map(|scope| scope.metrics()) {
            let AggregatedMetrics::I64(MetricData::Sum(sum)) = metric.data() else { continue };
            for point in sum.data_points() {
                let mut text: Vec<_> =
                    point.attributes().map(|attribute| attribute.value.to_string()).collect();
                text.sort();
                seen.push(format!("{} {} {}", metric.name(), text.join(" "), point.value()));
            }
        }
    }
    seen.sort();
    let expected = [
        "db.client.connection.count idle shop 0",
        "db.client.connection.count shop used 1",
        "db.client.connection.max shop 1",
    ];
    assert_eq!(seen, expected);
}
