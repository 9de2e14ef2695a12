//! Spans made with the OpenTelemetry API: a tracer provider of the SDK whose sampler, ids and
//! processor are the pipeline's, so that they are sampled, measured, masked and delivered like
//! spans of `tracing`, and share their traces.

use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{
    Link, Span as _, SpanId, SpanKind, TraceContextExt, TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    IdGenerator, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample, Span, SpanData,
    SpanProcessor,
};

use crate::capture::{Capture, parent_in, settle};
use crate::clock;
use crate::ids;
use crate::span::{RawSpan, SpanLimits};
use crate::sync::lock;

/// The provider whose spans enter the pipeline of `capture`.
pub(crate) fn provider(
    capture: &Arc<Capture>,
    resource: Resource,
    limits: SpanLimits,
) -> SdkTracerProvider {
    let count = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
    SdkTracerProvider::builder()
        .with_resource(resource)
        .with_id_generator(Ids)
        .with_sampler(PipelineSampler(Arc::downgrade(capture)))
        .with_span_processor(PipelineProcessor(Arc::downgrade(capture)))
        .with_max_attributes_per_span(count(limits.attributes))
        .with_max_events_per_span(count(limits.events))
        .with_max_links_per_span(count(limits.links))
        .with_max_attributes_per_event(count(limits.attributes_per_event))
        .with_max_attributes_per_link(count(limits.attributes_per_link))
        .build()
}

#[derive(Debug)]
struct Ids;

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        ids::new_trace_id()
    }

    fn new_span_id(&self) -> SpanId {
        ids::new_span_id()
    }
}

/// The pipeline's head sampler. What it drops is recorded all the same, so that metrics see it.
#[derive(Clone, Debug)]
struct PipelineSampler(Weak<Capture>);

impl ShouldSample for PipelineSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        _attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let (sampled, trace_state) = match self.0.upgrade() {
            Some(capture) => capture.sample_sdk_span(parent, trace_id, name, kind),
            None => (false, TraceState::NONE),
        };
        SamplingResult {
            decision: if sampled {
                SamplingDecision::RecordAndSample
            } else {
                SamplingDecision::RecordOnly
            },
            attributes: Vec::new(),
            trace_state,
        }
    }
}

#[derive(Debug)]
struct PipelineProcessor(Weak<Capture>);

impl SpanProcessor for PipelineProcessor {
    fn on_start(&self, span: &mut Span, parent: &Context) {
        if let Some(capture) = self.0.upgrade() {
            capture.sdk_span_started(span, parent);
        }
    }

    fn on_end(&self, span: SpanData) {
        if let Some(capture) = self.0.upgrade() {
            capture.sdk_span_ended(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        if let Some(capture) = self.0.upgrade() {
            capture.core.signal.wake();
        }
        Ok(())
    }

    /// The pipeline goes on: it belongs to `Pipeline`.
    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Capture {
    fn sample_sdk_span(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
    ) -> (bool, TraceState) {
        if let Some((_, info)) = parent.and_then(settle) {
            let state = info.trace_state.as_deref().cloned().unwrap_or_default();
            return (info.head_sampled, state);
        }
        let asked = parent.and_then(crate::propagation::decision_without_ids);
        let parent = parent.and_then(parent_in);
        if let Some(parent) = &parent
            && !parent.is_remote()
        {
            return (parent.trace_flags().is_sampled(), parent.trace_state().clone());
        }
        self.sample_root(trace_id, parent.as_ref(), asked, name, kind)
    }

    fn sdk_span_started(&self, span: &mut Span, parent: &Context) {
        let context = span.span_context().clone();
        let parent_context = parent.span().span_context().clone();
        let root = match settle(parent) {
            Some((_, info)) => info.local_root,
            None if parent_context.is_valid() && !parent_context.is_remote() => {
                let roots = lock(&self.sdk_roots);
                roots.get(&parent_context.span_id()).copied().unwrap_or(context.span_id())
            }
            None => context.span_id(),
        };
        lock(&self.sdk_roots).insert(context.span_id(), root);
        if root == context.span_id() {
            for key in &self.baggage_attributes {
                if let Some(value) = parent.baggage().get(key) {
                    span.set_attribute(KeyValue::new(key.clone(), value.as_str().to_owned()));
                }
            }
        }
    }

    fn sdk_span_ended(self: &Arc<Self>, data: SpanData) {
        let root = lock(&self.sdk_roots).remove(&data.span_context.span_id());
        let mut record = RawSpan::default();
        let root = root.unwrap_or(data.span_context.span_id());
        record.fill_from_sdk(data, root);
        record.head.frozen = true;
        let (state, caller) = match record.head.trace_state.as_deref() {
            Some(state) => crate::propagation::service_member::split(state),
            None => (TraceState::NONE, None),
        };
        record.head.trace_state = (state != TraceState::NONE).then(|| Arc::new(state));
        record.head.caller = caller.map(Arc::from);
        record.head.recording = record.head.head_sampled || self.records_all();
        if record.head.timing.start == 0 {
            record.head.timing.start = clock::unix_nanos();
            record.head.timing.end = record.head.timing.end.max(record.head.timing.start);
        }
        self.begin(&mut record);
        self.finish(record);
    }
}
