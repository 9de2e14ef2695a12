//! Flush, shutdown and drop inside and outside of runtimes.

use std::time::Duration;

use spanweave::{Backend, Telemetry};
use spanweave_core::clock::instant;
use tracing_subscriber::layer::SubscriberExt;

/// Telemetry with one backend that is a file and one that refuses connections, and a span.
fn started(folder: &tempfile::TempDir, dead: bool) -> Telemetry {
    let mut builder =
        spanweave::builder().export_to(Backend::file(folder.path().join("spans.jsonl")));
    if dead {
        // Port 9 (discard) refuses.
        builder = builder.export_to(Backend::otlp_http("http://127.0.0.1:9"));
    }
    let (layer, telemetry) = builder.build().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || tracing::info_span!("work").in_scope(|| ()));
    telemetry
}

#[test]
fn a_drop_in_a_current_thread_runtime_does_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = instant();
    runtime.block_on(async {
        let telemetry = started(&folder, false);
        tokio::task::yield_now().await;
        drop(telemetry);
    });
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let text = std::fs::read_to_string(folder.path().join("spans.jsonl")).unwrap();
    assert!(text.contains("\"work\""), "{text}");
}

#[test]
fn a_drop_with_a_dead_backend_ends_within_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let telemetry = started(&folder, true);
    let start = instant();
    drop(telemetry);
    assert!(start.elapsed() < Duration::from_millis(6500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_async_flush_leaves_the_runtime_free() {
    let folder = tempfile::tempdir().unwrap();
    let telemetry = started(&folder, true);
    let mut ticks = 0;
    let deadline = Duration::from_millis(400);
    let report = {
        let mut flush = std::pin::pin!(telemetry.flush_async(deadline));
        loop {
            tokio::select! {
                report = &mut flush => break report,
                () = tokio::time::sleep(Duration::from_millis(10)) => ticks += 1,
            }
        }
    };
    assert!(ticks >= 5, "{ticks}");
    assert!(!report.is_complete() && report.backends.len() == 2, "{report:?}");
    assert_eq!(report.backends[0].delivered, 1);
    let report = telemetry.shutdown_async(Duration::from_millis(100)).await;
    assert!(report.backends.iter().all(|backend| backend.is_balanced()), "{report:?}");
    assert_eq!(report, telemetry.shutdown(Duration::from_secs(1)), "the same report again");
}

#[test]
fn a_flush_and_a_shutdown_deliver_and_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let telemetry = started(&folder, false);
    for _ in 0..2 {
        let report = telemetry.flush(Duration::from_secs(10));
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(report.backends[0].delivered, 1);
    }
    let first = telemetry.shutdown(Duration::from_secs(10));
    assert!(first.is_complete() && first == telemetry.shutdown(Duration::ZERO), "{first:?}");
}
