//! Spans for tests.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use spanweave_core::MaskedBatch;
use spanweave_core::masking::Masker;

/// A minimal span.
pub(crate) fn span_data(trace: u128, span: u64, parent: Option<u64>, name: &str) -> SpanData {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    SpanData {
        span_context: SpanContext::new(
            TraceId::from(trace),
            SpanId::from(span),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.to_owned().into(),
        start_time: start,
        end_time: start + Duration::from_millis(1),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: spanweave_core::span::default_scope(),
    }
}

pub(crate) fn resource() -> Arc<Resource> {
    Arc::new(Resource::builder_empty().with_service_name("test").build())
}

pub(crate) fn batch(spans: Vec<SpanData>) -> MaskedBatch {
    MaskedBatch::from_sdk(spans, resource(), &Masker::default())
}
