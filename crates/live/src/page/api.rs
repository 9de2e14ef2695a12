//! The JSON next to the page. Times and durations are integers of nanoseconds; a reader whose numbers are
//! doubles loses less than a microsecond of the absolute ones.

use serde_json::{Value, json};

use crate::analysis::{
    Trace, critical_path, error_traces, operations as operation_stats, repeated_calls, self_times,
    service_edges, spans_by_service,
};
use crate::store::StoreCounts;

/// The most recent first.
pub(super) fn traces(traces: &[Trace], counts: StoreCounts) -> Value {
    let summaries: Vec<_> = traces.iter().rev().map(Trace::summary).collect();
    json!({ "traces": summaries, "counts": counts })
}

/// Spans by start, each with its self time.
pub(super) fn trace(trace: &Trace) -> Value {
    let spans: Vec<_> = trace
        .spans()
        .iter()
        .zip(self_times(trace))
        .map(|(span, self_ns)| {
            let mut value = json!(span);
            if let Value::Object(fields) = &mut value {
                fields.insert("duration_ns".to_owned(), span.duration_ns().into());
                fields.insert("self_ns".to_owned(), self_ns.into());
            }
            value
        })
        .collect();
    json!({
        "summary": trace.summary(),
        "critical_path": critical_path(trace),
        "spans": spans,
    })
}

pub(super) fn operations(traces: &[Trace]) -> Value {
    json!({
        "operations": operation_stats(traces),
        "repeated_calls": repeated_calls(traces),
        "error_traces": error_traces(traces),
    })
}

pub(super) fn services(traces: &[Trace]) -> Value {
    json!({
        "services": spans_by_service(traces),
        "edges": service_edges(traces),
    })
}
