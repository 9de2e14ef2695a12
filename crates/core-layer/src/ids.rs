//! Random trace and span ids.

use opentelemetry::trace::{SpanId, TraceId};

/// A new trace id: 128 random bits, as the random flag of trace context level 2 promises.
pub(crate) fn new_trace_id() -> TraceId {
    loop {
        let id = fastrand::u128(..);
        if id != 0 {
            return TraceId::from(id);
        }
    }
}

/// A new span id.
pub(crate) fn new_span_id() -> SpanId {
    loop {
        let id = fastrand::u64(..);
        if id != 0 {
            return SpanId::from(id);
        }
    }
}
