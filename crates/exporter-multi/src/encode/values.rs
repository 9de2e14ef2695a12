//! What all encodings need to know of values.

use opentelemetry::trace::{SpanContext, SpanKind};
use opentelemetry::{Array, Value};
use spanweave_core::span::{AttributeValue, SpanRecord, StatusCode};

/// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`: bit 9 means something.
const HAS_IS_REMOTE: u32 = 0x100;
/// `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`.
const IS_REMOTE: u32 = 0x200;

fn flags(trace_flags: u8, remote: bool) -> u32 {
    u32::from(trace_flags) | HAS_IS_REMOTE | if remote { IS_REMOTE } else { 0 }
}

/// `Span.flags`: whether the parent is remote, and the span's own W3C flags.
pub(crate) fn span_flags(span: &SpanRecord) -> u32 {
    flags(span.trace_flags().to_u8(), span.parent_is_remote())
}

/// `Link.flags`.
pub(crate) fn link_flags(context: &SpanContext) -> u32 {
    flags(context.trace_flags().to_u8(), context.is_remote())
}

/// `Span.SpanKind`.
pub(crate) fn kind(kind: &SpanKind) -> u8 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

/// `Status.StatusCode`.
pub(crate) fn status(code: StatusCode) -> u8 {
    match code {
        StatusCode::Unset => 0,
        StatusCode::Ok => 1,
        StatusCode::Error => 2,
    }
}

/// An OpenTelemetry value, borrowed.
pub(crate) fn borrow(value: &Value) -> AttributeValue<'_> {
    match value {
        Value::Bool(value) => AttributeValue::Bool(*value),
        Value::I64(value) => AttributeValue::I64(*value),
        Value::F64(value) => AttributeValue::F64(*value),
        Value::String(text) => AttributeValue::Str(text.as_str()),
        Value::Array(array) => AttributeValue::Array(array),
        // The enum is open; a kind that is not known here has no OTLP form either.
        _ => AttributeValue::Str(""),
    }
}

/// Calls `visit` for each value of an array.
pub(crate) fn for_each(array: &Array, mut visit: impl FnMut(AttributeValue<'_>)) {
    match array {
        Array::Bool(values) => values.iter().for_each(|value| visit(AttributeValue::Bool(*value))),
        Array::I64(values) => values.iter().for_each(|value| visit(AttributeValue::I64(*value))),
        Array::F64(values) => values.iter().for_each(|value| visit(AttributeValue::F64(*value))),
        Array::String(values) => {
            values.iter().for_each(|value| visit(AttributeValue::Str(value.as_str())));
        }
        // As for values: no OTLP form.
        _ => {}
    }
}
