//! One JSON object a span and line, for reading with line tools such as `jq` and `grep`.

use opentelemetry::Key;
use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::Resource;
use spanweave_core::MaskedBatch;
use spanweave_core::span::{AttributeValue, EventView, SpanRecord};

use super::json::Json;
use super::values;
use super::{duration_text, rfc3339};

/// A batch as lines, one a span.
pub(crate) fn spans_json_lines(batch: &MaskedBatch) -> Vec<u8> {
    let mut out = Vec::with_capacity(batch.len() * 512);
    let service = service_name(batch.resource());
    for span in batch.spans() {
        Json::new(&mut out).object(|json| write_span(json, span, &service));
        out.push(b'\n');
    }
    out
}

fn service_name(resource: &Resource) -> String {
    resource
        .get_ref(&Key::from_static_str("service.name"))
        .map_or_else(String::new, |name| name.as_str().into_owned())
}

fn write_span(json: &mut Json<'_>, span: &SpanRecord, service: &str) {
    json.key("traceID").hex(&span.trace_id().to_bytes());
    json.key("spanID").hex(&span.span_id().to_bytes());
    match span.parent_span_id() {
        Some(parent) => json.key("parentSpanID").hex(&parent.to_bytes()),
        None => json.key("parentSpanID").plain(""),
    }
    json.key("serviceName").text(service);
    json.key("operationName").text(span.name());
    json.key("kind").plain(kind(span.kind()));
    json.key("startTime").plain(rfc3339(span.start_unix_nano()));
    json.key("endTime").plain(rfc3339(span.end_unix_nano()));
    json.key("duration").plain(duration_text(span.duration_nanos()));
    json.key("status").plain(span.status().as_str());
    if !span.status_message().is_empty() {
        json.key("statusMessage").text(span.status_message());
    }
    json.key("tags").object(|json| write_fields(json, span.attributes().iter()));
    json.key("logs").array(|json| {
        span.events().for_each(|event| write_log(json, &event));
    });
    if !span.links().is_empty() {
        json.key("links").array(|json| {
            for link in span.links() {
                json.object(|json| {
                    json.key("traceID").hex(&link.context.trace_id().to_bytes());
                    json.key("spanID").hex(&link.context.span_id().to_bytes());
                });
            }
        });
    }
}

fn write_log(json: &mut Json<'_>, event: &EventView<'_>) {
    json.object(|json| {
        json.key("timestamp").plain(rfc3339(event.time_unix_nano()));
        json.key("message").text(event.name());
        json.key("fields").object(|json| write_fields(json, event.attributes()));
    });
}

fn write_fields<'a>(
    json: &mut Json<'_>,
    attributes: impl Iterator<Item = (&'a str, AttributeValue<'a>)>,
) {
    for (key, value) in attributes {
        json.key(key);
        write_value(json, value);
    }
}

fn write_value(json: &mut Json<'_>, value: AttributeValue<'_>) {
    match value {
        AttributeValue::Str(text) => json.text(text),
        AttributeValue::Bool(value) => json.bool(value),
        AttributeValue::I64(value) => json.number(value),
        AttributeValue::F64(value) => json.double(value),
        AttributeValue::Array(array) => json.array(|json| {
            values::for_each(array, |value| write_value(json, value));
        }),
    }
}

fn kind(kind: &SpanKind) -> &'static str {
    match kind {
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}
