use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::edges::is_outgoing;
use super::tree::Trace;
use crate::model::{SpanId, StoredSpan, TraceId};

/// From this many calls of one kind, one after the other under one parent, they are reported: fewer are
/// usual (a page reads a few rows by hand), more grow with the data.
const REPEATED_FROM: usize = 5;

/// A trace with an error in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorTrace {
    /// The trace.
    pub trace_id: TraceId,
    /// The service of its main root.
    pub service: String,
    /// The operation of its main root.
    pub operation: String,
    /// Whether the main root failed too, so that the caller saw it.
    pub root_failed: bool,
    /// Number of spans with status Error.
    pub errors: usize,
    /// The span where it began: the first that failed without a failed child.
    pub origin: SpanId,
    /// That span's service.
    pub origin_service: String,
    /// That span's operation.
    pub origin_operation: String,
    /// That span's `error.type` or exception type.
    pub error_type: Option<String>,
    /// That span's status description or exception message.
    pub message: Option<String>,
}

/// The traces with errors, in the order given.
#[must_use]
pub fn error_traces(traces: &[Trace]) -> Vec<ErrorTrace> {
    traces.iter().filter_map(error_trace).collect()
}

fn error_trace(trace: &Trace) -> Option<ErrorTrace> {
    let spans = trace.spans();
    // A server leaves its span unset when it answers 4xx, so the failed span that an error came
    // from may lie below spans that did not fail.
    let mut has_failed_below = vec![false; spans.len()];
    for (index, _) in spans.iter().enumerate().filter(|(_, span)| span.is_error()) {
        let mut above = trace.parent(index);
        while let Some(parent) = above.filter(|&parent| !has_failed_below[parent]) {
            has_failed_below[parent] = true;
            above = trace.parent(parent);
        }
    }
    let origin = spans
        .iter()
        .zip(&has_failed_below)
        .find_map(|(span, &below)| (span.is_error() && !below).then_some(span))?;
    let root = &spans[trace.main_root()];
    Some(ErrorTrace {
        trace_id: trace.id(),
        service: root.service.clone(),
        operation: root.name.clone(),
        root_failed: root.is_error(),
        errors: trace.errors(),
        origin: origin.span_id,
        origin_service: origin.service.clone(),
        origin_operation: origin.name.clone(),
        error_type: origin.error_type().map(str::to_owned),
        message: origin.error_message().map(str::to_owned),
    })
}

/// An N+1 pattern: the same call again and again under one parent, each after the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepeatedCalls {
    /// The trace.
    pub trace_id: TraceId,
    /// The parent.
    pub parent: SpanId,
    /// The parent's service.
    pub service: String,
    /// The parent's operation.
    pub operation: String,
    /// What is repeated: the query text or summary, or the name of the call with its target.
    pub call: String,
    /// How many of them follow one another without overlap.
    pub count: usize,
    /// The sum of their durations in nanoseconds.
    pub total_ns: u64,
}

/// The N+1 patterns of at least 5 calls, the costliest first.
///
/// Calls are CLIENT and PRODUCER spans and spans with a database statement. Calls that overlap ran at the
/// same time and are counted as one step.
#[must_use]
pub fn repeated_calls(traces: &[Trace]) -> Vec<RepeatedCalls> {
    let mut found: Vec<_> = traces.iter().flat_map(repeated_in).collect();
    found.sort_by_key(|calls| Reverse(calls.total_ns));
    found
}

fn repeated_in(trace: &Trace) -> Vec<RepeatedCalls> {
    let mut found = Vec::new();
    for (index, parent) in trace.spans().iter().enumerate() {
        if trace.children(index).len() < REPEATED_FROM {
            continue;
        }
        let mut calls: BTreeMap<String, Vec<&StoredSpan>> = BTreeMap::new();
        for &child in trace.children(index) {
            let child = &trace.spans()[child];
            if let Some(call) = call_of(child) {
                calls.entry(call).or_default().push(child);
            }
        }
        for (call, spans) in calls {
            let chain = longest_chain(spans);
            if chain.len() >= REPEATED_FROM {
                found.push(RepeatedCalls {
                    trace_id: trace.id(),
                    parent: parent.span_id,
                    service: parent.service.clone(),
                    operation: parent.name.clone(),
                    call,
                    count: chain.len(),
                    total_ns: chain
                        .iter()
                        .fold(0, |total, span| total.saturating_add(span.duration_ns())),
                });
            }
        }
    }
    found
}

/// Texts come parameterised or with their literals masked, so equal statements have equal texts.
fn call_of(span: &StoredSpan) -> Option<String> {
    let statement =
        ["db.query.text", "db.query.summary", "db.statement"].iter().find_map(|key| span.text(key));
    if let Some(statement) = statement {
        return Some(statement.to_owned());
    }
    is_outgoing(span).then(|| {
        ["service.peer.name", "server.address"]
            .iter()
            .find_map(|key| span.text(key))
            .map_or_else(|| span.name.clone(), |target| format!("{} {target}", span.name))
    })
}

/// The most spans that follow one another: always the next to finish of those that start after the last.
fn longest_chain(mut spans: Vec<&StoredSpan>) -> Vec<&StoredSpan> {
    spans.sort_by_key(|span| (span.end_ns, span.start_ns));
    let mut free = 0;
    spans.retain(|span| {
        let follows = span.start_ns >= free;
        if follows {
            free = span.end_ns;
        }
        follows
    });
    spans
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::trace;
    use super::*;
    use crate::model::SpanKind;
    use crate::model::sample::{MS, span, span_id, trace_id};

    #[test]
    fn an_error_is_traced_to_the_span_where_it_began() {
        let found = error_traces(&[
            trace([span(1, 0, 0, 9).in_trace(7)]),
            trace([
                span(1, 0, 0, 9).of("gateway", "GET /", SpanKind::Server).failed(""),
                span(2, 1, 1, 8).failed("upstream"),
                span(3, 2, 2, 7)
                    .of("orders", "insert", SpanKind::Client)
                    .failed("disk full")
                    .with("error.type", "sqlite::Full"),
            ]),
        ]);
        assert_eq!(found.len(), 1);
        let error = &found[0];
        assert_eq!(error.trace_id, trace_id(1));
        assert_eq!((error.origin, error.errors), (span_id(3), 3));
        assert!(error.root_failed);
        assert_eq!(error.error_type.as_deref(), Some("sqlite::Full"));
        assert_eq!(error.message.as_deref(), Some("disk full"));
    }

    fn queries(count: u64, step_ms: u64) -> Trace {
        trace(std::iter::once(span(1, 0, 0, 100)).chain((0..count).map(|n| {
            span(10 + n, 1, n * step_ms, n * step_ms + 2)
                .of("orders", "SELECT items", SpanKind::Client)
                .with("db.query.text", "SELECT * FROM items WHERE order_id = ?")
        })))
    }

    #[test]
    fn five_equal_statements_in_a_row_are_an_n_plus_one() {
        let found = repeated_calls(&[queries(5, 3)]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].count, found[0].total_ns), (5, 10 * MS));
        assert_eq!(found[0].parent, span_id(1));
        assert!(found[0].call.starts_with("SELECT * FROM items"));
    }

    #[test]
    fn four_in_a_row_or_many_at_once_are_not() {
        assert!(repeated_calls(&[queries(4, 3)]).is_empty());
        assert!(repeated_calls(&[queries(20, 0)]).is_empty());
    }
}
