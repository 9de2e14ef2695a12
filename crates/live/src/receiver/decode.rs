//! From `opentelemetry-proto`'s message to plain spans.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span, span, status};

use crate::model::{
    Event, Link, Resource, Scope, SpanId, SpanKind, StatusCode, StoredSpan, TraceId, Transport,
    Value,
};

/// The name that OpenTelemetry gives to a service without one.
const UNKNOWN_SERVICE: &str = "unknown_service";

pub(super) struct Decoded {
    pub(super) spans: Vec<StoredSpan>,
    /// Spans whose trace id or span id is not one.
    pub(super) invalid: u64,
}

pub(super) fn decode(request: ExportTraceServiceRequest, via: Transport) -> Decoded {
    let mut decoded = Decoded { spans: Vec::new(), invalid: 0 };
    for ResourceSpans { resource, scope_spans, schema_url } in request.resource_spans {
        let resource = Arc::new(Resource {
            attributes: resource
                .map(|resource| attributes(resource.attributes))
                .unwrap_or_default(),
            schema_url,
        });
        let service = resource
            .attributes
            .iter()
            .rev()
            .find(|(key, _)| key == "service.name")
            .and_then(|(_, value)| value.as_str())
            .filter(|name| !name.is_empty())
            .unwrap_or(UNKNOWN_SERVICE);
        for scope_spans in scope_spans {
            let scope = Arc::new(scope_spans.scope.map(scope).unwrap_or_default());
            for span in scope_spans.spans {
                match stored(span, service, &scope, &resource, via) {
                    Some(span) => decoded.spans.push(span),
                    None => decoded.invalid += 1,
                }
            }
        }
    }
    decoded
}

fn stored(
    span: Span,
    service: &str,
    scope: &Arc<Scope>,
    resource: &Arc<Resource>,
    via: Transport,
) -> Option<StoredSpan> {
    let (status, status_message) = match span.status {
        Some(sent) => (
            match sent.code() {
                status::StatusCode::Unset => StatusCode::Unset,
                status::StatusCode::Ok => StatusCode::Ok,
                status::StatusCode::Error => StatusCode::Error,
            },
            sent.message,
        ),
        None => (StatusCode::Unset, String::new()),
    };
    Some(StoredSpan {
        trace_id: TraceId::from_bytes(&span.trace_id)?,
        span_id: SpanId::from_bytes(&span.span_id)?,
        parent: SpanId::from_bytes(&span.parent_span_id),
        kind: match span::SpanKind::try_from(span.kind).unwrap_or_default() {
            span::SpanKind::Unspecified => SpanKind::Unspecified,
            span::SpanKind::Internal => SpanKind::Internal,
            span::SpanKind::Server => SpanKind::Server,
            span::SpanKind::Client => SpanKind::Client,
            span::SpanKind::Producer => SpanKind::Producer,
            span::SpanKind::Consumer => SpanKind::Consumer,
        },
        name: span.name,
        service: service.to_owned(),
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        status,
        status_message,
        attributes: attributes(span.attributes),
        events: span
            .events
            .into_iter()
            .map(|event| Event {
                name: event.name,
                time_ns: event.time_unix_nano,
                attributes: attributes(event.attributes),
            })
            .collect(),
        links: span.links.into_iter().filter_map(link).collect(),
        flags: span.flags,
        trace_state: span.trace_state,
        dropped_attributes: span.dropped_attributes_count,
        dropped_events: span.dropped_events_count,
        dropped_links: span.dropped_links_count,
        scope: Arc::clone(scope),
        resource: Arc::clone(resource),
        via,
    })
}

/// A link to nowhere is left out.
fn link(link: span::Link) -> Option<Link> {
    Some(Link {
        trace_id: TraceId::from_bytes(&link.trace_id)?,
        span_id: SpanId::from_bytes(&link.span_id)?,
        trace_state: link.trace_state,
        flags: link.flags,
        attributes: attributes(link.attributes),
    })
}

fn scope(scope: InstrumentationScope) -> Scope {
    Scope { name: scope.name, version: scope.version, attributes: attributes(scope.attributes) }
}

fn attributes(sent: Vec<KeyValue>) -> Vec<(String, Value)> {
    sent.into_iter().map(|entry| (entry.key, value(entry.value))).collect()
}

/// The decoders bound the depth (prost 100, serde_json 128), so this recursion is bounded too.
fn value(sent: Option<AnyValue>) -> Value {
    match sent.and_then(|sent| sent.value) {
        Some(any_value::Value::StringValue(text)) => Value::String(text),
        Some(any_value::Value::BoolValue(value)) => Value::Bool(value),
        Some(any_value::Value::IntValue(value)) => Value::Int(value),
        Some(any_value::Value::DoubleValue(value)) => Value::Double(value),
        Some(any_value::Value::BytesValue(bytes)) => Value::Bytes(bytes),
        Some(any_value::Value::ArrayValue(array)) => {
            Value::Array(array.values.into_iter().map(|element| value(Some(element))).collect())
        }
        Some(any_value::Value::KvlistValue(list)) => Value::Map(attributes(list.values)),
        // An index into the string table of the profiles signal means nothing here.
        Some(any_value::Value::StringValueStrindex(_)) | None => Value::Empty,
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::ScopeSpans;

    use super::*;

    #[test]
    fn a_span_without_valid_ids_is_counted_and_the_others_stay() {
        let span = |trace: u8, id: &[u8]| Span {
            trace_id: vec![trace; 16],
            span_id: id.to_vec(),
            ..Span::default()
        };
        let decoded = decode(
            ExportTraceServiceRequest {
                resource_spans: vec![ResourceSpans {
                    scope_spans: vec![ScopeSpans {
                        spans: vec![span(0, &[1; 8]), span(1, &[1; 7]), span(1, &[1; 8])],
                        ..ScopeSpans::default()
                    }],
                    ..ResourceSpans::default()
                }],
            },
            Transport::Grpc,
        );
        assert_eq!(decoded.invalid, 2);
        assert_eq!(decoded.spans.len(), 1);
        assert_eq!(decoded.spans[0].service, UNKNOWN_SERVICE);
        assert_eq!(decoded.spans[0].parent, None);
    }
}
