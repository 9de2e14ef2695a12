//! Spans for unit tests: times in milliseconds from a fixed point.

use std::sync::Arc;

use super::{SpanId, SpanKind, StatusCode, StoredSpan, TraceId, Transport};

pub(crate) const MS: u64 = 1_000_000;
const EPOCH: u64 = 1_700_000_000_000 * MS;

pub(crate) fn trace_id(n: u64) -> TraceId {
    TraceId::from_bytes(&u128::from(n).to_be_bytes()).expect("not zero")
}

pub(crate) fn span_id(n: u64) -> SpanId {
    SpanId::from_bytes(&n.to_be_bytes()).expect("not zero")
}

/// A span of trace 1 with span id `id`; `parent` 0 is none.
pub(crate) fn span(id: u64, parent: u64, start_ms: u64, end_ms: u64) -> StoredSpan {
    StoredSpan {
        trace_id: trace_id(1),
        span_id: span_id(id),
        parent: SpanId::from_bytes(&parent.to_be_bytes()),
        name: format!("op{id}"),
        kind: SpanKind::Internal,
        service: "shop".to_owned(),
        start_ns: EPOCH + start_ms * MS,
        end_ns: EPOCH + end_ms * MS,
        status: StatusCode::Unset,
        status_message: String::new(),
        attributes: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
        flags: 1,
        trace_state: String::new(),
        dropped_attributes: 0,
        dropped_events: 0,
        dropped_links: 0,
        scope: Arc::default(),
        resource: Arc::default(),
        via: Transport::Grpc,
    }
}

impl StoredSpan {
    pub(crate) fn of(mut self, service: &str, name: &str, kind: SpanKind) -> Self {
        service.clone_into(&mut self.service);
        name.clone_into(&mut self.name);
        self.kind = kind;
        self
    }

    pub(crate) fn in_trace(mut self, n: u64) -> Self {
        self.trace_id = trace_id(n);
        self
    }

    pub(crate) fn failed(mut self, message: &str) -> Self {
        self.status = StatusCode::Error;
        message.clone_into(&mut self.status_message);
        self
    }

    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.attributes.push((key.to_owned(), value.into()));
        self
    }
}
