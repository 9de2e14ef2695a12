//! What a response says of its span, where it may.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::SpanContext;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Writes the ids of the span for a browser: `traceparent`, and `server-timing`, which scripts can
/// read of every response, of navigations too.
pub(super) fn write_trace(span: &SpanContext, headers: &mut HeaderMap) {
    if !span.is_valid() {
        return;
    }
    let (trace_id, span_id, flags) = (span.trace_id(), span.span_id(), span.trace_flags().to_u8());
    let parent = format!("00-{trace_id}-{span_id}-{flags:02x}");
    if let Ok(timing) = HeaderValue::try_from(format!("traceparent;desc=\"{parent}\"")) {
        headers.append(SERVER_TIMING.clone(), timing);
    }
    if let Ok(parent) = HeaderValue::try_from(parent) {
        headers.insert(TRACEPARENT.clone(), parent);
    }
}
