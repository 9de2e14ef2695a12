//! The OpenTelemetry side of a span of `tracing`: what stands in the activated `Context`.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::SystemTime;

use opentelemetry::trace::{
    Span, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceState,
};
use opentelemetry::{Context, KeyValue};

use super::Capture;
use super::local::SpanInfo;
use crate::clock;
use crate::span::{Attributes, ErrorSource, SpanRecord, Text};

/// A handle of a span of ours, found through a `Context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    capture: u64,
    id: u64,
    span_id: SpanId,
    /// The head decision of a caller, where the context was made before our own.
    undecided: Option<Option<bool>>,
}

/// The span in a `Context` that stands for a span of `tracing`.
///
/// Calls through it reach the record while the span is open and are harmless afterwards: the
/// random span id tells a closed span from a later one under the same number.
#[derive(Debug)]
pub(crate) struct ActiveSpan {
    handle: Handle,
    context: SpanContext,
}

impl ActiveSpan {
    pub(crate) fn new(capture: &Capture, id: u64, info: &SpanInfo) -> Self {
        let undecided = (!info.frozen).then_some(info.asked);
        let handle = Handle { capture: capture.id, id, span_id: info.span_id, undecided };
        Self { handle, context: info.context() }
    }
}

impl SpanInfo {
    pub(crate) fn context(&self) -> SpanContext {
        SpanContext::new(
            self.trace_id,
            self.span_id,
            self.flags,
            false,
            self.trace_state.as_deref().cloned().unwrap_or_default(),
        )
    }
}

static CAPTURES: RwLock<Vec<(u64, Weak<Capture>)>> = RwLock::new(Vec::new());

pub(super) fn register(capture: &Arc<Capture>) {
    let mut captures = CAPTURES.write().unwrap_or_else(PoisonError::into_inner);
    captures.retain(|(_, capture)| capture.strong_count() > 0);
    captures.push((capture.id, Arc::downgrade(capture)));
}

fn capture(id: u64) -> Option<Arc<Capture>> {
    let captures = CAPTURES.read().unwrap_or_else(PoisonError::into_inner);
    captures.iter().find(|(known, _)| *known == id).and_then(|(_, capture)| capture.upgrade())
}

thread_local! {
    /// Set while a `Context` is asked whether its span is one of ours: see [`handle_in`].
    static ASKING: Cell<bool> = const { Cell::new(false) };
    static ANSWER: Cell<Option<Handle>> = const { Cell::new(None) };
}

/// The handle of the span in `cx`, if it is one of ours.
///
/// The API has no way to the type behind a span in a context. So the question is asked through a
/// method that every span has, and a span of ours answers on the side.
fn handle_in(cx: &Context) -> Option<Handle> {
    if !cx.has_active_span() {
        return None;
    }
    ASKING.try_with(|asking| asking.set(true)).ok()?;
    ANSWER.with(Cell::take);
    let _ = cx.span().is_recording();
    ASKING.with(|asking| asking.set(false));
    ANSWER.with(Cell::take)
}

/// What a child of the span in `cx` takes from it, if it is an open span of ours. Freezes it.
pub(crate) fn settle(cx: &Context) -> Option<(Arc<Capture>, SpanInfo)> {
    let span = cx.span();
    let context = span.span_context();
    if !context.is_valid() || context.is_remote() {
        return None;
    }
    let (capture, id) = match handle_in(cx) {
        Some(handle) => (capture(handle.capture)?, handle.id),
        // A context that has only the ids of its span.
        None => super::local::entered(context.span_id())?,
    };
    let info = capture
        .table
        .with(id, |record| {
            (record.head.span_id == context.span_id()).then(|| {
                capture.freeze(record);
                SpanInfo::of(record)
            })
        })
        .flatten()?;
    Some((capture, info))
}

impl ActiveSpan {
    fn change(&self, change: impl FnOnce(&Capture, &mut SpanRecord)) {
        if let Some(capture) = capture(self.handle.capture) {
            capture.table.with(self.handle.id, |record| {
                if record.head.span_id == self.handle.span_id {
                    change(&capture, record);
                }
            });
        }
    }
}

impl Span for ActiveSpan {
    fn add_event_with_timestamp<T>(
        &mut self,
        name: T,
        timestamp: SystemTime,
        attributes: Vec<KeyValue>,
    ) where
        T: Into<Cow<'static, str>>,
    {
        let name: Cow<'static, str> = name.into();
        let wall = timestamp
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        let time = wall.wrapping_sub(clock::wall_offset());
        self.change(|capture, record| {
            let limits = &capture.core.limits;
            let mut list = Attributes::default();
            let class = attributes
                .iter()
                .find(|attribute| attribute.key.as_str() == "exception.type")
                .map(|attribute| attribute.value.to_string());
            for attribute in attributes {
                list.set(&attribute.key, attribute.value, limits.attributes_per_event);
            }
            let text = match name {
                Cow::Borrowed(name) => Text::Static(name),
                Cow::Owned(name) => list.append(&name),
            };
            if let Some(class) = class {
                record.error_type.offer(ErrorSource::RecordedType, &class);
            }
            if record.head.recording {
                record.add_event(text, time, &list, limits.events);
            }
        });
    }

    fn span_context(&self) -> &SpanContext {
        &self.context
    }

    fn is_recording(&self) -> bool {
        if ASKING.try_with(Cell::get).unwrap_or(false) {
            ANSWER.with(|answer| answer.set(Some(self.handle)));
            return true;
        }
        let mut is_recording = false;
        self.change(|_, record| is_recording = record.head.recording);
        is_recording
    }

    fn set_attribute(&mut self, attribute: KeyValue) {
        self.change(|capture, record| capture.set_attribute(record, attribute));
    }

    fn set_status(&mut self, status: Status) {
        self.change(|_, record| record.set_status(&status));
    }

    fn update_name<T>(&mut self, name: T)
    where
        T: Into<Cow<'static, str>>,
    {
        let name: Cow<'static, str> = name.into();
        self.change(|_, record| record.set_name(&name));
    }

    fn add_link(&mut self, context: SpanContext, attributes: Vec<KeyValue>) {
        self.change(|capture, record| capture.add_link(record, context, attributes));
    }

    /// The span ends when `tracing` closes it.
    fn end_with_timestamp(&mut self, _timestamp: SystemTime) {}
}

/// The context of the span in `cx`, whosever it is.
///
/// A context that was made before the head decision lacks it, and a span that has closed cannot
/// be asked. So the decision is taken again: it depends on the trace, except for rate limits.
pub(crate) fn parent_in(cx: &Context) -> Option<SpanContext> {
    let span = cx.span();
    let context = span.span_context();
    if !context.is_valid() {
        return None;
    }
    let decide = |handle: Handle| {
        let asked = handle.undecided?;
        let capture = capture(handle.capture)?;
        let (trace_id, kind) = (context.trace_id(), SpanKind::Internal);
        let (sampled, state) = capture.sample_root(trace_id, None, asked, "", &kind);
        let flags = context.trace_flags().with_sampled(sampled);
        let state = if state == TraceState::NONE { context.trace_state().clone() } else { state };
        Some(SpanContext::new(trace_id, context.span_id(), flags, false, state))
    };
    handle_in(cx).and_then(decide).or_else(|| Some(context.clone()))
}

/// The flags that a new trace starts with: its id is random (trace context level 2).
pub(crate) const NEW_TRACE_FLAGS: TraceFlags = TraceFlags::new(0x02);
