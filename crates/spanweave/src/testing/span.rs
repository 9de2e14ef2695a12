//! A finished span, with what tests ask of it.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceId};
use opentelemetry::{KeyValue, Value};
use spanweave_core::span::{EventView, SpanRecord, StatusCode};

/// A finished span, as a backend would get it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TestSpan {
    /// The name.
    pub name: String,
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// The parent, if there is one.
    pub parent_span_id: Option<SpanId>,
    /// Whether the parent is in another process.
    pub parent_is_remote: bool,
    /// The kind.
    pub kind: SpanKind,
    /// The status.
    pub status: Status,
    /// The class of the error, if the status is one.
    pub error_type: Option<String>,
    /// The attributes, in the order in which they were set.
    pub attributes: Vec<KeyValue>,
    /// The events, in the order in which they happened.
    pub events: Vec<TestEvent>,
    /// The spans that are linked to.
    pub links: Vec<SpanContext>,
    /// When it started.
    pub start: SystemTime,
    /// How long it took.
    pub duration: Duration,
}

/// An event of a [`TestSpan`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TestEvent {
    /// The name; the message, for an event of `tracing`.
    pub name: String,
    /// The attributes, in the order in which they were set.
    pub attributes: Vec<KeyValue>,
    /// When it happened.
    pub time: SystemTime,
}

impl TestSpan {
    pub(super) fn new(span: &SpanRecord) -> Self {
        Self {
            name: span.name().to_owned(),
            trace_id: span.trace_id(),
            span_id: span.span_id(),
            parent_span_id: span.parent_span_id(),
            parent_is_remote: span.parent_is_remote(),
            kind: span.kind().clone(),
            status: match span.status() {
                StatusCode::Unset => Status::Unset,
                StatusCode::Ok => Status::Ok,
                StatusCode::Error => Status::error(span.status_message().to_owned()),
            },
            error_type: span.error_type().map(str::to_owned),
            attributes: span.attributes().into(),
            events: span.events().map(TestEvent::new).collect(),
            links: span.links().iter().map(|link| link.context.clone()).collect(),
            start: system_time(span.start_unix_nano()),
            duration: Duration::from_nanos(span.duration_nanos()),
        }
    }

    /// The value of an attribute.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        value(&self.attributes, key)
    }

    /// The first event of that name.
    pub fn event(&self, name: &str) -> Option<&TestEvent> {
        self.events.iter().find(|event| event.name == name)
    }

    /// Whether `parent` is its parent, in the same trace.
    pub fn is_child_of(&self, parent: &Self) -> bool {
        self.trace_id == parent.trace_id && self.parent_span_id == Some(parent.span_id)
    }

    /// Asserts the value of an attribute.
    #[track_caller]
    pub fn assert_attribute(&self, key: &str, expected: impl Into<Value>) {
        let expected = expected.into();
        assert_eq!(
            self.attribute(key),
            Some(&expected),
            "attribute {key:?} of span {:?}; it has {:?}",
            self.name,
            self.attributes
        );
    }

    /// Asserts that `parent` is its parent.
    #[track_caller]
    pub fn assert_child_of(&self, parent: &Self) {
        assert!(
            self.is_child_of(parent),
            "span {:?} (trace {}, parent {:?}) is no child of {:?} (trace {}, span {})",
            self.name,
            self.trace_id,
            self.parent_span_id,
            parent.name,
            parent.trace_id,
            parent.span_id
        );
    }

    /// Asserts that it has no parent.
    #[track_caller]
    pub fn assert_root(&self) {
        assert_eq!(self.parent_span_id, None, "span {:?} has a parent", self.name);
    }

    /// Asserts that its status is an error.
    #[track_caller]
    pub fn assert_error(&self) {
        let is_error = matches!(self.status, Status::Error { .. });
        assert!(is_error, "span {:?} has the status {:?}", self.name, self.status);
    }

    /// Asserts that its status is not an error.
    #[track_caller]
    pub fn assert_no_error(&self) {
        let is_error = matches!(self.status, Status::Error { .. });
        assert!(!is_error, "span {:?} has the status {:?}", self.name, self.status);
    }
}

impl TestEvent {
    fn new(event: EventView<'_>) -> Self {
        let attributes = event
            .attributes()
            .map(|(key, value)| KeyValue::new(key.to_owned(), value.to_value()))
            .collect();
        let time = system_time(event.time_unix_nano());
        Self { name: event.name().to_owned(), attributes, time }
    }

    /// The value of an attribute.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        value(&self.attributes, key)
    }
}

fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes.iter().find(|attribute| attribute.key.as_str() == key).map(|found| &found.value)
}

fn system_time(unix_nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(unix_nanos)
}
