//! The ports: what this crate calls and other crates implement.
//!
//! | port | implemented by | called on |
//! |---|---|---|
//! | [`SpanObserver`] | span metrics | the application's thread; `kept` on the worker |
//! | [`SpanSink`] | the exporter | the worker |
//! | [`SpanHook`] | the application | its own threads; `on_end` on the worker |
//! | [`EventSpans`] | database instrumentation | the application's thread |

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{SpanId, SpanKind, Status, TraceFlags, TraceId};
use opentelemetry::{Key, KeyValue, Value};
use tracing_core::Metadata;

use crate::clock::Deadline;
use crate::ledger::BackendReport;
use crate::span::{AttributeValue, Attributes, MaskedBatch, MaskedSpan, SpanRecord, StatusCode};

/// What an observer remembers of one span end until it is known whether its trace was kept.
///
/// The meaning of the two numbers is the observer's own; typically a series and a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measurement {
    /// Usually the series that was updated.
    pub series: u64,
    /// Usually the value.
    pub value: u64,
}

/// Watches every span, sampled or not.
///
/// `started` and `ended` run on the application's thread for every span: they must not allocate
/// in the steady state, must not block and must not panic (a panic is caught and counted).
pub trait SpanObserver: Send + Sync {
    /// A span has started. The default does nothing.
    fn started(&self, span: &SpanStart<'_>) {
        let _ = span;
    }

    /// A span has ended. What is returned comes back in [`kept`](Self::kept) if the span is kept.
    fn ended(&self, span: &SpanEnd<'_>) -> Measurement;

    /// A span that was measured goes to the backends: exemplars that name it lead somewhere.
    /// Runs on the worker. The default does nothing.
    fn kept(&self, measurement: Measurement, trace_id: TraceId, span_id: SpanId) {
        let _ = (measurement, trace_id, span_id);
    }
}

/// A span that has just started, as an observer sees it: unmasked, like [`SpanEnd`].
#[derive(Debug)]
pub struct SpanStart<'a> {
    record: &'a SpanRecord,
    flagged: Cell<bool>,
}

impl<'a> SpanStart<'a> {
    pub(crate) fn new(record: &'a SpanRecord) -> Self {
        Self { record, flagged: Cell::new(false) }
    }

    /// The name at the start; `otel.name` may still change it.
    pub fn name(&self) -> &'a str {
        self.record.name()
    }

    /// The kind at the start.
    pub fn kind(&self) -> &'a SpanKind {
        self.record.kind()
    }

    /// The value of an attribute at the start. A span that is not recorded has only those that
    /// [`SpanEnd::attribute`] has, too.
    pub fn attribute(&self, key: &str) -> Option<AttributeValue<'a>> {
        self.record.attributes().get(key)
    }

    /// Sets the flag that this observer, and no other, finds in [`SpanEnd::is_flagged`]. Only
    /// the first eight observers have one.
    pub fn flag(&self) {
        self.flagged.set(true);
    }

    pub(crate) fn is_flagged(&self) -> bool {
        self.flagged.get()
    }
}

/// A span that has just ended, as an observer sees it: unmasked, so nothing of it may be kept
/// unless it is masked (see `Masker`) when a series is made of it.
#[derive(Clone, Copy, Debug)]
pub struct SpanEnd<'a> {
    record: &'a SpanRecord,
    flagged: bool,
}

impl<'a> SpanEnd<'a> {
    pub(crate) fn new(record: &'a SpanRecord) -> Self {
        Self { record, flagged: false }
    }

    pub(crate) fn with_flag(record: &'a SpanRecord, flagged: bool) -> Self {
        Self { record, flagged }
    }

    /// Whether the observer has flagged the span when it started ([`SpanStart::flag`]).
    pub fn is_flagged(&self) -> bool {
        self.flagged
    }

    /// A dense number of the callsite, for caches of handles; `None` for spans of the
    /// OpenTelemetry API. The name is fixed for a callsite only while
    /// [`static_name`](Self::static_name) is `Some`.
    pub fn callsite(&self) -> Option<u32> {
        self.record.callsite()
    }

    /// The name.
    pub fn name(&self) -> &'a str {
        self.record.name()
    }

    /// The name, if it is the callsite's own.
    pub fn static_name(&self) -> Option<&'static str> {
        self.record.static_name()
    }

    /// The kind.
    pub fn kind(&self) -> &'a SpanKind {
        self.record.kind()
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        self.record.status()
    }

    /// The class of the error, if the status is an error; low in cardinality.
    pub fn error_type(&self) -> Option<&'a str> {
        self.record.error_type()
    }

    /// Duration in nanoseconds.
    pub fn duration_nanos(&self) -> u64 {
        self.record.duration_nanos()
    }

    /// The value of an attribute. A span that is not recorded has only the attributes that
    /// decide its name, kind, status and error.
    pub fn attribute(&self, key: &str) -> Option<AttributeValue<'a>> {
        self.record.attributes().get(key)
    }

    /// Whether this is the topmost span of its trace in this process.
    pub fn is_local_root(&self) -> bool {
        self.record.is_local_root()
    }

    /// Whether the parent is in another process.
    pub fn parent_is_remote(&self) -> bool {
        self.record.parent_is_remote()
    }

    /// Whether the span would have taken the current span as its parent and there was none, nor
    /// was it given one later: it began a trace without being told to.
    pub fn found_no_parent(&self) -> bool {
        let head = &self.record.head;
        head.metadata.is_some()
            && head.parent_span_id == SpanId::INVALID
            && !head.explicit_root
            && head.asked.is_none()
    }

    /// Where in the code the span was made; `None` for spans of the OpenTelemetry API.
    pub fn metadata(&self) -> Option<&'static Metadata<'static>> {
        self.record.head.metadata
    }

    /// The name of the service that called, where it gave one.
    pub fn caller_service(&self) -> Option<&'a str> {
        self.record.caller_service()
    }
}

/// Takes finished batches: the exporter, or a store in memory for tests.
pub trait SpanSink: Send + Sync {
    /// Takes a batch. Must not block: what cannot be queued is dropped and counted. Hold the
    /// batch only as long as needed, its records go back to the capture when it is dropped.
    fn accept(&self, batch: Arc<MaskedBatch>);

    /// Tries to deliver what was accepted, by the deadline. Returns the state of each backend.
    fn flush(&self, deadline: Deadline) -> Vec<BackendReport>;

    /// Delivers what can be delivered by the deadline, counts the rest as dropped, and stops.
    /// Later batches are dropped and counted. Calling it again returns the same reports.
    fn shutdown(&self, deadline: Deadline) -> Vec<BackendReport>;
}

/// An error that a hook or exporter reports.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The application's own say over its spans, in front of the batcher.
///
/// `on_start` and `on_ending` run on the application's thread and see its own data, unmasked and
/// mutable; only spans that are recorded are shown. `on_end` runs on the worker and sees what the
/// backends will see. A panic in any of them is caught and counted.
pub trait SpanHook: Send + Sync {
    /// A span starts; attributes can be added.
    fn on_start(&self, span: &mut StartingSpan<'_>) {
        let _ = span;
    }

    /// A span ends; attributes, name and status can still be changed.
    fn on_ending(&self, span: &mut EndingSpan<'_>) {
        let _ = span;
    }

    /// A span has ended and is going to the backends.
    fn on_end(&self, span: &MaskedSpan) {
        let _ = span;
    }

    /// The pipeline is flushed.
    fn flush(&self, deadline: Deadline) -> Result<(), BoxError> {
        let _ = deadline;
        Ok(())
    }

    /// The pipeline shuts down.
    fn shutdown(&self, deadline: Deadline) -> Result<(), BoxError> {
        let _ = deadline;
        Ok(())
    }
}

/// A span that starts, as a [`SpanHook`] sees it.
#[derive(Debug)]
pub struct StartingSpan<'a> {
    pub(crate) record: &'a mut SpanRecord,
    pub(crate) attribute_limit: usize,
}

impl StartingSpan<'_> {
    /// The name.
    pub fn name(&self) -> &str {
        self.record.name()
    }

    /// The kind.
    pub fn kind(&self) -> &SpanKind {
        self.record.kind()
    }

    /// The trace; provisional for a local root, whose parent can still be set.
    pub fn trace_id(&self) -> TraceId {
        self.record.trace_id()
    }

    /// The span.
    pub fn span_id(&self) -> SpanId {
        self.record.span_id()
    }

    /// The parent, if it is known already.
    pub fn parent_span_id(&self) -> Option<SpanId> {
        self.record.parent_span_id()
    }

    /// The value of an attribute.
    pub fn attribute(&self, key: &str) -> Option<AttributeValue<'_>> {
        self.record.attributes().get(key)
    }

    /// Sets an attribute, in place of an earlier value.
    pub fn set_attribute(&mut self, key: impl Into<Key>, value: impl Into<Value>) {
        self.record.attributes.set(&key.into(), value.into(), self.attribute_limit);
    }
}

/// A span that ends, as a [`SpanHook`] sees it: all that could be done at its start, and more.
///
/// ```
/// use spanweave_core::{EndingSpan, SpanHook};
///
/// struct Milliseconds;
///
/// impl SpanHook for Milliseconds {
///     fn on_ending(&self, span: &mut EndingSpan<'_>) {
///         span.set_attribute("duration_ms", span.duration().as_millis() as i64);
///     }
/// }
/// ```
#[derive(Debug)]
pub struct EndingSpan<'a>(StartingSpan<'a>);

impl<'a> Deref for EndingSpan<'a> {
    type Target = StartingSpan<'a>;
    fn deref(&self) -> &StartingSpan<'a> {
        &self.0
    }
}

impl<'a> DerefMut for EndingSpan<'a> {
    fn deref_mut(&mut self) -> &mut StartingSpan<'a> {
        &mut self.0
    }
}

impl<'a> EndingSpan<'a> {
    pub(crate) fn new(record: &'a mut SpanRecord, attribute_limit: usize) -> Self {
        Self(StartingSpan { record, attribute_limit })
    }

    /// Sets an attribute, in place of an earlier value.
    // Not left to `Deref`, through which no argument could read from the span.
    pub fn set_attribute(&mut self, key: impl Into<Key>, value: impl Into<Value>) {
        self.0.set_attribute(key, value);
    }

    /// The trace flags.
    pub fn trace_flags(&self) -> TraceFlags {
        self.record.trace_flags()
    }

    /// How long the span took.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.record.duration_nanos())
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        self.record.status()
    }

    /// Attributes.
    pub fn attributes(&self) -> &Attributes {
        self.record.attributes()
    }

    /// Sets the name.
    pub fn set_name(&mut self, name: &str) {
        self.record.set_name(name);
    }

    /// Sets the status, by the rules of the OpenTelemetry API.
    pub fn set_status(&mut self, status: &Status) {
        self.record.set_status(status);
    }
}

/// Makes spans out of events that report a finished operation, such as the query events of a
/// database driver.
pub trait EventSpans: Send + Sync {
    /// Whether events of this callsite are meant. Asked once for each callsite.
    fn claims(&self, metadata: &'static Metadata<'static>) -> bool;

    /// What an event of a claimed callsite becomes. Runs on the application's thread.
    fn span_of(&self, event: &Attributes, thread_name: Option<&str>) -> EventVerdict;
}

/// What becomes of an event that an [`EventSpans`] has claimed.
#[derive(Debug)]
pub enum EventVerdict {
    /// It is an ordinary event of the current span.
    Event,
    /// It is a finished child span of the current span. Without a current span it is counted
    /// and forgotten.
    Span(CompletedSpan),
    /// It is forgotten.
    Ignore,
}

/// A span that is over when it is told; it ends now.
#[derive(Clone, Debug)]
pub struct CompletedSpan {
    /// The name.
    pub name: Cow<'static, str>,
    /// The kind.
    pub kind: SpanKind,
    /// How long it took, up to now.
    pub duration: Duration,
    /// Attributes.
    pub attributes: Vec<KeyValue>,
    /// The status.
    pub status: Status,
}
