//! From spans of `tracing` to records.
//!
//! Data flow: a new span takes a spare record and fills it ([`visit`]); while it is open it lies
//! in the [`table`]; entering puts what its children need on the thread's stack ([`local`]) and,
//! with context activation, an OpenTelemetry context in place ([`active`]); closing it finishes
//! the record and hands it to the pipeline.
//!
//! **Freezing.** The span id is made at creation. A child copies its parent's trace, flags and
//! decision and is final at once. A local root is provisional until it is frozen by its first
//! child, by injection, by `SpanExt::context` or `span_context`, or by its close; the head sampler
//! decides at that moment and nothing can change the root's parent any more.

mod callsite;
mod visit;

mod local;
mod table;

mod active;
mod layer;
mod spans;

mod bridge;
mod ext;
mod panic;
mod traced;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceContextExt, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};

use crate::clock;
use crate::pipeline::{Core, PipelineConfig};
use crate::sampling::{HeadInput, HeadSampler, ParentDecision};
use crate::span::{Link, SpanRecord};
use callsite::{Callsites, Rules};
use table::SpanTable;

pub use ext::{SetParentError, SpanExt};
pub use layer::Layer;
pub use panic::install_panic_hook;
pub use traced::traced;

pub(crate) use active::{parent_in, settle};
#[cfg(feature = "bridge")]
pub(crate) use bridge::BridgeLayer;
pub(crate) use layer::Mode;
use local::SpanInfo;

/// The capture of one pipeline.
pub(crate) struct Capture {
    id: u64,
    pub(crate) core: Arc<Core>,
    callsites: Callsites,
    table: SpanTable,
    head: HeadSampler,
    /// Tail rules may keep what the head drops, so everything is recorded.
    record_all: bool,
    activation: bool,
    /// Keys of baggage that become attributes of local roots.
    pub(crate) baggage_attributes: Box<[String]>,
    /// Local roots of open spans of the OpenTelemetry SDK.
    pub(crate) sdk_roots: Mutex<HashMap<SpanId, SpanId>>,
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("core", &self.core).finish_non_exhaustive()
    }
}

impl Capture {
    pub(crate) fn new(core: Arc<Core>, config: &PipelineConfig) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let rules = Rules {
            core: core.clone(),
            masker: config.masker.clone(),
            observed: config.observed_attributes.clone(),
            enabled: config.enabled.clone(),
            event_spans: config.event_spans.clone(),
        };
        let capture = Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            callsites: Callsites::new(rules),
            table: SpanTable::new(),
            head: config.sampler.compile(),
            record_all: !config.sampler.tail_rules().is_empty(),
            activation: config.context_activation,
            baggage_attributes: config.baggage_attributes.clone().into(),
            sdk_roots: Mutex::new(HashMap::new()),
            core,
        });
        active::register(&capture);
        capture
    }

    pub(crate) fn records_all(&self) -> bool {
        self.record_all
    }

    /// The head decision on a local root that is not one of `tracing`, and its trace state.
    /// `asked` is the decision of a caller that named no span.
    pub(crate) fn sample_root(
        &self,
        trace_id: TraceId,
        parent: Option<&SpanContext>,
        asked: Option<bool>,
        name: &str,
        kind: &SpanKind,
    ) -> (bool, TraceState) {
        let none = TraceState::NONE;
        let asked =
            asked.map(|sampled| ParentDecision { sampled, remote: true, trace_state: &none });
        let decision = self.head.decide(&HeadInput {
            now_nanos: clock::now(),
            trace_id,
            parent: parent
                .map(|parent| ParentDecision {
                    sampled: parent.is_sampled(),
                    remote: parent.is_remote(),
                    trace_state: parent.trace_state(),
                })
                .or(asked),
            name,
            kind,
        });
        let state = decision.trace_state;
        let inherited = || parent.map(|parent| parent.trace_state().clone()).unwrap_or_default();
        (decision.sampled, state.unwrap_or_else(inherited))
    }

    /// Makes ids and head decision of a local root final.
    fn freeze(&self, record: &mut SpanRecord) {
        if record.head.frozen {
            return;
        }
        record.head.frozen = true;
        let none = TraceState::NONE;
        let has_parent = record.head.parent_span_id != SpanId::INVALID;
        let parent = (has_parent || record.head.asked.is_some()).then(|| ParentDecision {
            sampled: record.head.asked.unwrap_or_else(|| record.head.flags.is_sampled()),
            remote: record.head.parent_is_remote || !has_parent,
            trace_state: record.head.trace_state.as_deref().unwrap_or(&none),
        });
        let decision = self.head.decide(&HeadInput {
            now_nanos: clock::now(),
            trace_id: record.head.trace_id,
            parent,
            name: record.name(),
            kind: &record.head.kind,
        });
        record.head.flags = record.head.flags.with_sampled(decision.sampled);
        record.head.head_sampled = decision.sampled;
        if let Some(state) = decision.trace_state {
            let empty = state == TraceState::NONE;
            record.head.trace_state = (!empty).then(|| Arc::new(state));
        }
        self.set_recording(record, decision.sampled || self.record_all);
    }

    fn set_recording(&self, record: &mut SpanRecord, recording: bool) {
        record.head.recording = recording;
        if !recording {
            record.attributes.retain(|key| self.callsites.is_observed(key));
            record.forget_events_and_links();
        }
    }

    /// Makes `record` a root that can still get a parent.
    fn make_root(record: &mut SpanRecord, trace_id: TraceId) {
        record.head.trace_id = trace_id;
        record.head.flags = active::NEW_TRACE_FLAGS;
        record.head.local_root = record.head.span_id;
    }

    /// Makes `record` a child of a span in this process; that is final.
    fn make_child(&self, record: &mut SpanRecord, parent: &SpanInfo) {
        record.head.trace_id = parent.trace_id;
        record.head.parent_span_id = parent.span_id;
        record.head.flags = parent.flags;
        record.head.local_root = parent.local_root;
        record.head.trace_state.clone_from(&parent.trace_state);
        record.head.carried.clone_from(&parent.carried);
        record.head.head_sampled = parent.head_sampled;
        record.head.recording = parent.recording;
        record.head.frozen = true;
    }

    /// Makes `record` a child of a span that is not ours: in another process, or of the SDK.
    fn make_child_of(&self, record: &mut SpanRecord, parent: &SpanContext) {
        record.head.trace_id = parent.trace_id();
        record.head.parent_span_id = parent.span_id();
        record.head.parent_is_remote = parent.is_remote();
        record.head.flags = parent.trace_flags();
        let (state, caller) = crate::propagation::service_member::split(parent.trace_state());
        let empty = state == TraceState::NONE;
        record.head.trace_state = (!empty).then(|| Arc::new(state));
        record.head.caller = caller.map(Arc::from);
        if parent.is_remote() {
            record.head.local_root = record.head.span_id;
            return;
        }
        // A span of the SDK has decided already.
        let roots = crate::sync::lock(&self.sdk_roots);
        record.head.local_root = roots.get(&parent.span_id()).copied().unwrap_or(parent.span_id());
        drop(roots);
        record.head.head_sampled = record.head.flags.is_sampled();
        record.head.recording = record.head.head_sampled || self.record_all;
        record.head.frozen = true;
    }

    /// The chosen entries of the baggage become attributes.
    fn describe_baggage(&self, record: &mut SpanRecord, cx: &Context) {
        for key in &self.baggage_attributes {
            if let Some(value) = cx.baggage().get(key) {
                let value = value.as_str().to_owned();
                self.set_attribute(record, KeyValue::new(key.clone(), value));
            }
        }
    }

    fn set_attribute(&self, record: &mut SpanRecord, attribute: KeyValue) {
        if record.head.recording || self.callsites.is_observed(attribute.key.as_str()) {
            let value = self.bounded(record, attribute.value);
            record.attributes.set(&attribute.key, value, self.core.limits.attributes);
        }
    }

    fn bounded(
        &self,
        record: &mut SpanRecord,
        value: opentelemetry::Value,
    ) -> opentelemetry::Value {
        if let opentelemetry::Value::String(text) = &value {
            let kept = visit::cut(text.as_str(), self.core.limits.value_bytes);
            if kept.len() < text.as_str().len() {
                record.head.truncated = true;
                return kept.to_owned().into();
            }
        }
        value
    }

    fn add_link(&self, record: &mut SpanRecord, context: SpanContext, attributes: Vec<KeyValue>) {
        let limit = self.core.limits.attributes_per_link;
        let dropped = attributes.len().saturating_sub(limit);
        let mut attributes = attributes;
        attributes.truncate(limit);
        if record.head.recording {
            let dropped_attributes = u32::try_from(dropped).unwrap_or(u32::MAX);
            record
                .add_link(Link { context, attributes, dropped_attributes }, self.core.limits.links);
        }
    }
}

/// The context that injection sends: that of the current span, made final.
pub(crate) fn context_for_injection() -> Context {
    layer::current(|capture| capture.current_context()).unwrap_or_else(Context::current)
}

/// `cx` with the ids of its span final, where that is an open span of ours: what leaves the
/// process must not change any more.
pub(crate) fn settled(cx: &Context) -> Cow<'_, Context> {
    match settle(cx) {
        Some((_, info)) => with_ids(cx, Some(info.context())),
        None => with_ids(cx, parent_in(cx)),
    }
}

fn with_ids(cx: &Context, ids: Option<SpanContext>) -> Cow<'_, Context> {
    match ids {
        Some(ids) if ids != *cx.span().span_context() => {
            Cow::Owned(cx.with_remote_span_context(ids))
        }
        _ => Cow::Borrowed(cx),
    }
}

/// The ids of the current span of the default subscriber's capture, without making them final;
/// else those of the current OpenTelemetry span. For log lines.
pub fn current_ids() -> Option<(TraceId, SpanId)> {
    layer::current(|capture| capture.current_ids()).flatten().or_else(|| {
        Context::map_current(|cx| {
            let span = cx.span();
            let context = span.span_context();
            context.is_valid().then(|| (context.trace_id(), context.span_id()))
        })
    })
}
