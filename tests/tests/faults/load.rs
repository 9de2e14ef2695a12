//! Much at once, and what others must not notice.

use std::time::Duration;

use spanweave::Backend;
use spanweave_testkit::TcpProxy;

use crate::support::{T, assert_all, collector, eager, line, long, make, now, telemetry, wait};

#[test]
fn a_burst_from_many_threads_is_accounted_for_to_the_span() {
    let folder = tempfile::tempdir().unwrap();
    let (durable, memory) = (collector(), collector());
    let (telemetry, dispatch) = telemetry([
        Backend::otlp_http(durable.http_endpoint()).named("durable").durable(folder.path()),
        Backend::otlp_http(memory.http_endpoint()).named("memory").queue_bytes(1 << 20),
    ]);
    let made = if long() { 1_000_000 } else { 80_000 };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| make(&dispatch, made / 8));
        }
    });
    let report = telemetry.shutdown(Duration::from_secs(120));
    assert_all(&line(&report, "durable"), &durable, made);
    let lossy = line(&report, "memory");
    assert_eq!(memory.unique_spans() as u64 + lossy.dropped_total(), made as u64, "{lossy:?}");
    assert_eq!(lossy.pending, 0);
}

/// The time from a span's end to its arrival, 99 of 100.
fn delivery_p99(others: &[&str]) -> Duration {
    let server = collector();
    let backends = others.iter().enumerate().map(|(number, endpoint)| {
        Backend::otlp_http(*endpoint)
            .named(format!("other-{number}"))
            .timeout(Duration::from_millis(500))
            .retry(eager())
    });
    let ours = Backend::otlp_http(server.http_endpoint()).named("ours");
    let (telemetry, dispatch) = telemetry(backends.chain([ours]));
    let mut times = Vec::new();
    for number in 1..=100 {
        make(&dispatch, 200);
        let start = now();
        wait("it arrives", T, || server.unique_spans() >= number * 200);
        times.push(start.elapsed());
    }
    telemetry.shutdown(Duration::ZERO);
    times.sort();
    times[98]
}

#[test]
fn a_backend_under_a_fault_leaves_the_delivery_to_the_others_as_it_was() {
    let silent = TcpProxy::to("http://127.0.0.1:9");
    silent.blackhole(true);
    let without = delivery_p99(&[]);
    let with = delivery_p99(&[&silent.endpoint(), "http://127.0.0.1:9"]);
    // 1.1 times is what is aimed at; a test on a shared machine allows for its neighbours.
    let limit = without.mul_f64(2.0) + Duration::from_millis(50);
    assert!(with < limit, "{with:?} instead of {without:?}");
}

#[test]
fn memory_is_bounded_while_a_backend_is_down() {
    let (telemetry, dispatch) = telemetry([Backend::otlp_http("http://127.0.0.1:9").named("a")]);
    make(&dispatch, 1000);
    telemetry.flush(Duration::from_millis(200));
    let held = || telemetry.flush(Duration::ZERO).backends[0].pending;
    // More than its 32 MiB.
    let wide = "x".repeat(10_000);
    tracing::dispatcher::with_default(&dispatch, || {
        for number in 0..8000 {
            tracing::info_span!("wide", number, text = wide.as_str()).in_scope(|| ());
        }
    });
    wait("its queue is full", T, || {
        telemetry.flush(Duration::from_millis(50)).backends[0].dropped_total() > 0
    });
    assert!(held() < 5000, "{} spans of 10,000 bytes are held", held());
    let report = line(&telemetry.shutdown(Duration::from_millis(100)), "a");
    assert_eq!(report.dropped_total(), 9000);
}
