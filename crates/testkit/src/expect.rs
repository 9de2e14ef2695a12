use std::fmt::Write;
use std::time::Duration;

use spanweave_live::{StatusCode, StoredSpan, Value};

use crate::PATIENCE;

/// Panics unless `child` is in `parent`'s trace and under it.
#[track_caller]
pub fn assert_child_of(child: &StoredSpan, parent: &StoredSpan) {
    assert!(
        child.trace_id == parent.trace_id && child.parent == Some(parent.span_id),
        "not a child of it:\n  {}\n  {}",
        describe(child),
        describe(parent)
    );
}

/// Panics unless the span has no parent.
#[track_caller]
pub fn assert_root(span: &StoredSpan) {
    assert!(span.parent.is_none(), "not a root:\n  {}", describe(span));
}

/// Panics unless all spans are of one trace.
#[track_caller]
pub fn assert_same_trace<'a>(spans: impl IntoIterator<Item = &'a StoredSpan>) {
    let mut spans = spans.into_iter();
    let Some(first) = spans.next() else { return };
    for span in spans {
        assert!(
            span.trace_id == first.trace_id,
            "not of one trace:\n  {}\n  {}",
            describe(first),
            describe(span)
        );
    }
}

/// Panics unless `inner` started and ended within `outer`.
#[track_caller]
pub fn assert_within(inner: &StoredSpan, outer: &StoredSpan) {
    assert!(
        outer.start_ns <= inner.start_ns && inner.end_ns <= outer.end_ns,
        "not within it ({}..{} in {}..{}):\n  {}\n  {}",
        inner.start_ns,
        inner.end_ns,
        outer.start_ns,
        outer.end_ns,
        describe(inner),
        describe(outer)
    );
}

/// Panics unless the span has the attribute with this value, kind included.
#[track_caller]
pub fn assert_attribute(span: &StoredSpan, key: &str, value: impl Into<Value>) {
    let value = value.into();
    assert!(
        span.attribute(key) == Some(&value),
        "{key} is {:?} instead of {value:?} on\n  {}",
        span.attribute(key),
        describe(span)
    );
}

/// Panics where the span has the attribute.
#[track_caller]
pub fn assert_no_attribute(span: &StoredSpan, key: &str) {
    assert!(
        span.attribute(key).is_none(),
        "{key} is {:?} instead of absent on\n  {}",
        span.attribute(key),
        describe(span)
    );
}

/// Panics unless the span's status is Error and its `error.type` (or exception type) is this.
#[track_caller]
pub fn assert_error(span: &StoredSpan, error_type: &str) {
    assert!(
        span.status == StatusCode::Error && span.error_type() == Some(error_type),
        "status {:?} and error type {:?} instead of Error and {error_type:?} on\n  {}",
        span.status,
        span.error_type(),
        describe(span)
    );
}

/// A span in one line, for messages.
#[must_use]
pub fn describe(span: &StoredSpan) -> String {
    let mut text = format!(
        "{} {:?} ({}) trace {} span {}",
        span.service, span.name, span.kind, span.trace_id, span.span_id
    );
    // Writing to a String cannot fail.
    if let Some(parent) = span.parent {
        write!(text, " under {parent}").ok();
    }
    if span.is_error() {
        write!(text, " Error {:?}", span.status_message).ok();
    }
    for (key, value) in &span.attributes {
        write!(text, " {key}={value}").ok();
    }
    text
}

/// Asks again and again until `condition` holds; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    /// Short against what tests wait for, long against a core's time slice.
    const PAUSE: Duration = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    while !condition() {
        assert!(waited < PATIENCE, "not after {PATIENCE:?}: {what}");
        std::thread::sleep(PAUSE);
        waited += PAUSE;
    }
}
