//! The life of a span: created, entered, recorded to, exited, closed.

use std::sync::Arc;

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt};
use opentelemetry::{Context, ContextGuard};
use tracing_core::span::{Attributes, Record};
use tracing_core::{Event, Level, Metadata};

use super::active::{ActiveSpan, parent_in, settle};
use super::callsite::{CallsiteInfo, FieldClass};
use super::local::{Entered, Local, SpanInfo, Start, StartEvent, Top, thread, with_local};
use super::visit::{EXCEPTION, FieldVisitor, Touched};
use super::{Capture, panic};
use crate::clock;
use crate::ids;
use crate::pipeline::bump;
use crate::ports::{CompletedSpan, EventVerdict};
use crate::propagation::decision_without_ids;
use crate::span::{Attributes as AttributeList, Name, RawSpan, SpanRecord, StatusCode, Text};

/// How entering a span shows in the current OpenTelemetry context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    /// Not at all.
    None,
    /// By that of the local root, which says all there is to say of a dropped trace; where that
    /// is not current, as in a task of its own, by its ids.
    Inherited,
    /// By its ids: calls through the context reach nothing, there is nothing to record.
    Ids,
    /// By a span that passes calls on.
    Full,
}

/// Where a new span hangs.
enum Parent {
    None,
    /// None, but a caller that named no span has decided.
    Asked(bool),
    Ours(SpanInfo),
    Foreign(SpanContext),
}

impl Capture {
    pub(super) fn local<R>(self: &Arc<Self>, act: impl FnOnce(&mut Local) -> R) -> Option<R> {
        with_local(self, act)
    }

    fn info(self: &Arc<Self>, metadata: &'static Metadata<'static>) -> &'static CallsiteInfo {
        self.local(|local| local.callsite(self, metadata))
            .unwrap_or_else(|| self.callsites.get(metadata))
    }

    fn spare(self: &Arc<Self>) -> RawSpan {
        self.local(Local::record).unwrap_or_default()
    }

    fn recycle(self: &Arc<Self>, mut record: RawSpan) {
        record.reset();
        self.local(|local| local.recycle(record));
    }

    /// A span that was created. `id` is the subscriber's.
    pub(super) fn new_span(
        self: &Arc<Self>,
        id: u64,
        attrs: &Attributes<'_>,
        current: impl FnOnce() -> Option<u64>,
    ) {
        let metadata = attrs.metadata();
        let contextual = attrs.is_contextual();
        let start = match self.local(|local| local.start(self, metadata, contextual)) {
            Some(start) => start,
            None => self.start_without_local(metadata),
        };
        let Some(Start { callsite, mut record, top }) = start else { return };
        let parent = if let Some(parent) = attrs.parent() {
            self.open(parent.into_u64()).map_or(Parent::None, Parent::Ours)
        } else if attrs.is_root() {
            Parent::None
        } else {
            self.contextual_parent(top, current)
        };
        record.head.metadata = Some(metadata);
        record.head.callsite = callsite.index;
        record.head.name = Name::Static(metadata.name());
        let now = clock::now();
        record.head.timing.start = now;
        record.head.timing.last = now;
        record.head.explicit_root = attrs.is_root();
        record.head.born_in_panic = std::thread::panicking();
        self.place(&mut record, &parent);
        let recording = record.head.recording;
        attrs.record(&mut FieldVisitor::span(&mut record, callsite, &self.core.limits, recording));
        if !self.baggage_attributes.is_empty()
            && record.head.local_root == record.head.span_id
            && context_alive()
        {
            Context::map_current(|cx| self.describe_baggage(&mut record, cx));
        }
        self.core.started(&mut record, recording);
        if let Some(stale) = self.table.insert(id, record) {
            // Only a subscriber that gives an id twice gets here; the earlier span is over.
            self.close_record(stale);
        }
    }

    /// As `Local::start`, on a thread that is ending.
    fn start_without_local(&self, metadata: &'static Metadata<'static>) -> Option<Start> {
        let callsite = self.callsites.get(metadata);
        if !callsite.enabled {
            return None;
        }
        self.core.handoff.with_shared(|shared| bump(&shared.counts.started));
        let mut record = RawSpan::default();
        (record.head.thread_id, record.head.thread_name) = thread();
        Some(Start { callsite, record, top: Top::Unknown })
    }

    /// Gives a new span its ids.
    fn place(&self, record: &mut SpanRecord, parent: &Parent) {
        record.head.span_id = ids::new_span_id();
        match parent {
            Parent::None => Self::make_root(record, ids::new_trace_id()),
            Parent::Asked(sampled) => {
                Self::make_root(record, ids::new_trace_id());
                record.head.asked = Some(*sampled);
            }
            Parent::Ours(parent) => self.make_child(record, parent),
            Parent::Foreign(parent) => self.make_child_of(record, parent),
        }
    }

    /// Counts and shows a span that is over when it is first seen: one of the SDK, or one that an
    /// event has told of.
    pub(crate) fn begin(self: &Arc<Self>, record: &mut SpanRecord) {
        let recording = record.head.recording;
        self.core.started(record, recording);
        let counted = self.local(|local| bump(&local.outbox.counts.started)).is_some();
        if !counted {
            self.core.handoff.with_shared(|shared| bump(&shared.counts.started));
        }
    }

    /// The parent of a contextual span: the current OpenTelemetry span where contexts are
    /// activated, else the current span of the registry.
    fn contextual_parent(
        self: &Arc<Self>,
        top: Top,
        current: impl FnOnce() -> Option<u64>,
    ) -> Parent {
        match top {
            Top::Span(id, info) => self.settled(id, info).map_or(Parent::None, Parent::Ours),
            Top::Unknown if self.activation => self.foreign_parent(),
            Top::Unknown => match current().and_then(|id| self.open(id)) {
                Some(info) => Parent::Ours(info),
                None => self.foreign_parent(),
            },
        }
    }

    /// The parent that stands in the current context, when it is not the top of our own stack.
    fn foreign_parent(self: &Arc<Self>) -> Parent {
        if !context_alive() {
            return Parent::None;
        }
        let current = Context::map_current(|cx| {
            if cx.has_active_span() {
                Ok(cx.clone())
            } else {
                Err(decision_without_ids(cx).map_or(Parent::None, Parent::Asked))
            }
        });
        let cx = match current {
            Ok(cx) => cx,
            Err(parent) => return parent,
        };
        match settle(&cx) {
            Some((capture, info)) if capture.id == self.id => Parent::Ours(info),
            _ => parent_in(&cx).map_or(Parent::None, Parent::Foreign),
        }
    }

    /// `info`, final: where it is not yet, the span is frozen and the thread's copy renewed.
    fn settled(self: &Arc<Self>, id: u64, info: SpanInfo) -> Option<SpanInfo> {
        if info.frozen {
            return Some(info);
        }
        let info = self.open(id)?;
        self.renew(id, &info);
        Some(info)
    }

    /// What a child takes from the open span `id`, which is frozen by that.
    pub(super) fn open(&self, id: u64) -> Option<SpanInfo> {
        self.table.with(id, |record| {
            self.freeze(record);
            SpanInfo::of(record)
        })
    }

    /// Renews the thread's copies of a span.
    pub(super) fn renew(self: &Arc<Self>, id: u64, info: &SpanInfo) {
        self.local(|local| {
            for entered in local.stack.iter_mut().filter(|entered| entered.id == id) {
                entered.info = info.clone();
            }
        });
    }

    pub(super) fn enter(self: &Arc<Self>, id: u64) {
        let now = clock::now();
        let Some((info, activation)) = self.table.with(id, |record| {
            record.enter(now);
            (SpanInfo::of(record), self.activation_of(record))
        }) else {
            return;
        };
        let guard = self.activate(id, &info, activation);
        let unwinding = std::thread::panicking();
        let mut entered = Some(Entered { id, info, unwinding, guard });
        self.local(|local| local.stack.extend(entered.take()));
    }

    /// How entering the span shows in the current context.
    pub(super) fn activation_of(&self, record: &SpanRecord) -> Activation {
        let head = &record.head;
        if !self.activation {
            return Activation::None;
        }
        if head.frozen {
            return match head.recording {
                true => Activation::Full,
                false if head.local_root == head.span_id => Activation::Ids,
                // Baggage goes along also where the span is entered alone.
                false if head.carried.is_some() => Activation::Ids,
                false => Activation::Inherited,
            };
        }
        let has_parent = head.parent_span_id != SpanId::INVALID || head.asked.is_some();
        if !self.record_all && !has_parent && self.head.surely_drops_root(head.trace_id) {
            Activation::Ids
        } else {
            Activation::Full
        }
    }

    /// Makes the span's context current, where that is wanted.
    pub(super) fn activate(
        &self,
        id: u64,
        info: &SpanInfo,
        activation: Activation,
    ) -> Option<ContextGuard> {
        if activation == Activation::None || !context_alive() {
            return None;
        }
        if activation == Activation::Inherited
            && Context::map_current(|cx| cx.span().span_context().trace_id()) == info.trace_id
        {
            return None;
        }
        let context = base_context(info, |cx| match activation {
            Activation::Full => cx.with_span(ActiveSpan::new(self, id, info)),
            _ => cx.with_remote_span_context(info.context()),
        });
        Some(context.attach())
    }

    pub(super) fn exit(self: &Arc<Self>, id: u64) {
        let entered = self
            .local(|local| {
                let position = local.stack.iter().rposition(|entered| entered.id == id)?;
                Some(local.stack.remove(position))
            })
            .flatten();
        let now = clock::now();
        let panicked =
            std::thread::panicking() && entered.as_ref().is_some_and(|entered| !entered.unwinding);
        self.table.with(id, |record| {
            record.exit(now);
            if panicked && !record.head.born_in_panic {
                panic::mark(record, now, &self.core.limits);
            }
        });
        // The guard is dropped here, outside the borrow: what a context holds may be foreign.
        drop(entered);
    }

    pub(super) fn record(self: &Arc<Self>, id: u64, values: &Record<'_>) {
        let Some((metadata, recording)) =
            self.table.with(id, |record| (record.head.metadata, record.head.recording))
        else {
            return;
        };
        let Some(metadata) = metadata else { return };
        let info = self.info(metadata);
        let mut scratch = self.spare();
        let mut visitor = FieldVisitor::span(&mut scratch, info, &self.core.limits, recording);
        values.record(&mut visitor);
        let touched = visitor.touched;
        self.table.with(id, |record| merge(record, &scratch, touched, self.core.limits.attributes));
        self.recycle(scratch);
    }

    pub(super) fn follows_from(self: &Arc<Self>, id: u64, follows: u64) {
        if let Some(info) = self.open(follows) {
            let context = info.context();
            self.table.with(id, |record| self.add_link(record, context, Vec::new()));
        }
    }

    /// An event. `current` is asked for the registry's current span where this thread's stack
    /// knows none.
    pub(super) fn event(
        self: &Arc<Self>,
        event: &Event<'_>,
        current: impl FnOnce() -> Option<u64>,
    ) {
        let metadata = event.metadata();
        let start = self.local(|local| local.start_event(self, metadata)).unwrap_or_else(|| {
            // The thread is ending.
            let callsite = self.callsites.get(metadata);
            let wanted = callsite.enabled || callsite.claimed_by.is_some();
            wanted.then(|| StartEvent { callsite, current: None, scratch: RawSpan::default() })
        });
        let Some(StartEvent { callsite, current: top, scratch }) = start else { return };
        let id = match event.parent() {
            Some(parent) => Some(parent.into_u64()),
            None if event.is_contextual() => top.or_else(current),
            None => None,
        };
        if let Some(claim) = callsite.claimed_by {
            return self.claimed(event, callsite, claim, id, scratch);
        }
        let is_error = *metadata.level() == Level::ERROR;
        match id.and_then(|id| Some((id, self.table.with(id, |record| record.head.recording)?))) {
            Some((id, recording))
                if recording || is_error || callsite.fields.contains(&FieldClass::Error) =>
            {
                self.add_event(id, event, callsite, recording, scratch);
            }
            _ => self.recycle(scratch),
        }
    }

    fn add_event(
        self: &Arc<Self>,
        id: u64,
        event: &Event<'_>,
        info: &'static CallsiteInfo,
        recording: bool,
        mut scratch: RawSpan,
    ) {
        let metadata = event.metadata();
        if recording && info.is_log {
            scratch.attributes.push(Text::Static("level"), text(metadata.level().as_str()));
        }
        let mut visitor = FieldVisitor::event(&mut scratch, info, &self.core.limits, recording);
        event.record(&mut visitor);
        let (touched, message) = (visitor.touched, visitor.message);
        if recording && info.is_log {
            log_origin(event, &mut scratch.attributes);
        }
        let origin = (!info.is_log).then_some(metadata);
        let is_error = *metadata.level() == Level::ERROR;
        let (now, limits) = (clock::now(), &self.core.limits);
        let name = message.unwrap_or(Text::Static(metadata.name()));
        self.table.with(id, |record| {
            // `#[instrument(err)]` reports at any level.
            if is_error || scratch.head.status == StatusCode::Error {
                record.set_error(&scratch.status_message);
                record.error_type.absorb(&scratch.error_type);
            }
            if !record.head.recording {
                return;
            }
            record.head.truncated |= scratch.head.truncated;
            record.add_event_from(origin, name, now, &scratch.attributes, limits.events);
            if touched.exception {
                for key in EXCEPTION {
                    record.attributes.remove(key);
                    if let Some(position) = scratch.attributes.position(key) {
                        let value = &scratch.attributes.slots()[position].value;
                        let value = record.attributes.copy_value(&scratch.attributes, value);
                        put(&mut record.attributes, Text::Static(key), value, limits.attributes);
                    }
                }
            }
        });
        self.recycle(scratch);
    }

    /// An event that may be a finished span in truth.
    fn claimed(
        self: &Arc<Self>,
        event: &Event<'_>,
        info: &'static CallsiteInfo,
        claim: usize,
        id: Option<u64>,
        mut scratch: RawSpan,
    ) {
        let Some(spans) = self.callsites.event_spans().get(claim) else { return };
        let mut visitor = FieldVisitor::event(&mut scratch, info, &self.core.limits, true);
        event.record(&mut visitor);
        let (_, thread_name) = thread();
        let verdict = self.core.guarded(|| spans.span_of(&scratch.attributes, thread_name));
        self.recycle(scratch);
        match verdict {
            Some(EventVerdict::Span(span)) => match id.and_then(|id| Some((id, self.open(id)?))) {
                Some((id, parent)) => {
                    self.renew(id, &parent);
                    self.completed(&parent, span);
                }
                None => self.core.count_orphan_event(),
            },
            Some(EventVerdict::Event) => {
                let recording =
                    id.and_then(|id| self.table.with(id, |record| record.head.recording));
                if let (Some(id), Some(recording)) = (id, recording) {
                    self.add_event(id, event, info, recording, self.spare());
                }
            }
            Some(EventVerdict::Ignore) | None => {}
        }
    }

    /// A child of `parent` that is over already.
    fn completed(self: &Arc<Self>, parent: &SpanInfo, span: CompletedSpan) {
        let mut record = self.spare();
        record.head.metadata = None;
        record.head.callsite = u32::MAX;
        record.set_name(&span.name);
        record.head.kind = span.kind;
        let now = clock::now();
        let length = u64::try_from(span.duration.as_nanos()).unwrap_or(u64::MAX);
        record.head.timing.start = now.saturating_sub(length);
        record.head.timing.end = now;
        record.head.wall_offset = clock::wall_offset();
        record.head.span_id = ids::new_span_id();
        self.make_child(&mut record, parent);
        record.set_status(&span.status);
        for attribute in span.attributes {
            self.set_attribute(&mut record, attribute);
        }
        self.begin(&mut record);
        self.finish(record);
    }

    pub(super) fn close(self: &Arc<Self>, id: u64) {
        if let Some(record) = self.table.remove(id) {
            self.close_record(record);
        }
    }

    fn close_record(self: &Arc<Self>, mut record: RawSpan) {
        // A span ends when it was left for the last time. Its close comes later where children
        // or handles outlive it.
        let left = record.head.timing.busy > 0 && record.head.timing.entered == 0;
        let end = if left { record.head.timing.last } else { clock::now() };
        record.head.timing.end = end.max(record.head.timing.start);
        if record.head.timing.entered > 0 {
            record.head.timing.busy +=
                record.head.timing.end.saturating_sub(record.head.timing.last);
        }
        self.freeze(&mut record);
        self.finish(record);
    }

    /// Measures a span that has its end and gives it to the pipeline.
    pub(crate) fn finish(self: &Arc<Self>, mut record: RawSpan) {
        let recording = record.head.recording;
        self.core.ending(&mut record, recording);
        // Dropped here, where nothing is locked or borrowed: what a context holds may be foreign.
        drop(record.head.carried.take());
        let mut record = Some(record);
        let core = &self.core;
        self.local(|local| {
            if let Some(mut record) = record.take() {
                core.finish(&local.outbox, &mut record);
                local.recycle(record);
            }
        });
        if let Some(mut record) = record {
            // The thread has no state any more.
            core.handoff.with_shared(|shared| core.finish(shared, &mut record));
        }
    }

    /// The current OpenTelemetry context with the current span in it, final.
    pub(super) fn current_context(self: &Arc<Self>) -> Context {
        if !context_alive() {
            return Context::new();
        }
        let parent = self
            .contextual_parent(self.local(|local| local.top(self)).unwrap_or(Top::Unknown), || {
                None
            });
        let cx = Context::current();
        match parent {
            Parent::Ours(info) => {
                let context = info.context();
                if *cx.span().span_context() == context {
                    cx
                } else {
                    base_context(&info, |cx| cx.with_remote_span_context(context))
                }
            }
            Parent::None | Parent::Asked(_) | Parent::Foreign(_) => cx,
        }
    }

    pub(super) fn current_ids(self: &Arc<Self>) -> Option<(opentelemetry::trace::TraceId, SpanId)> {
        self.local(|local| local.stack.last().map(|top| (top.info.trace_id, top.info.span_id)))
            .flatten()
    }
}

/// The context that a span goes into: the current one within its trace; elsewhere, as in a task
/// of its own, the one that its local root carries, if it does.
pub(super) fn base_context<R>(info: &SpanInfo, act: impl FnOnce(&Context) -> R) -> R {
    match &info.carried {
        Some(carried) => {
            let is_inside = Context::map_current(|cx| {
                cx.is_telemetry_suppressed() || cx.span().span_context().trace_id() == info.trace_id
            });
            if is_inside { Context::map_current(act) } else { act(carried) }
        }
        None => Context::map_current(act),
    }
}

/// Whether the thread still has its stack of contexts: it is created before, and so destroyed
/// after, a value of our own that can be asked.
fn context_alive() -> bool {
    thread_local! {
        static ALIVE: Alive = Alive::new();
    }
    struct Alive;
    impl Alive {
        fn new() -> Self {
            Context::map_current(|_| ());
            Self
        }
    }
    // A destructor is what makes the value end with the thread.
    impl Drop for Alive {
        fn drop(&mut self) {}
    }
    ALIVE.try_with(|_| ()).is_ok()
}

fn text(text: &'static str) -> crate::span::Stored {
    crate::span::Stored::Text(Text::Static(text))
}

fn put(list: &mut AttributeList, key: Text, value: crate::span::Stored, limit: usize) {
    let position = list.position(list.resolve(key));
    match position {
        Some(position) => {
            list.replace(position, value);
            list.compact();
        }
        None if list.len() < limit => list.push(key, value),
        None => list.add_dropped(1),
    }
}

/// Takes over what `Span::record` has set.
fn merge(record: &mut SpanRecord, scratch: &SpanRecord, touched: Touched, limit: usize) {
    if touched.name {
        record.set_name(scratch.name());
    }
    if touched.kind {
        record.head.kind.clone_from(&scratch.head.kind);
    }
    if touched.status {
        match scratch.head.status {
            StatusCode::Unset => {}
            StatusCode::Ok => {
                record.head.status = StatusCode::Ok;
                record.status_message.clear();
            }
            StatusCode::Error => record.set_error(&scratch.status_message),
        }
    }
    record.error_type.absorb(&scratch.error_type);
    record.head.truncated |= scratch.head.truncated;
    let list = &mut record.attributes;
    if touched.exception {
        EXCEPTION.iter().for_each(|key| list.remove(key));
    }
    for slot in scratch.attributes.slots() {
        let value = list.copy_value(&scratch.attributes, &slot.value);
        let key = list.copy_text(&scratch.attributes, slot.key);
        put(list, key, value, limit);
    }
    list.add_dropped(scratch.attributes.dropped());
}

/// The place that a record of the `log` crate came from, which its fields tell.
fn log_origin(event: &Event<'_>, list: &mut AttributeList) {
    struct Origin<'a>(&'a mut AttributeList);
    impl tracing_core::field::Visit for Origin<'_> {
        fn record_debug(&mut self, _: &tracing_core::Field, _: &dyn std::fmt::Debug) {}

        fn record_str(&mut self, field: &tracing_core::Field, value: &str) {
            let key = match field.name() {
                "log.target" => "target",
                "log.module_path" => "code.module.name",
                "log.file" => "code.file.path",
                _ => return,
            };
            let value = self.0.append(value);
            self.0.push(Text::Static(key), crate::span::Stored::Text(value));
        }

        fn record_u64(&mut self, field: &tracing_core::Field, value: u64) {
            if let ("log.line", Ok(line)) = (field.name(), i64::try_from(value)) {
                let line = crate::span::Stored::I64(line);
                self.0.push(Text::Static("code.line.number"), line);
            }
        }
    }
    event.record(&mut Origin(list));
}
