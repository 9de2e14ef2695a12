//! Traces for the tests of everything that reads traces.

use std::sync::Arc;

use super::{
    Trace, critical_path, error_traces, operations, render_trace, repeated_calls, service_edges,
};
use crate::model::sample::{span, trace_id};
use crate::model::{Event, SpanKind, StoredSpan, Value};

/// Traces 1 to 3: one with an error, a slow one, a fast one.
pub(crate) fn sample_traces() -> Vec<Trace> {
    Trace::group(
        [
            span(1, 0, 0, 10).failed("no"),
            span(1, 0, 0, 20).in_trace(2),
            span(1, 0, 0, 5).in_trace(3),
        ]
        .map(Arc::new),
    )
}

/// Every pair of start and end out of the extremes of 64 bits, as chains, circles and siblings, with
/// names and values that are markup and terminal sequences.
pub(crate) fn hostile_traces() -> Vec<Vec<Trace>> {
    const TIMES: [u64; 5] = [0, 1, 1 << 63, u64::MAX - 1, u64::MAX];
    let parents: [fn(u64) -> u64; 4] = [|id| id - 1, |id| id % 9 + 1, |_| 1, |_| 0];
    let mut all = Vec::new();
    for parent in parents {
        let mut spans: Vec<StoredSpan> = Vec::new();
        for (n, start) in TIMES.into_iter().enumerate() {
            for (m, end) in TIMES.into_iter().enumerate() {
                let id = (n * TIMES.len() + m + 1) as u64;
                let kind = [SpanKind::Client, SpanKind::Server][m % 2];
                let mut span = span(id, parent(id), 0, 0)
                    .of(["<evil>", "b"][n % 2], "<evil>\u{1b}[2J\n", kind)
                    .failed("<evil>")
                    .with("server.address", "<evil>");
                span.trace_id = trace_id(1);
                (span.start_ns, span.end_ns) = (start, end);
                span.events.push(Event {
                    name: "<evil>".to_owned(),
                    time_ns: TIMES[(n + m) % TIMES.len()],
                    attributes: vec![("<evil>".to_owned(), Value::Double(f64::NAN))],
                });
                span.attributes.push(("<evil>".to_owned(), Value::Empty));
                spans.push(span);
            }
        }
        all.push(Trace::group(spans.into_iter().map(Arc::new)));
    }
    all
}

#[test]
fn no_time_and_no_shape_breaks_the_analysis() {
    for traces in hostile_traces() {
        for trace in &traces {
            let path = critical_path(trace);
            let total: u64 = path.segments.iter().map(|segment| segment.duration_ns).sum();
            assert_eq!(total, path.duration_ns);
            let text = render_trace(trace, 80);
            assert!(!text.contains('\u{1b}'));
            assert_eq!(text.lines().count(), 2 + trace.len());
        }
        assert!(!operations(&traces).is_empty());
        assert_eq!(error_traces(&traces).len(), traces.len());
        assert!(service_edges(&traces).iter().all(|edge| edge.calls > 0));
        assert!(repeated_calls(&traces).iter().all(|calls| calls.count >= 5));
    }
}
