//! What arrives is what was meant, as code reads it that is not ours: the official protobuf
//! definitions for Python, over gRPC, over HTTP and from files.

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry::trace::{SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Array, Context};
use opentelemetry_sdk::trace::SdkTracer;
use serde_json::{Value, json};
use spanweave::{Backend, Compression, SpanExt};
use spanweave_tests::{Finished, Receiver, Running, script, shared};
use tracing_subscriber::layer::SubscriberExt;

const DEADLINE: Duration = Duration::from_secs(20);

/// Spans of every shape, and then many.
fn traces(tracer: &SdkTracer, many: usize) {
    let order = tracing::info_span!(
        "PlaceOrder",
        otel.kind = "server",
        text = "Grüße, \"Welt\"\n\u{0}",
        flag = false,
        small = -7_i64,
        large = u64::MAX,
        wide = i128::MIN,
        double = 0.1,
        infinite = f64::INFINITY,
        debug = ?["a", "b"],
    );
    order.set_attribute("list", opentelemetry::Value::Array(Array::I64(vec![1, 2, 3])));
    let earlier = tracing::info_span!(parent: None, "earlier");
    order.follows_from(&earlier);
    drop(earlier);
    order.in_scope(|| {
        tracing::warn!(attempt = 2, "retrying");
        let pay = tracing::info_span!("ProcessPayment", otel.kind = "client");
        pay.record_error(&std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer"));
        pay.in_scope(|| {
            let span = tracer.span_builder("of the API").with_kind(SpanKind::Producer);
            let span = span.start_with_context(tracer, &Context::current());
            let _current = Context::current_with_span(span).attach();
            tracing::info_span!("below the API", otel.kind = "consumer").in_scope(|| ());
            // The guard ends the span of the API with the last context that holds it.
        });
    });
    drop(order);
    for number in 0..many {
        let parent = tracing::info_span!("parent", number);
        parent.in_scope(|| tracing::info_span!("child", number).in_scope(|| ()));
    }
}

/// How many spans [`traces`] makes.
const fn made(many: usize) -> usize {
    5 + 2 * many
}

fn key(span: &Value) -> (String, String) {
    let text = |key: &str| span[key].as_str().unwrap().to_owned();
    (text("trace_id"), text("span_id"))
}

/// Spans by identity; no span may be there twice.
#[track_caller]
fn by_id<'a>(spans: impl IntoIterator<Item = &'a Value>) -> HashMap<(String, String), &'a Value> {
    let mut found = HashMap::new();
    for span in spans {
        assert!(found.insert(key(span), span).is_none(), "twice: {span}");
    }
    found
}

#[track_caller]
fn named<'a>(spans: &HashMap<(String, String), &'a Value>, name: &str) -> &'a Value {
    spans.values().find(|span| span["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn an_independent_receiver_gets_every_span_right_over_grpc_and_http() {
    const MANY: usize = 3000;
    let _machine = shared();
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spans.jsonl");
    let (layer, telemetry) = spanweave::builder()
        .service_name("orders")
        .resource_attribute("service.version", "1.2.3")
        .export_to(Backend::otlp_grpc(receiver.grpc_endpoint()).named("grpc"))
        .export_to(
            Backend::otlp_http(receiver.http_endpoint())
                .named("http")
                .compression(Compression::Gzip),
        )
        .export_to(Backend::file(&file))
        .build()
        .unwrap();
    let tracer = telemetry.tracer_provider().tracer("the API's scope");
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || traces(&tracer, MANY));
    let report = telemetry.shutdown(DEADLINE);
    assert!(report.is_complete(), "{report:?}");

    let all = receiver.wait_for_spans(2 * made(MANY));
    assert_eq!(all.len(), 2 * made(MANY));
    assert_eq!(receiver.problems(), Vec::<String>::new());
    let via = |transport: &str| by_id(all.iter().filter(|span| span["via"] == transport));
    let (grpc, http) = (via("grpc"), via("http_protobuf"));
    assert_eq!((grpc.len(), http.len()), (made(MANY), made(MANY)));
    let read = read(&file);
    let file = by_id(read["spans"].as_array().unwrap());
    assert_eq!(file.len(), made(MANY));

    // The same spans everywhere, but for how they came.
    for (id, span) in &grpc {
        let same = |other: &Value| {
            let mut other = other.clone();
            other["via"] = span["via"].clone();
            other
        };
        assert_eq!(same(http[id]), **span);
        assert_eq!(same(file[id]), **span);
    }
    check(&grpc);

    // Each child is under the parent of its number.
    let children = grpc.values().filter(|span| span["name"] == "child");
    let mut right = 0;
    for child in children {
        let parent = (key(child).0, child["parent"].as_str().unwrap().to_owned());
        let parent = grpc.get(&parent).unwrap_or_else(|| panic!("no parent of {child}"));
        assert_eq!(parent["attributes"]["number"], child["attributes"]["number"]);
        assert!(parent["start"].as_u64() <= child["start"].as_u64());
        assert!(child["end"].as_u64() <= parent["end"].as_u64());
        right += 1;
    }
    assert_eq!(right, MANY);
}

/// Names, kinds, parents, types of values, links, events and errors.
fn check(spans: &HashMap<(String, String), &Value>) {
    let order = named(spans, "PlaceOrder");
    assert_eq!((&order["kind"], &order["parent"]), (&json!("server"), &json!("")));
    assert_eq!(order["service"], "orders");
    assert_eq!(order["resource"]["service.version"], "1.2.3");
    let attributes = &order["attributes"];
    for (key, value) in [
        ("text", json!("Grüße, \"Welt\"\n\u{0}")),
        ("flag", json!(false)),
        ("small", json!(-7)),
        ("large", json!(u64::MAX.to_string())),
        ("wide", json!(i128::MIN.to_string())),
        ("double", json!(0.1)),
        ("infinite", json!({ "double": "inf" })),
        ("debug", json!(r#"["a", "b"]"#)),
        ("list", json!([1, 2, 3])),
    ] {
        assert_eq!(attributes[key], value, "{key}");
    }
    let earlier = named(spans, "earlier");
    assert_eq!(earlier["parent"], "");
    assert_ne!(earlier["trace_id"], order["trace_id"]);
    assert_eq!(
        order["links"],
        json!([{ "trace_id": earlier["trace_id"], "span_id": earlier["span_id"] }])
    );
    assert_eq!(order["events"][0]["name"], "retrying");
    assert_eq!(order["events"][0]["attributes"]["attempt"], 2);
    assert_eq!(order["status"], "unset");

    let payment = named(spans, "ProcessPayment");
    assert_eq!((&payment["kind"], &payment["status"]), (&json!("client"), &json!("error")));
    assert_eq!(payment["parent"], order["span_id"]);
    assert_eq!(payment["message"], "no answer");
    assert_eq!(payment["events"][0]["name"], "exception");
    assert_eq!(payment["events"][0]["attributes"]["exception.message"], "no answer");

    let api = named(spans, "of the API");
    assert_eq!((&api["kind"], &api["parent"]), (&json!("producer"), &payment["span_id"]));
    assert_eq!(api["scope"], "the API's scope");
    let below = named(spans, "below the API");
    assert_eq!((&below["kind"], &below["parent"]), (&json!("consumer"), &api["span_id"]));
    assert_eq!(below["trace_id"], order["trace_id"]);
}

/// The file as `scripts/read_otlp_json.py` reads it, which must find no problem.
fn read(file: &std::path::Path) -> Value {
    let mut reader = script("read_otlp_json.py");
    reader.arg(file);
    let output = Running::start(reader).finish(DEADLINE);
    assert_eq!(output.json()["problems"], json!([]));
    output.successful().json()
}

#[test]
fn the_independent_reader_refuses_what_is_not_otlp_json() {
    let span = |change: fn(&mut Value)| {
        let mut span = json!({
            "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b7",
            "name": "a", "kind": 1,
            "startTimeUnixNano": now(), "endTimeUnixNano": now(),
        });
        change(&mut span);
        json!({ "resourceSpans": [{
            "resource": { "attributes": [
                { "key": "service.name", "value": { "stringValue": "s" } }
            ] },
            "scopeSpans": [{ "spans": [span] }],
        }] })
    };
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| -> Finished {
        let file = folder.path().join("spans.jsonl");
        std::fs::write(&file, text).unwrap();
        let mut reader = script("read_otlp_json.py");
        reader.arg(&file);
        Running::start(reader).finish(DEADLINE)
    };
    let good = format!("{}\n", span(|_| ()));
    assert_eq!(read(&good).successful().json()["spans"].as_array().unwrap().len(), 1);

    let torn = &good[..good.len() - 5];
    let changes: [fn(&mut Value); 5] = [
        |span| span["traceId"] = json!("4BF92F3577B34DA6A3CE929D0E0E4736"),
        |span| span["kind"] = json!("SPAN_KIND_INTERNAL"),
        |span| span["endTimeUnixNano"] = json!(1),
        |span| span["trace_state"] = json!(""),
        |span| span["parentSpanId"] = json!("0000000000000000"),
    ];
    let bad = changes.iter().map(|change| format!("{}\n", span(*change)));
    for text in bad.chain([torn.to_owned()]) {
        let output = read(&text);
        assert!(!output.status.success(), "{text}");
        assert!(!output.json()["problems"].as_array().unwrap().is_empty(), "{text}");
    }
}

#[allow(clippy::disallowed_methods, reason = "the reader compares with the present")]
fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_nanos().to_string()
}

#[test]
fn the_receiver_counts_what_no_sender_should_send() {
    let receiver = Receiver::start();
    let post = |content_type: &str, body: &str| {
        let url = format!("{}/v1/traces", receiver.http_endpoint());
        spanweave_testkit::http::post(&url, content_type, body.as_bytes()).status
    };
    assert_eq!(post("application/json", "{\"resourceSpans\":[{]}"), 400);
    assert_eq!(post("text/plain", "{}"), 400);
    assert_eq!(post("application/x-protobuf", "\u{7f}"), 400);
    assert_eq!(post("application/json", "{}"), 200);
    assert_eq!(receiver.problems().len(), 3);
}
