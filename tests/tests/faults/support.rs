//! Telemetry under a fault, and backends that count.

use std::time::{Duration, Instant};

use spanweave::{
    Backend, BackendReport, BatchConfig, Queue, RetryPolicy, ShutdownReport, Telemetry,
};
use spanweave_testkit::{CollectorConfig, StoreLimits, TestCollector};
use tracing_subscriber::layer::SubscriberExt;

/// The deadline of shutdowns, T.
pub(crate) const T: Duration = Duration::from_secs(5);

/// How long the tests are.
pub(crate) fn long() -> bool {
    std::env::var_os("SPANWEAVE_LONG").is_some()
}

/// Spans that a fault meets.
pub(crate) fn spans() -> usize {
    if long() { 100_000 } else { 20_000 }
}

/// A collector that counts many spans.
pub(crate) fn collector() -> TestCollector {
    TestCollector::start_with(limits(CollectorConfig::default()))
}

/// Room for many spans.
pub(crate) fn limits(config: CollectorConfig) -> CollectorConfig {
    config.limits(StoreLimits { spans: 4_000_000, bytes: 8 << 30 })
}

/// Telemetry with these backends and small batches.
pub(crate) fn telemetry(
    backends: impl IntoIterator<Item = Backend>,
) -> (Telemetry, tracing::Dispatch) {
    let builder = spanweave::builder()
        .service_name("faults")
        .queue(Queue { spans: 1_000_000, bytes: 1 << 30, ..Queue::default() })
        .batch(BatchConfig { delay: Duration::from_millis(20), max_spans: 256 });
    let builder = backends.into_iter().fold(builder, spanweave::Builder::export_to);
    let (layer, telemetry) = builder.build().unwrap();
    (telemetry, tracing::Dispatch::new(tracing_subscriber::registry().with(layer)))
}

/// Makes spans under the telemetry.
pub(crate) fn make(dispatch: &tracing::Dispatch, spans: usize) {
    tracing::dispatcher::with_default(dispatch, || {
        for number in 0..spans {
            tracing::info_span!("work", number).in_scope(|| ());
        }
    });
}

/// Retries so often that a test need not wait.
pub(crate) fn eager() -> RetryPolicy {
    RetryPolicy::default()
        .initial_delay(Duration::from_millis(20))
        .max_delay(Duration::from_millis(100))
        .give_up_after(None)
}

/// A backend's line of a report, which has to add up.
#[track_caller]
pub(crate) fn line(report: &ShutdownReport, name: &str) -> BackendReport {
    let found = report.backends.iter().find(|backend| backend.name == name);
    let backend = found.unwrap_or_else(|| panic!("no {name} in {report:?}"));
    assert!(backend.is_balanced(), "{backend:?}");
    backend.clone()
}

/// Everything arrived, at least once.
#[track_caller]
pub(crate) fn assert_all(report: &BackendReport, collector: &TestCollector, spans: usize) {
    assert_eq!(report.dropped_total(), 0, "{report:?}");
    assert_eq!(collector.unique_spans(), spans, "{report:?}");
}

/// Real time, which is what is tested here.
#[allow(clippy::disallowed_methods, reason = "real time is what is tested")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits for a condition, up to `patience`.
#[track_caller]
pub(crate) fn wait(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    let end = now() + patience;
    while !condition() {
        assert!(now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
