//! A backend that fails, in whatever way, is that backend's own affair.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use spanweave::{Backend, BackendReport, BatchConfig, DropReason, ShutdownReport, Telemetry};
use spanweave_testkit::{SpanIds, TcpProxy, TestCollector, full_backlog_listener};
use spanweave_tests::{shared, timed};
use tracing_subscriber::layer::SubscriberExt;

const SPANS: usize = 10_000;
/// The deadline of each shutdown here.
const DEADLINE: Duration = Duration::from_secs(5);
/// What a shutdown may take beyond its deadline, on a machine that runs other tests as well.
const SLACK: Duration = Duration::from_secs(2);

/// Telemetry with these backends and small batches, and the spans made under it.
fn traced(backends: impl IntoIterator<Item = Backend>, spans: usize) -> Telemetry {
    let builder = spanweave::builder()
        .service_name("orders")
        .batch(BatchConfig { delay: Duration::from_millis(50), max_spans: 256 });
    let builder = backends.into_iter().fold(builder, |builder, backend| builder.export_to(backend));
    let (layer, telemetry) = builder.build().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        for number in 0..spans {
            tracing::info_span!("work", number).in_scope(|| ());
        }
    });
    telemetry
}

#[track_caller]
fn backend<'a>(report: &'a ShutdownReport, name: &str) -> &'a BackendReport {
    let backend = report.backends.iter().find(|backend| backend.name == name);
    backend.unwrap_or_else(|| panic!("no {name} in {report:?}"))
}

/// Every span is accounted for, at every backend, and this one has all of them.
#[track_caller]
fn assert_unharmed(report: &ShutdownReport, name: &str, collector: &TestCollector) {
    for backend in &report.backends {
        assert_eq!(backend.ended, SPANS as u64, "{backend:?}");
        assert!(backend.is_balanced(), "{backend:?}");
        assert_eq!(backend.pending, 0, "{backend:?}");
    }
    assert_eq!(backend(report, name).delivered, SPANS as u64, "{report:?}");
    let ids: SpanIds = collector.store().spans().iter().map(|span| (**span).clone()).collect();
    assert_eq!(ids.unique(), SPANS);
    assert_eq!(collector.store().counts().duplicates, 0);
}

#[track_caller]
fn assert_all_dropped(report: &ShutdownReport, name: &str) {
    let backend = backend(report, name);
    assert_eq!((backend.delivered, backend.dropped_total()), (0, SPANS as u64), "{backend:?}");
}

/// Never gets ready.
#[derive(Debug)]
struct Hanging;

impl SpanExporter for Hanging {
    async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
        std::future::pending().await
    }
}

/// Does not even return.
#[derive(Debug)]
struct Blocking;

impl SpanExporter for Blocking {
    async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
        loop {
            std::thread::park();
        }
    }
}

/// Panics at each call.
#[derive(Debug)]
struct Panicking;

impl SpanExporter for Panicking {
    async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
        panic!("an exporter that panics")
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        panic!("also at its end")
    }
}

/// Says at each call that it failed.
#[derive(Debug)]
struct Failing;

impl SpanExporter for Failing {
    async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
        Err(OTelSdkError::InternalFailure("no".to_owned()))
    }
}

/// Panics at the first call only.
#[derive(Debug, Default)]
struct PanickingOnce {
    calls: AtomicUsize,
    got: Arc<AtomicUsize>,
}

impl SpanExporter for PanickingOnce {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        assert!(self.calls.fetch_add(1, Ordering::Relaxed) > 0, "the first call");
        self.got.fetch_add(batch.len(), Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn foreign_exporters_that_fail_harm_nobody_else() {
    let _machine = shared();
    let collector = TestCollector::start();
    let telemetry = traced(
        [
            Backend::exporter(Hanging).named("hanging").timeout(Duration::from_millis(200)),
            Backend::exporter(Blocking).named("blocking"),
            Backend::exporter(Panicking).named("panicking"),
            Backend::exporter(Failing).named("failing"),
            Backend::otlp_grpc(collector.grpc_endpoint()).named("healthy"),
        ],
        SPANS,
    );
    // Before any shutdown, the healthy one has all.
    collector.wait_for_spans(SPANS);
    let (report, took) = timed(|| telemetry.shutdown(DEADLINE));
    assert!(took < DEADLINE + SLACK, "{took:?}");
    assert_unharmed(&report, "healthy", &collector);
    for name in ["hanging", "blocking", "panicking", "failing"] {
        assert_all_dropped(&report, name);
    }
    let panicked = &backend(&report, "panicking").dropped;
    assert_eq!(panicked, &[(DropReason::Panicked, SPANS as u64)]);
    assert!(report.timed_out, "the one that does not return");
}

#[test]
fn dead_and_hanging_servers_harm_nobody_else() {
    let _machine = shared();
    let (healthy, cut_off) = (TestCollector::start(), TestCollector::start());
    let silent = TcpProxy::to(&cut_off.http_endpoint());
    silent.blackhole(true);
    let backlog = full_backlog_listener();
    let telemetry = traced(
        [
            Backend::otlp_http("http://127.0.0.1:9").named("refusing"),
            Backend::otlp_grpc(backlog.endpoint()).named("not accepting"),
            Backend::otlp_http(silent.endpoint()).named("silent"),
            Backend::otlp_http(healthy.http_endpoint()).named("healthy"),
        ],
        SPANS,
    );
    healthy.wait_for_spans(SPANS);
    let (report, took) = timed(|| telemetry.shutdown(DEADLINE));
    assert!(took < DEADLINE + SLACK, "{took:?}");
    assert_unharmed(&report, "healthy", &healthy);
    for name in ["refusing", "not accepting", "silent"] {
        assert_all_dropped(&report, name);
        let backend = backend(&report, name);
        assert!(backend.last_error.is_some() || backend.down_since.is_none(), "{backend:?}");
    }
    assert_eq!(cut_off.unique_spans(), 0);
}

#[test]
fn an_exporter_that_panics_once_loses_one_batch_and_goes_on() {
    let _machine = shared();
    let collector = TestCollector::start();
    let exporter = PanickingOnce::default();
    let got = Arc::clone(&exporter.got);
    let telemetry = traced(
        [
            Backend::exporter(exporter).named("once"),
            Backend::otlp_http(collector.http_endpoint()).named("healthy"),
        ],
        SPANS,
    );
    let report = telemetry.shutdown(DEADLINE);
    assert_unharmed(&report, "healthy", &collector);
    let once = backend(&report, "once");
    let [(DropReason::Panicked, lost)] = once.dropped.as_slice() else { panic!("{once:?}") };
    assert!((1..=256).contains(lost), "{once:?}");
    assert_eq!(once.delivered, got.load(Ordering::Relaxed) as u64);
}

#[test]
fn a_server_that_was_away_gets_everything_when_it_is_back() {
    let _machine = shared();
    let collector = TestCollector::start();
    let proxy = TcpProxy::to(&collector.http_endpoint());
    proxy.down();
    let telemetry = traced([Backend::otlp_http(proxy.endpoint()).named("away")], SPANS);
    let report = telemetry.flush(Duration::from_millis(300));
    assert!(report.timed_out && report.backends[0].is_balanced(), "{report:?}");
    assert_eq!(report.backends[0].pending, SPANS as u64);
    assert!(report.backends[0].down_since.is_some() && report.backends[0].last_error.is_some());
    proxy.up();
    let report = telemetry.shutdown(Duration::from_secs(20));
    assert_unharmed(&report, "away", &collector);
    assert!(report.is_complete(), "{report:?}");
}
