//! Jaeger's own JSON, as its page reads and writes it.
//!
//! A file of it is one document, in which all spans of a trace stand together; so a batch becomes
//! pieces that the file's lane puts together.

use std::collections::BTreeMap;

use opentelemetry::Key;
use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry_sdk::Resource;
use spanweave_core::MaskedBatch;
use spanweave_core::span::{AttributeValue, SpanRecord, StatusCode};

use super::json::Json;
use super::values;

/// The spans of a batch, in text, by trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JaegerBatch {
    /// The process that made them.
    process: String,
    spans: Vec<(TraceId, String)>,
}

impl JaegerBatch {
    pub(crate) fn of(batch: &MaskedBatch) -> Self {
        let spans = batch.spans().iter();
        Self {
            process: text(|json| write_process(json, batch.resource())),
            spans: spans.map(|span| (span.trace_id(), text(|j| write_span(j, span)))).collect(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.process.len() + self.spans.iter().map(|(_, span)| span.len() + 32).sum::<usize>()
    }
}

/// Traces that grow span by span.
#[derive(Debug, Default)]
pub(crate) struct JaegerTraces {
    traces: BTreeMap<[u8; 16], Trace>,
    len: usize,
}

#[derive(Debug, Default)]
struct Trace {
    processes: Vec<String>,
    spans: String,
}

/// Stands in a span for the name of its process, which is known when it joins its trace.
const PROCESS: &str = "\"processID\":\"p";

impl JaegerTraces {
    pub(crate) fn add(&mut self, batch: &JaegerBatch) {
        self.len += batch.len();
        for (trace, span) in &batch.spans {
            let trace = self.traces.entry(trace.to_bytes()).or_default();
            let known = trace.processes.iter().position(|process| *process == batch.process);
            let number = known.unwrap_or_else(|| {
                trace.processes.push(batch.process.clone());
                trace.processes.len() - 1
            });
            if !trace.spans.is_empty() {
                trace.spans.push(',');
            }
            // The span ends with `}`; its process is its last member.
            trace.spans.push_str(span.strip_suffix('}').unwrap_or(span));
            trace.spans.push_str(&format!(",{PROCESS}{}\"}}", number + 1));
        }
    }

    /// About the length of the document.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The whole document.
    pub(crate) fn document(&self) -> Vec<u8> {
        let mut out = String::with_capacity(self.len + 1024);
        out.push_str("{\"data\":[");
        for (number, (id, trace)) in self.traces.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            let id = TraceId::from_bytes(*id);
            out.push_str(&format!("{comma}\n{{\"traceID\":\"{id}\",\"spans\":["));
            out.push_str(&trace.spans);
            out.push_str("],\"processes\":{");
            for (number, process) in trace.processes.iter().enumerate() {
                let comma = if number > 0 { "," } else { "" };
                out.push_str(&format!("{comma}\"p{}\":{process}", number + 1));
            }
            out.push_str("}}");
        }
        out.push_str("\n]}\n");
        out.into_bytes()
    }
}

fn text(write: impl FnOnce(&mut Json<'_>)) -> String {
    let mut out = Vec::new();
    Json::new(&mut out).object(write);
    // The writer makes nothing but UTF-8.
    String::from_utf8(out).unwrap_or_default()
}

fn write_process(json: &mut Json<'_>, resource: &Resource) {
    const SERVICE: Key = Key::from_static_str("service.name");
    let service = resource.get_ref(&SERVICE).map(|name| name.as_str().into_owned());
    json.key("serviceName").text(service.as_deref().unwrap_or("unknown_service"));
    json.key("tags").array(|json| {
        for (key, value) in resource.iter().filter(|(key, _)| **key != SERVICE) {
            write_tag(json, key.as_str(), values::borrow(value));
        }
    });
}

fn write_span(json: &mut Json<'_>, span: &SpanRecord) {
    json.key("traceID").hex(&span.trace_id().to_bytes());
    json.key("spanID").hex(&span.span_id().to_bytes());
    json.key("operationName").text(span.name());
    json.key("references").array(|json| {
        if let Some(parent) = span.parent_span_id() {
            write_reference(json, "CHILD_OF", &span.trace_id().to_bytes(), &parent.to_bytes());
        }
        for link in span.links() {
            let (trace, span) = (link.context.trace_id(), link.context.span_id());
            write_reference(json, "FOLLOWS_FROM", &trace.to_bytes(), &span.to_bytes());
        }
    });
    json.key("startTime").number(micros(span.start_unix_nano()));
    json.key("duration").number(micros(span.duration_nanos()));
    json.key("tags").array(|json| {
        write_tag(json, "span.kind", AttributeValue::Str(kind(span.kind())));
        if let Some(scope) = span.scope() {
            write_tag(json, "otel.scope.name", AttributeValue::Str(scope.name()));
        }
        match span.status() {
            StatusCode::Unset => {}
            StatusCode::Ok => write_tag(json, "otel.status_code", AttributeValue::Str("OK")),
            StatusCode::Error => {
                write_tag(json, "otel.status_code", AttributeValue::Str("ERROR"));
                write_tag(json, "error", AttributeValue::Bool(true));
            }
        }
        if !span.status_message().is_empty() {
            let message = AttributeValue::Str(span.status_message());
            write_tag(json, "otel.status_description", message);
        }
        span.attributes().iter().for_each(|(key, value)| write_tag(json, key, value));
    });
    json.key("logs").array(|json| {
        for event in span.events() {
            json.object(|json| {
                json.key("timestamp").number(micros(event.time_unix_nano()));
                json.key("fields").array(|json| {
                    write_tag(json, "event", AttributeValue::Str(event.name()));
                    event.attributes().for_each(|(key, value)| write_tag(json, key, value));
                });
            });
        }
    });
}

fn write_reference(json: &mut Json<'_>, kind: &str, trace: &[u8], span: &[u8]) {
    json.object(|json| {
        json.key("refType").plain(kind);
        json.key("traceID").hex(trace);
        json.key("spanID").hex(span);
    });
}

fn write_tag(json: &mut Json<'_>, key: &str, value: AttributeValue<'_>) {
    json.object(|json| {
        json.key("key").text(key);
        let kind = match value {
            AttributeValue::Bool(_) => "bool",
            AttributeValue::I64(_) => "int64",
            AttributeValue::F64(value) if value.is_finite() => "float64",
            AttributeValue::Str(_) | AttributeValue::F64(_) | AttributeValue::Array(_) => "string",
        };
        json.key("type").plain(kind);
        json.key("value");
        match value {
            AttributeValue::Bool(value) => json.bool(value),
            AttributeValue::I64(value) => json.number(value),
            AttributeValue::F64(value) => json.double(value),
            AttributeValue::Str(text) => json.text(text),
            // As Jaeger's own translation has it: the list, as text.
            AttributeValue::Array(_) => json.text(&value.to_value().to_string()),
        }
    });
}

fn micros(nanos: u64) -> i64 {
    i64::try_from(nanos / 1000).unwrap_or(i64::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{batch, span_data};
    use opentelemetry::KeyValue;
    use opentelemetry::trace::Status;

    #[test]
    fn the_spans_of_a_trace_stand_together_whatever_batches_they_came_in() {
        let mut root = span_data(7, 1, None, "root \"x\"");
        root.attributes = vec![KeyValue::new("n", 3), KeyValue::new("ok", true)];
        root.status = Status::error("no");
        let mut traces = JaegerTraces::default();
        traces.add(&JaegerBatch::of(&batch(vec![
            span_data(7, 2, Some(1), "child"),
            span_data(8, 3, None, "other"),
        ])));
        traces.add(&JaegerBatch::of(&batch(vec![root])));
        let document: serde_json::Value = serde_json::from_slice(&traces.document()).unwrap();
        let data = document["data"].as_array().unwrap();
        assert_eq!(data.len(), 2);
        assert_eq!(data[0]["traceID"], format!("{:032x}", 7));
        let spans = data[0]["spans"].as_array().unwrap();
        assert_eq!(spans.len(), 2);
        assert_eq!(spans[0]["references"][0]["spanID"], format!("{:016x}", 1));
        assert_eq!(spans[0]["references"][0]["refType"], "CHILD_OF");
        assert_eq!(
            (&spans[1]["operationName"], &spans[1]["processID"]),
            (&"root \"x\"".into(), &"p1".into())
        );
        assert_eq!(
            (spans[1]["startTime"].as_u64(), spans[1]["duration"].as_u64()),
            (Some(1_700_000_000_000_000), Some(1000))
        );
        let tags = spans[1]["tags"].as_array().unwrap();
        assert!(tags.contains(&serde_json::json!({"key": "error", "type": "bool", "value": true})));
        assert!(tags.contains(&serde_json::json!({"key": "n", "type": "int64", "value": 3})));
        assert_eq!(data[0]["processes"]["p1"]["serviceName"], "test");
    }

    #[test]
    fn no_spans_are_a_document_too() {
        let empty: serde_json::Value =
            serde_json::from_slice(&JaegerTraces::default().document()).unwrap();
        assert_eq!(empty, serde_json::json!({"data": []}));
    }
}
