//! What is known of one span.

use std::sync::Arc;

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use tracing_core::Metadata;

use super::attributes::{AttributeValue, Attributes, Slot, Stored, Text};
use super::error_type::{ErrorType, OTHER};
use crate::clock::MonotonicNanos;
use crate::ports::Measurement;

/// The status code of a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StatusCode {
    /// Not set.
    #[default]
    Unset,
    /// Set to Ok by the application.
    Ok,
    /// An error.
    Error,
}

impl StatusCode {
    /// `unset`, `ok` or `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

/// Times of a span on the monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// When it was created.
    pub start: MonotonicNanos,
    /// When it was closed.
    pub end: MonotonicNanos,
    /// Nanoseconds during which it was entered on at least one thread.
    pub busy: u64,
    /// The last change between busy and idle.
    pub(crate) last: MonotonicNanos,
    /// How many times it is entered now, over all threads.
    pub(crate) entered: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Name {
    Static(&'static str),
    /// The text is in `SpanRecord::name_text`.
    Owned,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct EventHead {
    pub(crate) name: Text,
    pub(crate) time: MonotonicNanos,
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) dropped: u32,
    /// The callsite of an event of `tracing`: what it says need not be copied with every event.
    pub(crate) origin: Option<&'static Metadata<'static>>,
}

/// A link from a span to another one.
#[derive(Clone, Debug)]
pub struct Link {
    /// The span that is linked to.
    pub context: SpanContext,
    /// Attributes of the link.
    pub attributes: Vec<KeyValue>,
    /// Attributes that a limit kept out.
    pub dropped_attributes: u32,
}

/// An event of a span.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    record: &'a SpanRecord,
    head: &'a EventHead,
}

impl<'a> EventView<'a> {
    /// Its name; for an event of `tracing`, the message.
    pub fn name(&self) -> &'a str {
        self.record.event_attributes.resolve(self.head.name)
    }

    /// When it happened, in nanoseconds since the Unix epoch.
    pub fn time_unix_nano(&self) -> u64 {
        self.head.time.wrapping_add(self.record.head.wall_offset)
    }

    /// Its attributes; those that its callsite tells (level, target, place in the code) first.
    pub fn attributes(&self) -> impl ExactSizeIterator<Item = (&'a str, AttributeValue<'a>)> {
        let list = &self.record.event_attributes;
        let (slots, origin, told) = (self.slots(), self.head.origin, self.told());
        (0..told + slots.len()).map(move |index| match slots.get(index.wrapping_sub(told)) {
            Some(slot) => (list.resolve(slot.key), list.value(&slot.value)),
            None => tell(origin, index),
        })
    }

    /// How many attributes the callsite tells.
    fn told(&self) -> usize {
        self.head.origin.map_or(0, |origin| {
            // The line is known only where the file is.
            2 + usize::from(origin.file().is_some()) * (1 + usize::from(origin.line().is_some()))
        })
    }

    /// Attributes that a limit kept out.
    pub fn dropped_attributes(&self) -> u32 {
        self.head.dropped
    }

    fn slots(&self) -> &'a [Slot] {
        let first = self.head.first as usize;
        let range = first..first + self.head.count as usize;
        self.record.event_attributes.slots().get(range).unwrap_or_default()
    }
}

/// The attribute with that number of those that a callsite tells.
fn tell(
    origin: Option<&'static Metadata<'static>>,
    index: usize,
) -> (&'static str, AttributeValue<'static>) {
    let line = origin.and_then(|origin| origin.line()).unwrap_or_default();
    let text = |get: fn(&'static Metadata<'static>) -> &'static str| {
        AttributeValue::Str(origin.map(get).unwrap_or_default())
    };
    match index {
        0 => ("level", text(|origin| origin.level().as_str())),
        1 => ("target", text(|origin| origin.target())),
        2 => ("code.file.path", text(|origin| origin.file().unwrap_or_default())),
        _ => ("code.line.number", AttributeValue::I64(i64::from(line))),
    }
}

/// The part of a record that has a fixed size.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) parent_span_id: SpanId,
    /// The topmost span of this trace in this process (its own id, for a local root).
    pub(crate) local_root: SpanId,
    pub(crate) parent_is_remote: bool,
    pub(crate) flags: TraceFlags,
    pub(crate) head_sampled: bool,
    /// Ids and head decision are final: children may copy them.
    pub(crate) frozen: bool,
    /// Content is kept: the head sampled the trace, or tail rules may keep it.
    pub(crate) recording: bool,
    /// It was created as a root on purpose.
    pub(crate) explicit_root: bool,
    /// It was created while the thread was unwinding: a panic is not its own.
    pub(crate) born_in_panic: bool,
    /// A value was cut to the limit.
    pub(crate) truncated: bool,
    /// A bit for each of the first eight observers: what it wants to know again at the end.
    pub(crate) observer_flags: u8,
    pub(crate) kind: SpanKind,
    pub(crate) status: StatusCode,
    pub(crate) dropped_events: u32,
    pub(crate) dropped_links: u32,
    /// Dense number of the callsite, for caches; `u32::MAX` for spans without one.
    pub(crate) callsite: u32,
    pub(crate) name: Name,
    pub(crate) metadata: Option<&'static Metadata<'static>>,
    pub(crate) timing: Timing,
    /// Wall minus monotonic nanoseconds (wrapping); zero for spans whose times are wall times.
    pub(crate) wall_offset: u64,
    pub(crate) thread_id: u64,
    pub(crate) thread_name: Option<&'static str>,
    pub(crate) trace_state: Option<Arc<TraceState>>,
    /// What the context of a parent in another process holds besides its ids: baggage.
    pub(crate) carried: Option<Arc<Context>>,
    /// The decision of a caller that named no span.
    pub(crate) asked: Option<bool>,
    /// The service that called, as it named itself.
    pub(crate) caller: Option<Arc<str>>,
    pub(crate) scope: Option<Arc<InstrumentationScope>>,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            trace_id: TraceId::INVALID,
            span_id: SpanId::INVALID,
            parent_span_id: SpanId::INVALID,
            local_root: SpanId::INVALID,
            parent_is_remote: false,
            flags: TraceFlags::default(),
            head_sampled: false,
            frozen: false,
            recording: true,
            explicit_root: false,
            born_in_panic: false,
            truncated: false,
            observer_flags: 0,
            kind: SpanKind::Internal,
            status: StatusCode::Unset,
            dropped_events: 0,
            dropped_links: 0,
            callsite: u32::MAX,
            name: Name::Static(""),
            metadata: None,
            timing: Timing::default(),
            wall_offset: 0,
            thread_id: 0,
            thread_name: None,
            trace_state: None,
            carried: None,
            asked: None,
            caller: None,
            scope: None,
        }
    }
}

/// Everything that is known of one span.
///
/// Outside this crate a record is only ever seen through [`MaskedSpan`](super::MaskedSpan),
/// [`SpanEnd`](crate::SpanEnd) or [`EndingSpan`](crate::EndingSpan).
#[derive(Debug, Default)]
pub struct SpanRecord {
    pub(crate) head: Head,
    pub(crate) name_text: String,
    pub(crate) status_message: String,
    pub(crate) error_type: ErrorType,
    pub(crate) attributes: Attributes,
    pub(crate) events: Vec<EventHead>,
    pub(crate) event_attributes: Attributes,
    pub(crate) links: Vec<Link>,
    pub(crate) measurements: Vec<Measurement>,
}

impl SpanRecord {
    /// The trace.
    pub fn trace_id(&self) -> TraceId {
        self.head.trace_id
    }

    /// The span.
    pub fn span_id(&self) -> SpanId {
        self.head.span_id
    }

    /// The parent, if the span has one.
    pub fn parent_span_id(&self) -> Option<SpanId> {
        (self.head.parent_span_id != SpanId::INVALID).then_some(self.head.parent_span_id)
    }

    /// Whether the parent is in another process.
    pub fn parent_is_remote(&self) -> bool {
        self.head.parent_is_remote
    }

    /// The trace flags of the span's own context.
    pub fn trace_flags(&self) -> TraceFlags {
        self.head.flags
    }

    /// The trace state of the span's own context; `None` is the empty one.
    pub fn trace_state(&self) -> Option<&TraceState> {
        self.head.trace_state.as_deref()
    }

    /// The topmost span of the trace in this process: the span's own id, for a local root.
    pub fn local_root_id(&self) -> SpanId {
        self.head.local_root
    }

    /// Whether this is the topmost span of its trace in this process.
    pub fn is_local_root(&self) -> bool {
        self.head.local_root == self.head.span_id
    }

    /// What the head sampler decided. A span can be kept against it by a tail rule.
    pub fn is_head_sampled(&self) -> bool {
        self.head.head_sampled
    }

    /// The name of the service that called, where it gave one.
    pub fn caller_service(&self) -> Option<&str> {
        self.head.caller.as_deref()
    }

    /// The name.
    pub fn name(&self) -> &str {
        match self.head.name {
            Name::Static(name) => name,
            Name::Owned => &self.name_text,
        }
    }

    /// The name, if it is the callsite's own.
    pub fn static_name(&self) -> Option<&'static str> {
        match self.head.name {
            Name::Static(name) => Some(name),
            Name::Owned => None,
        }
    }

    /// A dense number of the callsite, for caches; `None` for spans of the OpenTelemetry API.
    pub fn callsite(&self) -> Option<u32> {
        (self.head.callsite != u32::MAX).then_some(self.head.callsite)
    }

    /// The `tracing` metadata of the callsite; `None` for spans of the OpenTelemetry API.
    pub fn metadata(&self) -> Option<&'static Metadata<'static>> {
        self.head.metadata
    }

    /// The scope of a span of the OpenTelemetry API; `None` for spans of `tracing`.
    pub fn scope(&self) -> Option<&Arc<InstrumentationScope>> {
        self.head.scope.as_ref()
    }

    /// The kind.
    pub fn kind(&self) -> &SpanKind {
        &self.head.kind
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The description of an error status; empty otherwise.
    pub fn status_message(&self) -> &str {
        &self.status_message
    }

    /// The class of the error, if the status is an error: low in cardinality, never a message.
    pub fn error_type(&self) -> Option<&str> {
        (self.head.status == StatusCode::Error).then(|| self.error_type.get().unwrap_or(OTHER))
    }

    /// Start, in nanoseconds since the Unix epoch.
    pub fn start_unix_nano(&self) -> u64 {
        self.head.timing.start.wrapping_add(self.head.wall_offset)
    }

    /// End, in nanoseconds since the Unix epoch; never before the start.
    pub fn end_unix_nano(&self) -> u64 {
        self.start_unix_nano().saturating_add(self.duration_nanos())
    }

    /// Duration in nanoseconds.
    pub fn duration_nanos(&self) -> u64 {
        self.head.timing.end.saturating_sub(self.head.timing.start)
    }

    /// Attributes.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Events, in the order in which they happened.
    pub fn events(&self) -> impl ExactSizeIterator<Item = EventView<'_>> {
        self.events.iter().map(|head| EventView { record: self, head })
    }

    /// Events that a limit kept out.
    pub fn dropped_events(&self) -> u32 {
        self.head.dropped_events
    }

    /// Links.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Links that a limit kept out.
    pub fn dropped_links(&self) -> u32 {
        self.head.dropped_links
    }

    /// Approximate size in bytes, for queues that are bounded in bytes.
    pub fn approximate_bytes(&self) -> usize {
        size_of::<Head>()
            + self.name_text.len()
            + self.status_message.len()
            + self.attributes.heap_bytes()
            + self.events.len() * size_of::<EventHead>()
            + self.event_attributes.heap_bytes()
            + self.links.len() * size_of::<Link>()
    }

    /// The span's own context.
    pub(crate) fn context(&self) -> SpanContext {
        SpanContext::new(
            self.head.trace_id,
            self.head.span_id,
            self.head.flags,
            false,
            self.head.trace_state.as_deref().cloned().unwrap_or_default(),
        )
    }

    /// What the caller of a local root decided, if it has one.
    pub(crate) fn asked(&self) -> Option<bool> {
        let has_parent = self.head.parent_span_id != SpanId::INVALID;
        if has_parent { Some(self.head.flags.is_sampled()) } else { self.head.asked }
    }

    pub(crate) fn set_name(&mut self, name: &str) {
        self.head.name = Name::Owned;
        self.name_text.clear();
        self.name_text.push_str(name);
    }

    /// Sets the status by the rules of the OpenTelemetry API: Ok is final, an error replaces
    /// Unset or an earlier error, Unset changes nothing.
    pub(crate) fn set_status(&mut self, status: &Status) {
        match status {
            Status::Unset => {}
            Status::Ok => {
                self.head.status = StatusCode::Ok;
                self.status_message.clear();
            }
            Status::Error { description } => self.set_error(description),
        }
    }

    /// Sets an error status. An empty description does not replace one that is there.
    pub(crate) fn set_error(&mut self, description: &str) {
        if self.head.status == StatusCode::Ok {
            return;
        }
        self.head.status = StatusCode::Error;
        if !description.is_empty() {
            self.status_message.clear();
            self.status_message.push_str(description);
        }
    }

    /// Appends an event whose attributes are those of `attributes`.
    pub(crate) fn add_event(
        &mut self,
        name: Text,
        time: MonotonicNanos,
        attributes: &Attributes,
        limit: usize,
    ) {
        self.add_event_from(None, name, time, attributes, limit);
    }

    /// Appends an event of `tracing`, whose callsite is `origin`.
    pub(crate) fn add_event_from(
        &mut self,
        origin: Option<&'static Metadata<'static>>,
        name: Text,
        time: MonotonicNanos,
        attributes: &Attributes,
        limit: usize,
    ) {
        if self.events.len() >= limit {
            self.head.dropped_events = self.head.dropped_events.saturating_add(1);
            return;
        }
        let own = &mut self.event_attributes;
        let name = own.copy_text(attributes, name);
        let first = own.len();
        for slot in attributes.slots() {
            own.copy_from(attributes, slot);
        }
        let (Ok(first), Ok(count)) = (u32::try_from(first), u32::try_from(attributes.len())) else {
            return;
        };
        let dropped = attributes.dropped();
        self.events.push(EventHead { name, time, first, count, dropped, origin });
    }

    pub(crate) fn add_link(&mut self, link: Link, limit: usize) {
        if self.links.len() >= limit {
            self.head.dropped_links = self.head.dropped_links.saturating_add(1);
        } else {
            self.links.push(link);
        }
    }

    /// Marks the span entered on one more thread.
    pub(crate) fn enter(&mut self, now: MonotonicNanos) {
        if self.head.timing.entered == 0 {
            self.head.timing.last = now;
        }
        self.head.timing.entered = self.head.timing.entered.saturating_add(1);
    }

    /// Marks the span exited on one thread.
    pub(crate) fn exit(&mut self, now: MonotonicNanos) {
        self.head.timing.entered = self.head.timing.entered.saturating_sub(1);
        if self.head.timing.entered == 0 {
            self.head.timing.busy += now.saturating_sub(self.head.timing.last);
            self.head.timing.last = now;
        }
    }

    /// Forgets what only a recorded span has besides its attributes.
    pub(crate) fn forget_events_and_links(&mut self) {
        self.events.clear();
        self.event_attributes.clear();
        self.links.clear();
        self.head.dropped_events = 0;
        self.head.dropped_links = 0;
        self.head.truncated = false;
    }

    /// Forgets the content and keeps the memory, but for what one unusual span needed.
    fn clear_content(&mut self) {
        const KEPT_LINKS: usize = 8;
        const KEPT_EVENTS: usize = 32;
        const KEPT_TEXT: usize = 1024;
        self.forget_events_and_links();
        self.attributes.clear();
        self.events.shrink_to(KEPT_EVENTS);
        self.links.shrink_to(KEPT_LINKS);
        self.name_text.shrink_to(KEPT_TEXT);
        self.status_message.shrink_to(KEPT_TEXT);
    }

    /// Makes the record ready for another span.
    pub(crate) fn reset(&mut self) {
        self.clear_content();
        self.head = Head::default();
        self.name_text.clear();
        self.status_message.clear();
        self.error_type.clear();
        self.measurements.clear();
    }
}

/// A span as it was captured. Only this crate can look inside; it becomes a
/// [`MaskedSpan`](super::MaskedSpan) before anything else may.
#[derive(Debug, Default)]
pub(crate) struct RawSpan(pub(crate) Box<SpanRecord>);

impl std::ops::Deref for RawSpan {
    type Target = SpanRecord;
    fn deref(&self) -> &SpanRecord {
        &self.0
    }
}

impl std::ops::DerefMut for RawSpan {
    fn deref_mut(&mut self) -> &mut SpanRecord {
        &mut self.0
    }
}

/// A static text as a stored value.
pub(crate) fn static_text(text: &'static str) -> Stored {
    Stored::Text(Text::Static(text))
}
