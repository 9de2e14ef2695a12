//! Short-lived threads leave nothing behind. Alone in its process, because it measures memory.

use std::sync::Arc;
use std::thread;
use std::time::UNIX_EPOCH;

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use spanweave_core::SpanObserver;
use spanweave_core::span::observe_sdk_span;
use spanweave_metrics::{Format, Metrics, SpanMetrics};

fn span(name: &'static str) -> SpanData {
    SpanData {
        span_context: SpanContext::new(
            TraceId::from(1),
            SpanId::from(1),
            TraceFlags::SAMPLED,
            false,
            Default::default(),
        ),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: UNIX_EPOCH,
        end_time: UNIX_EPOCH,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::default(),
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_hundred_thousand_threads_leave_nothing_behind_but_their_counts() {
    const THREADS: u64 = 100_000;
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let metrics = SpanMetrics::new(Metrics::default(), "shop", Arc::default(), Arc::default());
    let run = |threads: u64| {
        for _ in 0..threads {
            let metrics = metrics.clone();
            thread::spawn(move || {
                for name in NAMES {
                    observe_sdk_span(span(name), |end| metrics.ended(end));
                }
            })
            .join()
            .unwrap();
        }
    };
    run(THREADS / 10);
    let before = resident_kib();
    run(THREADS - THREADS / 10);
    let after = resident_kib();
    assert!(after < before + 4_096, "from {before} to {after} KiB");
    let text = metrics.text(Format::Text);
    for name in NAMES {
        let expected = format!(
            "trace_span_total{{service=\"shop\",operation=\"{name}\",status=\"unset\"}} {THREADS}\n"
        );
        assert!(text.contains(&expected), "{text}");
    }
}
