//! OTLP JSON: one `TracesData` a line, as the file exporters of OpenTelemetry write it.
//!
//! Ids are lower-case hex, enums integers, 64-bit integers text, names lowerCamelCase. Fields
//! with their default value are left out.

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use spanweave_core::MaskedBatch;
use spanweave_core::span::{
    AttributeValue, EventView, Link, SpanRecord, StatusCode, default_scope,
};

use super::json::Json;
use super::scopes::by_scope;
use super::values;

/// A batch as one line, its newline included.
pub(crate) fn otlp_json_line(batch: &MaskedBatch) -> Vec<u8> {
    let mut out = Vec::with_capacity(batch.len() * 512);
    Json::new(&mut out).object(|json| {
        json.key("resourceSpans").array(|json| {
            json.object(|json| {
                write_resource(json, batch.resource());
                json.key("scopeSpans").array(|json| {
                    for (scope, spans) in by_scope(batch.spans()) {
                        json.object(|json| {
                            match scope {
                                Some(scope) => write_scope(json, scope),
                                None => write_scope(json, &default_scope()),
                            }
                            json.key("spans").array(|json| {
                                spans.iter().for_each(|span| write_span(json, span));
                            });
                        });
                    }
                });
            });
        });
    });
    out.push(b'\n');
    out
}

fn write_resource(json: &mut Json<'_>, resource: &Resource) {
    json.key("resource").object(|json| {
        let all = resource.iter().map(|(key, value)| (key.as_str(), values::borrow(value)));
        write_attributes(json, all);
    });
    if let Some(url) = resource.schema_url() {
        json.key("schemaUrl").text(url);
    }
}

fn write_scope(json: &mut Json<'_>, scope: &InstrumentationScope) {
    json.key("scope").object(|json| {
        json.key("name").text(scope.name());
        if let Some(version) = scope.version() {
            json.key("version").text(version);
        }
        write_attributes(json, scope.attributes().map(pair));
    });
    if let Some(url) = scope.schema_url() {
        json.key("schemaUrl").text(url);
    }
}

fn write_span(json: &mut Json<'_>, span: &SpanRecord) {
    json.object(|json| {
        json.key("traceId").hex(&span.trace_id().to_bytes());
        json.key("spanId").hex(&span.span_id().to_bytes());
        if let Some(state) = span.trace_state() {
            json.key("traceState").text(&state.header());
        }
        if let Some(parent) = span.parent_span_id() {
            json.key("parentSpanId").hex(&parent.to_bytes());
        }
        json.key("flags").number(values::span_flags(span));
        json.key("name").text(span.name());
        json.key("kind").number(values::kind(span.kind()));
        json.key("startTimeUnixNano").plain(span.start_unix_nano());
        json.key("endTimeUnixNano").plain(span.end_unix_nano());
        write_attributes(json, span.attributes().iter());
        write_count(json, "droppedAttributesCount", span.attributes().dropped());
        if span.events().len() > 0 {
            json.key("events").array(|json| {
                span.events().for_each(|event| write_event(json, &event));
            });
        }
        write_count(json, "droppedEventsCount", span.dropped_events());
        if !span.links().is_empty() {
            json.key("links").array(|json| {
                span.links().iter().for_each(|link| write_link(json, link));
            });
        }
        write_count(json, "droppedLinksCount", span.dropped_links());
        json.key("status").object(|json| {
            if !span.status_message().is_empty() {
                json.key("message").text(span.status_message());
            }
            if span.status() != StatusCode::Unset {
                json.key("code").number(values::status(span.status()));
            }
        });
    });
}

fn write_event(json: &mut Json<'_>, event: &EventView<'_>) {
    json.object(|json| {
        json.key("timeUnixNano").plain(event.time_unix_nano());
        json.key("name").text(event.name());
        write_attributes(json, event.attributes());
        write_count(json, "droppedAttributesCount", event.dropped_attributes());
    });
}

fn write_link(json: &mut Json<'_>, link: &Link) {
    json.object(|json| {
        json.key("traceId").hex(&link.context.trace_id().to_bytes());
        json.key("spanId").hex(&link.context.span_id().to_bytes());
        let state = link.context.trace_state().header();
        if !state.is_empty() {
            json.key("traceState").text(&state);
        }
        write_attributes(json, link.attributes.iter().map(pair));
        write_count(json, "droppedAttributesCount", link.dropped_attributes);
        json.key("flags").number(values::link_flags(&link.context));
    });
}

fn write_count(json: &mut Json<'_>, key: &str, count: u32) {
    if count > 0 {
        json.key(key).number(count);
    }
}

fn pair(attribute: &KeyValue) -> (&str, AttributeValue<'_>) {
    (attribute.key.as_str(), values::borrow(&attribute.value))
}

fn write_attributes<'a>(
    json: &mut Json<'_>,
    attributes: impl Iterator<Item = (&'a str, AttributeValue<'a>)>,
) {
    let mut attributes = attributes.peekable();
    if attributes.peek().is_none() {
        return;
    }
    json.key("attributes").array(|json| {
        for (key, value) in attributes {
            json.object(|json| {
                json.key("key").text(key);
                json.key("value");
                write_value(json, value);
            });
        }
    });
}

fn write_value(json: &mut Json<'_>, value: AttributeValue<'_>) {
    json.object(|json| match value {
        AttributeValue::Str(text) => json.key("stringValue").text(text),
        AttributeValue::Bool(value) => json.key("boolValue").bool(value),
        AttributeValue::I64(value) => json.key("intValue").plain(value),
        AttributeValue::F64(value) => json.key("doubleValue").double(value),
        AttributeValue::Array(array) => json.key("arrayValue").object(|json| {
            json.key("values").array(|json| {
                values::for_each(array, |value| write_value(json, value));
            });
        }),
    });
}
