//! The receiver over real sockets: a tonic client for gRPC, hand-written HTTP/1.1 for the rest.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use prost::Message;
use spanweave_live::{Collector, CollectorConfig, SpanKind, StatusCode, Transport, Value, Verdict};
use tonic::codec::CompressionEncoding;

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) }),
        ..KeyValue::default()
    }
}

/// Spans 1 to `count` of trace 0101…, each the child of the one before.
fn request(count: u8) -> ExportTraceServiceRequest {
    let spans = (1..=count)
        .map(|n| Span {
            trace_id: vec![1; 16],
            span_id: vec![n; 8],
            parent_span_id: if n > 1 { vec![n - 1; 8] } else { Vec::new() },
            name: format!("<op {n}>"),
            kind: span::SpanKind::Server as i32,
            start_time_unix_nano: 1_000 * u64::from(n),
            end_time_unix_nano: 100_000,
            flags: 0x101,
            trace_state: "a=b".to_owned(),
            attributes: vec![
                text("http.route", "/users/{id}"),
                KeyValue {
                    key: "n".to_owned(),
                    value: Some(AnyValue { value: Some(any_value::Value::IntValue(i64::MIN)) }),
                    ..KeyValue::default()
                },
            ],
            events: vec![span::Event {
                time_unix_nano: 5,
                name: "exception".to_owned(),
                attributes: vec![text("exception.type", "Broken")],
                ..span::Event::default()
            }],
            links: vec![span::Link {
                trace_id: vec![9; 16],
                span_id: vec![9; 8],
                ..span::Link::default()
            }],
            status: Some(Status { message: "broken".to_owned(), code: 2 }),
            ..Span::default()
        })
        .collect();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![text("service.name", "users")],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "users::api".to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn start(
    hook: impl Fn(&spanweave_live::RequestInfo<'_>) -> Verdict + Send + Sync + 'static,
) -> Collector {
    Collector::start(CollectorConfig::default().hook(hook)).unwrap()
}

fn plain() -> Collector {
    Collector::start(CollectorConfig::default()).unwrap()
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

fn exchange(collector: &Collector, head: &str, body: &[u8]) -> Answer {
    let address = collector.http_endpoint().replace("http://", "");
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = head.replace("HOST", &address);
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses by the head alone may close before the body is written.
    stream.write_all(body).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..split].to_vec()).unwrap();
    Answer {
        status: head[9..12].parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: answer[split + 4..].to_vec(),
    }
}

fn post(collector: &Collector, headers: &str, body: &[u8]) -> Answer {
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    exchange(collector, &head, body)
}

fn get(collector: &Collector, path: &str) -> Answer {
    exchange(
        collector,
        &format!("GET {path} HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"),
        b"",
    )
}

const PROTOBUF: &str = "Content-Type: application/x-protobuf\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn export_grpc(
    collector: &Collector,
    request: ExportTraceServiceRequest,
) -> Result<ExportTraceServiceResponse, tonic::Status> {
    let endpoint = collector.grpc_endpoint();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut client = TraceServiceClient::connect(endpoint)
            .await
            .unwrap()
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip);
        client.export(request).await.map(tonic::Response::into_inner)
    })
}

#[test]
fn all_three_encodings_give_the_same_spans() {
    let mut seen = Vec::new();
    for (via, send) in [
        (
            Transport::Grpc,
            (|collector: &Collector| {
                let response = export_grpc(collector, request(2)).unwrap();
                assert_eq!(response.partial_success, None);
            }) as fn(&Collector),
        ),
        (Transport::HttpProtobuf, |collector| {
            let headers = format!("{PROTOBUF}Content-Encoding: gzip\r\n");
            let answer = post(collector, &headers, &gzip(&request(2).encode_to_vec()));
            assert_eq!(answer.status, 200);
            assert!(answer.head.contains("content-type: application/x-protobuf"));
            let response = ExportTraceServiceResponse::decode(&*answer.body).unwrap();
            assert_eq!(response.partial_success, None);
        }),
        (Transport::HttpJson, |collector| {
            let body = serde_json::to_vec(&request(2)).unwrap();
            let answer = post(collector, JSON, &body);
            assert_eq!((answer.status, answer.body.as_slice()), (200, &b"{}"[..]));
            assert!(answer.head.contains("content-type: application/json"));
        }),
    ] {
        let collector = plain();
        send(&collector);
        let spans = collector.store().spans();
        assert_eq!(spans.len(), 2);
        assert!(spans.iter().all(|span| span.via == via));
        let mut child = (*spans[1]).clone();
        child.via = Transport::Grpc;
        seen.push(child);
    }
    let child = &seen[0];
    assert_eq!((&*child.name, &*child.service), ("<op 2>", "users"));
    assert_eq!(child.parent.unwrap().to_string(), "0101010101010101");
    assert_eq!((child.kind, child.status), (SpanKind::Server, StatusCode::Error));
    assert_eq!((child.start_ns, child.end_ns), (2_000, 100_000));
    assert_eq!(child.text("http.route"), Some("/users/{id}"));
    assert_eq!(child.attribute("n"), Some(&Value::Int(i64::MIN)));
    assert_eq!((child.error_type(), child.error_message()), (Some("Broken"), Some("broken")));
    assert_eq!(child.links[0].span_id.to_string(), "0909090909090909");
    assert_eq!(
        (&*child.scope.name, &*child.trace_state, child.flags),
        ("users::api", "a=b", 0x101)
    );
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
}

#[test]
fn what_is_not_otlp_is_refused_with_the_right_status() {
    let collector = plain();
    let body = request(1).encode_to_vec();
    for (headers, body, status) in [
        ("Content-Type: text/plain\r\n", &body[..], 415),
        ("", &body[..], 415),
        (PROTOBUF, b"\xff\xff\xff" as &[u8], 400),
        (JSON, b"{\"resourceSpans\": 3}", 400),
        (JSON, b"", 400),
    ] {
        let answer = post(&collector, headers, body);
        assert_eq!(answer.status, status, "{headers:?}");
        assert!(!answer.body.is_empty());
    }
    let headers = format!("{PROTOBUF}Content-Encoding: br\r\n");
    assert_eq!(post(&collector, &headers, &body).status, 415);
    let headers = format!("{PROTOBUF}Content-Encoding: gzip\r\n");
    assert_eq!(post(&collector, &headers, &body).status, 400);
    assert_eq!(get(&collector, "/v1/traces").status, 405);
    assert_eq!(collector.counts().malformed, 7);
    assert!(collector.store().is_empty());
}

#[test]
fn a_message_over_the_limit_is_refused_on_both_transports() {
    let collector = Collector::start(CollectorConfig::default().max_message_bytes(1000)).unwrap();
    let large = request(200);
    let body = large.encode_to_vec();
    assert_eq!(post(&collector, PROTOBUF, &body).status, 413);
    let packed = gzip(&body);
    let headers = format!("{PROTOBUF}Content-Encoding: gzip\r\n");
    assert_eq!(post(&collector, &headers, &packed).status, 413);
    let chunked = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n{PROTOBUF}\r\n{:x}\r\n",
        body.len()
    );
    let chunk = [body.as_slice(), b"\r\n0\r\n\r\n"].concat();
    assert_eq!(exchange(&collector, &chunked, &chunk).status, 413);
    let status = export_grpc(&collector, large).unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange);
    assert!(collector.store().is_empty());
}

#[test]
fn the_hook_decides_and_one_verdict_fits_both_transports() {
    let collector = start(|info| match info.number {
        1 | 2 => Verdict::http_status(503).retry_after(Duration::from_millis(1500)),
        3 | 4 => Verdict::grpc_code(8, "later").retry_after(Duration::from_secs(7)),
        5 | 6 => Verdict::partial_success(1, "one too many"),
        7 => panic!("a hook's own bug"),
        _ => Verdict::accept(),
    });
    let body = request(2).encode_to_vec();

    let answer = post(&collector, PROTOBUF, &body);
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: 2"));
    let status = export_grpc(&collector, request(2)).unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);

    let answer = post(&collector, PROTOBUF, &body);
    assert_eq!(answer.status, 429);
    assert!(answer.head.contains("retry-after: 7"));
    let status = export_grpc(&collector, request(2)).unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::ResourceExhausted, "later"));
    assert!(!status.details().is_empty(), "RetryInfo");
    assert!(collector.store().is_empty());

    let answer = post(&collector, JSON, &serde_json::to_vec(&request(2)).unwrap());
    assert_eq!(answer.status, 200);
    assert_eq!(
        String::from_utf8(answer.body).unwrap(),
        r#"{"partialSuccess":{"errorMessage":"one too many","rejectedSpans":"1"}}"#
    );
    assert_eq!(collector.store().len(), 1);
    let response = export_grpc(&collector, request(2)).unwrap();
    assert_eq!(response.partial_success.unwrap().rejected_spans, 1);

    assert_eq!(post(&collector, PROTOBUF, &body).status, 500);
    assert_eq!(collector.counts().panics, 1);
    assert_eq!(post(&collector, PROTOBUF, &body).status, 200);
}

#[test]
fn a_lost_acknowledgement_stores_and_the_retry_is_a_duplicate() {
    let collector = start(|info| match info.number {
        1 => Verdict::http_status(502).storing(),
        _ => Verdict::accept(),
    });
    let body = request(3).encode_to_vec();
    assert_eq!(post(&collector, PROTOBUF, &body).status, 502);
    assert_eq!(post(&collector, PROTOBUF, &body).status, 200);
    assert_eq!(collector.store().len(), 3);
    assert_eq!(collector.store().counts().duplicates, 3);
}

#[test]
fn a_hanging_request_holds_up_neither_others_nor_the_shutdown() {
    let collector = start(|info| match info.number {
        1 => Verdict::hang(),
        _ => Verdict::accept().after(Duration::from_millis(30)),
    });
    let address = collector.http_endpoint().replace("http://", "");
    let body = request(1).encode_to_vec();
    let mut hanging = TcpStream::connect(&address).unwrap();
    write!(
        hanging,
        "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{PROTOBUF}\r\n",
        body.len()
    )
    .unwrap();
    hanging.write_all(&body).unwrap();
    while collector.counts().messages == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(post(&collector, PROTOBUF, &body).status, 200);
    collector.shutdown();
    assert!(matches!(hanging.read(&mut [0; 16]), Ok(0) | Err(_)));
}

#[test]
fn the_collector_makes_no_telemetry_of_its_own() {
    // A process that embeds it would otherwise send it spans about receiving spans.
    let collector = start(|_| {
        assert!(opentelemetry::Context::is_current_telemetry_suppressed());
        Verdict::accept()
    });
    export_grpc(&collector, request(1)).unwrap();
    assert_eq!(post(&collector, PROTOBUF, &request(2).encode_to_vec()).status, 200);
    assert_eq!(collector.counts().panics, 0);
    assert_eq!(collector.store().len(), 2);
}

#[test]
fn spans_without_ids_are_reported_as_rejected() {
    let collector = plain();
    let mut message = request(2);
    message.resource_spans[0].scope_spans[0].spans[0].trace_id = vec![0; 16];
    let response = export_grpc(&collector, message).unwrap();
    assert_eq!(response.partial_success.unwrap().rejected_spans, 1);
    assert_eq!(collector.store().len(), 1);
    assert_eq!(collector.counts().invalid_spans, 1);
}

#[test]
fn the_page_shows_traces_escaped_and_under_a_strict_policy() {
    let collector = plain();
    assert_eq!(post(&collector, PROTOBUF, &request(3).encode_to_vec()).status, 200);
    let id = "01010101010101010101010101010101";

    let index = get(&collector, "/");
    assert_eq!(index.status, 200);
    assert!(index.head.contains("content-security-policy: default-src 'none'"));
    let html = String::from_utf8(index.body).unwrap();
    assert!(html.contains(&format!("/trace/{id}")));
    assert!(html.contains("&lt;op 1&gt;") && !html.contains("<op 1>"));

    let trace = get(&collector, &format!("/trace/{id}"));
    assert_eq!(trace.status, 200);
    let html = String::from_utf8(trace.body).unwrap();
    assert!(html.contains("&lt;op 3&gt;") && !html.contains("<op 3>"));
    assert!(html.contains("/users/{id}"));

    assert_eq!(get(&collector, "/trace/xyz").status, 404);
    assert_eq!(get(&collector, "/style.css").status, 200);
}

#[test]
fn the_analysis_is_served_as_json() {
    let collector = plain();
    assert_eq!(post(&collector, PROTOBUF, &request(3).encode_to_vec()).status, 200);
    let json = |path: &str| -> serde_json::Value {
        let answer = get(&collector, path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.head.contains("content-type: application/json"));
        serde_json::from_slice(&answer.body).unwrap()
    };
    let id = "01010101010101010101010101010101";
    let traces = json("/api/traces");
    assert_eq!(traces["traces"][0]["trace_id"], id);
    assert_eq!(traces["traces"][0]["spans"], 3);
    let trace = json(&format!("/api/traces/{id}"));
    assert_eq!(trace["spans"][2]["name"], "<op 3>");
    assert_eq!(trace["spans"][2]["self_ns"], 97_000);
    assert_eq!(trace["critical_path"]["duration_ns"], 99_000);
    let operations = json("/api/operations");
    assert_eq!(operations["operations"][0]["operation"], "<op 3>");
    let services = json("/api/services");
    assert_eq!(services["services"]["users"], 3);
    assert_eq!(get(&collector, "/api/traces/0").status, 404);
}

#[test]
fn a_foreign_host_header_does_not_get_the_page() {
    let collector = plain();
    for (host, status) in [
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost:1", 200),
        ("[::1]:80", 200),
    ] {
        let answer = exchange(
            &collector,
            &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
            b"",
        );
        assert_eq!(answer.status, status, "{host}");
    }
}
