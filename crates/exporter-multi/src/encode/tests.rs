//! The encodings against `opentelemetry-proto`, which shares no code with them.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, TracesData};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use spanweave_core::MaskedBatch;
use spanweave_core::masking::Masker;

use super::otlp::Limits;
use super::*;
use crate::test_support::{batch, span_data};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,12}", "[a-z]{120,140}", Just("\u{0}\"\\\n\u{1f980}".to_owned())]
}

fn value(finite: bool) -> impl Strategy<Value = Value> {
    let double = any::<f64>().prop_filter("finite", move |double| !finite || double.is_finite());
    let double = if finite { (-1000..1000i32).prop_map(f64::from).boxed() } else { double.boxed() };
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        double.clone().prop_map(Value::F64),
        text().prop_map(|text| Value::String(text.into())),
        vec(any::<bool>(), 0..4).prop_map(|list| Value::Array(Array::Bool(list))),
        vec(any::<i64>(), 0..4).prop_map(|list| Value::Array(Array::I64(list))),
        vec(double, 0..4).prop_map(|list| Value::Array(Array::F64(list))),
        vec(text().prop_map(StringValue::from), 0..4)
            .prop_map(|list| Value::Array(Array::String(list))),
    ]
}

/// Attributes with keys that differ and that no rule masks.
fn attributes(finite: bool) -> impl Strategy<Value = Vec<KeyValue>> {
    vec((text(), value(finite)), 0..6).prop_map(|list| {
        let all = list.into_iter().enumerate();
        all.map(|(number, (key, value))| KeyValue::new(format!("k{number}x{}x", key.len()), value))
            .collect()
    })
}

fn time() -> impl Strategy<Value = SystemTime> {
    (0u64..4_000_000_000_000_000_000)
        .prop_map(|nanos| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos))
}

fn context(remote: bool) -> impl Strategy<Value = SpanContext> {
    let state = prop_oneof![
        Just(TraceState::NONE),
        Just(TraceState::from_key_value([("ot", "th:8"), ("vendor", "a b")]).unwrap()),
    ];
    (1..u128::MAX, 1..u64::MAX, any::<u8>(), state).prop_map(move |(trace, span, flags, state)| {
        let flags = TraceFlags::new(flags);
        SpanContext::new(TraceId::from(trace), SpanId::from(span), flags, remote, state)
    })
}

fn scope() -> impl Strategy<Value = InstrumentationScope> {
    (0..3u8).prop_map(|number| {
        let builder = InstrumentationScope::builder(format!("scope{number}"));
        match number {
            0 => builder.build(),
            1 => builder.with_version("1.2").with_schema_url("http://schema/1").build(),
            _ => builder.with_attributes([KeyValue::new("a", 1), KeyValue::new("b", "x")]).build(),
        }
    })
}

fn span(finite: bool) -> impl Strategy<Value = SpanData> {
    let kind = prop_oneof![
        Just(SpanKind::Internal),
        Just(SpanKind::Server),
        Just(SpanKind::Client),
        Just(SpanKind::Producer),
        Just(SpanKind::Consumer),
    ];
    let status = prop_oneof![Just(Status::Unset), Just(Status::Ok), text().prop_map(Status::error)];
    let event = (text(), time(), attributes(finite), any::<u32>())
        .prop_map(|(name, time, attributes, dropped)| Event::new(name, time, attributes, dropped));
    let link = (any::<bool>().prop_flat_map(context), attributes(finite), any::<u32>())
        .prop_map(|(context, attributes, dropped)| Link::new(context, attributes, dropped));
    (
        (context(false), any::<u64>(), any::<bool>(), kind, text()),
        (time(), 0..10_000_000_000u64, attributes(finite), any::<u32>()),
        (vec(event, 0..4), any::<u32>(), vec(link, 0..4), any::<u32>()),
        (status, scope()),
    )
        .prop_map(|(identity, content, lists, (status, scope))| {
            let (span_context, parent, parent_is_remote, span_kind, name) = identity;
            let (start_time, nanos, attributes, dropped_attributes_count) = content;
            let mut events = SpanEvents::default();
            (events.events, events.dropped_count) = (lists.0, lists.1);
            let mut links = SpanLinks::default();
            (links.links, links.dropped_count) = (lists.2, lists.3);
            SpanData {
                span_context,
                parent_span_id: SpanId::from(parent),
                parent_span_is_remote: parent_is_remote,
                span_kind,
                name: name.into(),
                start_time,
                end_time: start_time + Duration::from_nanos(nanos),
                attributes,
                dropped_attributes_count,
                events,
                links,
                status,
                instrumentation_scope: scope,
            }
        })
}

/// What `opentelemetry-proto` makes of the same spans.
fn expected(spans: Vec<SpanData>, resource: &Resource) -> Vec<ResourceSpans> {
    normal(group_spans_by_resource_and_scope(spans, &ResourceAttributesWithSchema::from(resource)))
}

/// Removes what is known to differ: the status that is not set, the `error.type` that masking
/// completes, and the order of the resource's attributes, which is that of a hash map.
fn normal(mut all: Vec<ResourceSpans>) -> Vec<ResourceSpans> {
    for resource_spans in &mut all {
        if let Some(resource) = &mut resource_spans.resource {
            resource.attributes.sort_by(|a, b| a.key.cmp(&b.key));
        }
        for span in resource_spans.scope_spans.iter_mut().flat_map(|scope| &mut scope.spans) {
            span.status.get_or_insert_default();
            span.attributes.retain(|attribute| attribute.key != "error.type");
        }
    }
    all
}

fn decode(body: &[u8]) -> Vec<ResourceSpans> {
    ExportTraceServiceRequest::decode(body).unwrap().resource_spans
}

fn encode(batch: &MaskedBatch) -> Vec<u8> {
    let mut encoded = OtlpEncoder::default().encode(batch);
    assert_eq!((encoded.requests.len(), encoded.too_large), (1, 0));
    encoded.requests.remove(0).body
}

fn rich_resource() -> std::sync::Arc<Resource> {
    let attributes = [KeyValue::new("service.name", "s"), KeyValue::new("n", 3)];
    Resource::builder_empty().with_schema_url(attributes, "http://schema/2").build().into()
}

fn spans_of(all: &[ResourceSpans]) -> Vec<(Vec<u8>, Vec<u8>)> {
    all.iter()
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .map(|span| (span.trace_id.clone(), span.span_id.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn protobuf_is_what_opentelemetry_proto_makes_of_the_same_spans(spans in vec(span(true), 1..12)) {
        let resource = rich_resource();
        let batch = MaskedBatch::from_sdk(spans.clone(), resource.clone(), &Masker::default());
        let body = encode(&batch);
        let decoded = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        // Nothing unknown, and lengths as short as possible.
        prop_assert_eq!(decoded.encoded_len(), body.len());
        prop_assert_eq!(normal(decoded.resource_spans), expected(spans, &resource));
    }

    #[test]
    fn doubles_keep_their_bits(spans in vec(span(false), 1..4)) {
        let batch = batch(spans);
        let body = encode(&batch);
        // NaN is not equal to itself, so bytes are compared.
        let again = ExportTraceServiceRequest::decode(body.as_slice()).unwrap().encode_to_vec();
        prop_assert_eq!(again.len(), body.len());
        let again = ExportTraceServiceRequest::decode(again.as_slice()).unwrap();
        prop_assert_eq!(format!("{again:?}"), format!("{:?}", ExportTraceServiceRequest::decode(body.as_slice()).unwrap()));
    }

    #[test]
    fn otlp_json_is_one_line_that_opentelemetry_proto_reads_back(spans in vec(span(true), 1..12)) {
        let resource = rich_resource();
        let batch = MaskedBatch::from_sdk(spans.clone(), resource.clone(), &Masker::default());
        let line = otlp_json_line(&batch);
        prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let read: TracesData = serde_json::from_slice(&line).unwrap();
        prop_assert_eq!(normal(read.resource_spans), expected(spans, &resource));
    }

    #[test]
    fn small_requests_hold_the_same_spans(spans in vec(span(true), 1..12), target in 1usize..4000) {
        let batch = batch(spans);
        let mut encoder = OtlpEncoder::new(Limits { target, ..Limits::default() });
        let encoded = encoder.encode(&batch);
        let mut found = Vec::new();
        for request in &encoded.requests {
            let inside = spans_of(&decode(&request.body));
            prop_assert_eq!(inside.len() as u64, request.spans);
            found.extend(inside);
        }
        let mut all = spans_of(&decode(&encode(&batch)));
        found.sort();
        all.sort();
        prop_assert_eq!(found, all);
    }

    #[test]
    fn the_two_parts_of_a_split_are_the_whole(spans in vec(span(true), 1..12), count in 0u64..13) {
        let batch = batch(spans);
        let whole = encode(&batch);
        let (first, second) = split(&whole, count).unwrap();
        let (one, two) = (decode(&first), decode(&second));
        prop_assert_eq!(spans_of(&one).len() as u64, count.min(batch.len() as u64));
        let both: Vec<_> = spans_of(&one).into_iter().chain(spans_of(&two)).collect();
        prop_assert_eq!(both, spans_of(&decode(&whole)));
        for part in one.iter().chain(&two) {
            prop_assert!(part.resource.is_some());
            prop_assert!(part.scope_spans.iter().all(|scope| scope.scope.is_some() && !scope.spans.is_empty()));
        }
    }

    #[test]
    fn the_two_parts_of_a_json_split_are_the_whole(spans in vec(span(true), 1..12), count in 0u64..13) {
        let batch = batch(spans);
        let whole = otlp_json_line(&batch);
        let (first, second) = split_json(&whole, count);
        let read = |text: &[u8]| serde_json::from_slice::<TracesData>(text).unwrap().resource_spans;
        let (one, two) = (read(&first), read(&second));
        prop_assert_eq!(spans_of(&one).len() as u64, count.min(batch.len() as u64));
        let both: Vec<_> = spans_of(&one).into_iter().chain(spans_of(&two)).collect();
        prop_assert_eq!(both, spans_of(&read(&whole)));
    }

    #[test]
    fn bytes_that_are_no_request_are_not_split(bytes in vec(any::<u8>(), 0..100)) {
        split(&bytes, 1);
        split_json(&bytes, 1);
    }
}

#[test]
fn a_span_over_the_limit_is_counted_and_the_others_are_sent() {
    let mut huge = span_data(1, 2, None, "huge");
    huge.attributes.push(KeyValue::new("text", "x".repeat(2000)));
    let batch = batch(vec![span_data(1, 1, None, "a"), huge, span_data(1, 3, None, "b")]);
    let mut encoder = OtlpEncoder::new(Limits { span: 1000, ..Limits::default() });
    let encoded = encoder.encode(&batch);
    assert_eq!((encoded.requests.len(), encoded.too_large), (1, 1));
    assert_eq!(
        (spans_of(&decode(&encoded.requests[0].body)).len(), encoded.requests[0].spans),
        (2, 2)
    );
}

#[test]
fn another_resource_is_not_taken_for_the_cached_one() {
    let mut encoder = OtlpEncoder::default();
    for name in ["first", "second", "third"] {
        let resource = Resource::builder_empty().with_service_name(name).build();
        let spans = vec![span_data(1, 1, None, "a")];
        let batch =
            MaskedBatch::from_sdk(spans.clone(), resource.clone().into(), &Masker::default());
        let body = encoder.encode(&batch).requests.remove(0).body;
        assert_eq!(normal(decode(&body)), expected(spans, &resource));
    }
}

#[test]
fn roots_have_no_parent_and_remote_parents_are_marked() {
    let root = span_data(1, 1, None, "root");
    let mut server = span_data(1, 2, Some(9), "server");
    server.parent_span_is_remote = true;
    let decoded = decode(&encode(&batch(vec![root, server])));
    let spans = &decoded[0].scope_spans[0].spans;
    assert!(spans[0].parent_span_id.is_empty());
    assert_eq!((spans[0].flags, spans[1].flags), (0x101, 0x301));
}

#[test]
fn spans_json_has_one_object_a_span_with_the_names_of_its_form() {
    let mut child = span_data(0xab, 2, Some(1), "query \"users\"");
    child.end_time = child.start_time + Duration::from_millis(150);
    child.status = Status::error("no such table");
    child.attributes = vec![KeyValue::new("rows", 3), KeyValue::new("password", "hunter2")];
    child.events.events =
        vec![Event::new("retry", child.start_time, vec![KeyValue::new("n", 1)], 0)];
    let root = span_data(0xab, 1, None, "GET /users");
    let lines = spans_json_lines(&batch(vec![child, root]));
    let lines: Vec<serde_json::Value> = lines
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    let child = lines[0].clone();
    assert!(child["tags"]["error.type"].is_string());
    assert_eq!(child["tags"]["password"], "[masked]");
    for (key, expected) in [
        ("traceID", "000000000000000000000000000000ab"),
        ("spanID", "0000000000000002"),
        ("parentSpanID", "0000000000000001"),
        ("serviceName", "test"),
        ("operationName", "query \"users\""),
        ("kind", "internal"),
        ("startTime", "2023-11-14T22:13:20.000000000Z"),
        ("endTime", "2023-11-14T22:13:20.150000000Z"),
        ("duration", "150ms"),
        ("status", "error"),
        ("statusMessage", "no such table"),
    ] {
        assert_eq!(child[key], expected, "{key}");
    }
    assert_eq!(child["tags"]["rows"], 3);
    let logs = serde_json::json!([
        {"timestamp": "2023-11-14T22:13:20.000000000Z", "message": "retry", "fields": {"n": 1}}
    ]);
    assert_eq!(child["logs"], logs);
    assert_eq!((&lines[1]["parentSpanID"], &lines[1]["duration"]), (&"".into(), &"1ms".into()));
    assert_eq!(lines[1]["logs"], serde_json::json!([]));
}
