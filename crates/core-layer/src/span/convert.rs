//! Between spans of the OpenTelemetry SDK and records.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{Event, Link as SdkLink, SpanId, Status, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::attributes::Attributes;
use super::error_type::Source;
use super::masked::{Extras, MaskedBatch, MaskedSpan};
use super::record::{EventHead, Link, RawSpan, SpanRecord, StatusCode};
use crate::masking::Masker;

fn unix_nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn system_time(unix_nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(unix_nanos)
}

impl RawSpan {
    /// Takes over what the SDK has collected. `local_root` is the topmost span of the trace in
    /// this process.
    pub(crate) fn fill_from_sdk(&mut self, data: SpanData, local_root: SpanId) {
        let record: &mut SpanRecord = self;
        record.reset();
        record.head.metadata = None;
        record.head.callsite = u32::MAX;
        record.head.trace_id = data.span_context.trace_id();
        record.head.span_id = data.span_context.span_id();
        record.head.parent_span_id = data.parent_span_id;
        record.head.parent_is_remote = data.parent_span_is_remote;
        record.head.flags = data.span_context.trace_flags();
        record.head.head_sampled = record.head.flags.is_sampled();
        record.head.local_root = local_root;
        let state = data.span_context.trace_state();
        record.head.trace_state = (*state != TraceState::NONE).then(|| Arc::new(state.clone()));
        record.set_name(&data.name);
        record.head.kind = data.span_kind;
        record.head.timing.start = unix_nanos(data.start_time);
        record.head.timing.end = unix_nanos(data.end_time).max(record.head.timing.start);
        match &data.status {
            Status::Unset => {}
            Status::Ok => record.head.status = StatusCode::Ok,
            Status::Error { description } => record.set_error(description),
        }
        fill(&mut record.attributes, data.attributes);
        record.attributes.add_dropped(data.dropped_attributes_count);
        for event in data.events.events {
            fill_event(record, event);
        }
        record.head.dropped_events = data.events.dropped_count;
        record.links.extend(data.links.links.into_iter().map(|link| Link {
            context: link.span_context,
            attributes: link.attributes,
            dropped_attributes: link.dropped_attributes_count,
        }));
        record.head.dropped_links = data.links.dropped_count;
        record.head.scope = Some(Arc::new(data.instrumentation_scope));
        record.classify_error();
    }
}

fn fill(list: &mut Attributes, attributes: Vec<KeyValue>) {
    for attribute in attributes {
        let key = list.append(attribute.key.as_str());
        let value = list.store(attribute.value);
        list.push(key, value);
    }
}

fn fill_event(record: &mut SpanRecord, event: Event) {
    let own = &mut record.event_attributes;
    let name = own.append(&event.name);
    let first = own.len() as u32;
    fill(own, event.attributes);
    let count = own.len() as u32 - first;
    let time = unix_nanos(event.timestamp);
    let dropped = event.dropped_attributes_count;
    record.events.push(EventHead { name, time, first, count, dropped, origin: None });
}

impl SpanRecord {
    /// Offers what the attributes and events tell of the error's class.
    pub(crate) fn classify_error(&mut self) {
        let mut class = std::mem::take(&mut self.error_type);
        if let Some(kind) = self.attributes.get("error.type") {
            class.offer(Source::Field, &kind.to_string());
        }
        for key in ["http.response.status_code", "rpc.status_code", "rpc.grpc.status_code"] {
            match self.attributes.get(key) {
                Some(super::AttributeValue::I64(code)) => class.offer_status(key, code),
                Some(super::AttributeValue::Str(code)) => class.offer_code(code),
                _ => {}
            }
        }
        if let Some(super::AttributeValue::Str(code)) =
            self.attributes.get("db.response.status_code")
        {
            class.offer_code(code);
        }
        for event in self.events().filter(|event| event.name() == "exception") {
            for (key, value) in event.attributes() {
                if key == "exception.type" {
                    class.offer(Source::RecordedType, &value.to_string());
                }
            }
        }
        self.error_type = class;
    }

    /// The span as the SDK's exporters want it. Copies everything.
    pub fn to_span_data(&self) -> SpanData {
        let events = self
            .events()
            .map(|event| {
                let attributes = event
                    .attributes()
                    .map(|(key, value)| KeyValue::new(key.to_owned(), value.to_value()))
                    .collect();
                Event::new(
                    event.name().to_owned(),
                    system_time(event.time_unix_nano()),
                    attributes,
                    event.dropped_attributes(),
                )
            })
            .collect();
        let links = self
            .links
            .iter()
            .map(|link| {
                SdkLink::new(link.context.clone(), link.attributes.clone(), link.dropped_attributes)
            })
            .collect();
        let mut span_events = SpanEvents::default();
        span_events.events = events;
        span_events.dropped_count = self.head.dropped_events;
        let mut span_links = SpanLinks::default();
        span_links.links = links;
        span_links.dropped_count = self.head.dropped_links;
        SpanData {
            span_context: self.context(),
            parent_span_id: self.head.parent_span_id,
            parent_span_is_remote: self.head.parent_is_remote,
            span_kind: self.head.kind.clone(),
            name: match self.static_name() {
                Some(name) => name.into(),
                None => self.name().to_owned().into(),
            },
            start_time: system_time(self.start_unix_nano()),
            end_time: system_time(self.end_unix_nano()),
            attributes: Vec::from(&self.attributes),
            dropped_attributes_count: self.attributes.dropped(),
            events: span_events,
            links: span_links,
            status: match self.head.status {
                StatusCode::Unset => Status::Unset,
                StatusCode::Ok => Status::Ok,
                StatusCode::Error => Status::error(self.status_message.clone()),
            },
            instrumentation_scope: self
                .head
                .scope
                .as_deref()
                .cloned()
                .unwrap_or_else(default_scope),
        }
    }
}

/// The instrumentation scope of spans made with `tracing`.
pub fn default_scope() -> InstrumentationScope {
    InstrumentationScope::builder("spanweave").with_version(env!("CARGO_PKG_VERSION")).build()
}

impl MaskedBatch {
    /// Masks spans of the OpenTelemetry SDK, for exporters that are used under the stock SDK.
    pub fn from_sdk(spans: Vec<SpanData>, resource: Arc<Resource>, masker: &Masker) -> Self {
        let extras = Extras::none();
        let spans = spans
            .into_iter()
            .map(|data| MaskedSpan::new(stand_alone(data), masker, extras))
            .collect();
        Self::new(spans, resource, Weak::new())
    }
}

/// Shows a span of the OpenTelemetry SDK to `look` as an observer would see it, for span metrics
/// that are used under the stock SDK.
pub fn observe_sdk_span<T>(data: SpanData, look: impl FnOnce(&crate::SpanEnd<'_>) -> T) -> T {
    look(&crate::SpanEnd::new(&stand_alone(data)))
}

/// A span of the stock SDK. Only of a root is it known what the local root is.
fn stand_alone(data: SpanData) -> RawSpan {
    let root = if data.parent_span_id == SpanId::INVALID || data.parent_span_is_remote {
        data.span_context.span_id()
    } else {
        SpanId::INVALID
    };
    let mut raw = RawSpan::default();
    raw.fill_from_sdk(data, root);
    raw
}
