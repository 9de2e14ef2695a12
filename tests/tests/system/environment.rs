//! A program that says `spanweave::init()` and nothing more, configured by variables alone.

use std::time::Duration;

use serde_json::{Value, json};
use spanweave_testkit::{ScriptedServer, SpanKind, TestCollector, Transport, http};
use spanweave_tests::{Finished, Running, command, shared};

const PATIENCE: Duration = Duration::from_secs(20);

fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Running {
    let mut program = command(env!("CARGO_BIN_EXE_traced-program"));
    program.args(arguments).envs(variables.iter().copied());
    Running::start(program)
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    let _machine = shared();
    start(arguments, variables).finish(PATIENCE)
}

/// What the program's only backend, of this name, got.
#[track_caller]
fn delivered(report: &Value, name: &str) -> u64 {
    let backends = report["backends"].as_array().unwrap();
    let backend = backends.iter().find(|backend| backend["name"] == name);
    let backend = backend.unwrap_or_else(|| panic!("no {name} in {report}"));
    assert_eq!(backend["balanced"], true, "{report}");
    backend["delivered"].as_u64().unwrap()
}

#[test]
fn endpoint_name_and_resource_come_from_the_environment() {
    let collector = TestCollector::start();
    let ran = run(
        &["work", "10"],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.http_endpoint()),
            ("OTEL_SERVICE_NAME", "billing"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=loses,deployment.environment.name=test,note=a%20b",
            ),
        ],
    )
    .successful();
    assert_eq!(delivered(&ran.json(), "otlp"), 20);
    let spans = collector.wait_for_spans(20);
    assert_eq!(spans.len(), 20);
    for span in &spans {
        assert_eq!((span.service.as_str(), span.via), ("billing", Transport::HttpProtobuf));
        let resource = |key| span.resource_attribute(key).and_then(|value| value.as_str());
        assert_eq!(resource("deployment.environment.name"), Some("test"));
        assert_eq!(resource("note"), Some("a b"));
        assert!(resource("service.instance.id").is_some_and(|id| !id.is_empty()));
    }
    assert_eq!(spans.iter().filter(|span| span.kind == SpanKind::Server).count(), 10);
}

#[test]
fn protocol_headers_and_compression_come_from_the_environment() {
    let server = ScriptedServer::start([]);
    let authority = server.grpc_endpoint().replace("http://", "");
    let variables = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", authority.as_str()),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=checkout,x-note=a%2Cb"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    ];
    let ran = run(&["work", "5"], &variables).successful();
    assert_eq!(delivered(&ran.json(), "otlp"), 10);
    let requests = server.wait_for_requests(1);
    for request in &requests {
        assert_eq!(request.transport, Transport::Grpc);
        assert_eq!(request.encoding.as_deref(), Some("gzip"));
        assert_eq!(request.headers["x-team"], "checkout");
        assert_eq!(request.headers["x-note"], "a,b");
        let agent = request.headers["user-agent"].to_str().unwrap();
        assert!(agent.contains("OTel-OTLP-Exporter-Rust/"), "{agent}");
    }
    assert!(!ran.stderr.contains("checkout"), "values of headers are secrets:\n{}", ran.stderr);
}

#[test]
fn the_url_for_traces_is_used_as_it_is() {
    let collector = TestCollector::start();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9/"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &collector.traces_url()),
    ];
    let ran = run(&["work", "1"], &variables).successful();
    assert_eq!(delivered(&ran.json(), "otlp"), 2);
    assert_eq!(collector.wait_for_spans(2).len(), 2);
}

#[test]
fn a_sampler_from_the_environment_cuts_spans_but_not_metrics() {
    let collector = TestCollector::start();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http_endpoint()),
        ("OTEL_TRACES_SAMPLER", "always_off".to_owned()),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "0".to_owned()),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let _machine = shared();
    let mut program = start(&["serve", "7"], &variables);
    let served = program.json(PATIENCE);
    let address = served["metrics"].as_str().unwrap_or_else(|| panic!("{served}"));
    let metrics = http::get(&format!("http://{address}/metrics")).text();
    let counted = |operation: &str| {
        let label = format!("operation=\"{operation}\"");
        let line = metrics
            .lines()
            .find(|line| line.starts_with("trace_span_total{") && line.contains(&label));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    assert_eq!(counted("request"), Some(7.0), "{metrics}");
    assert_eq!(counted("step"), Some(7.0), "{metrics}");
    let report = program.finish(PATIENCE).successful().json();
    assert_eq!(delivered(&report, "otlp"), 0);
    assert_eq!(report["backends"][0]["sampled_out"], 15, "{report}");
    assert_eq!(collector.unique_spans(), 0);
}

#[test]
fn spans_arrive_while_the_program_runs() {
    let collector = TestCollector::start();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http_endpoint()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2".to_owned()),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let _machine = shared();
    let mut program = start(&["serve", "3"], &variables);
    program.json(PATIENCE);
    collector.wait_for_spans(7);
    for request in collector.spans_named("request") {
        let own = ["number", "first", "second"].map(|key| request.attribute(key).is_some());
        assert_eq!(own, [true, true, false], "{:?}", request.attributes);
        // The limit is on the whole span: what tells its place and thread is cut off as well.
        assert_eq!(request.attributes.len(), 2, "{:?}", request.attributes);
        assert!(request.dropped_attributes > 1);
    }
    assert_eq!(delivered(&program.finish(PATIENCE).successful().json(), "otlp"), 7);
}

#[test]
fn propagators_come_from_the_environment() {
    let _machine = shared();
    let headers = |list: &str| {
        let variables = [("OTEL_TRACES_EXPORTER", "none"), ("OTEL_PROPAGATORS", list)];
        let mut program = start(&["serve", "0"], &variables);
        let headers = program.json(PATIENCE)["headers"].clone();
        program.finish(PATIENCE).successful();
        headers.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(headers("b3"), ["b3"]);
    assert_eq!(headers("jaeger"), ["uber-trace-id"]);
    let multi = headers("b3multi,tracecontext");
    for name in ["x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "traceparent"] {
        assert!(multi.iter().any(|header| header == name), "{name} in {multi:?}");
    }
    assert_eq!(headers("none"), Vec::<String>::new());
}

#[test]
fn a_disabled_sdk_exports_and_serves_nothing() {
    let collector = TestCollector::start();
    let variables = [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.http_endpoint()),
    ];
    let ran = run(&["work", "5"], &variables).successful();
    assert_eq!(ran.json()["backends"], json!([]));
    assert_eq!(collector.unique_spans(), 0);
}

#[test]
fn a_bad_value_is_named_once_and_does_not_stop_the_program() {
    let collector = TestCollector::start();
    let bad = [
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_PROPAGATORS", "pigeon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
    ];
    let endpoint = collector.http_endpoint();
    let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    variables.extend(bad);
    let ran = run(&["work", "5"], &variables).successful();
    assert_eq!(delivered(&ran.json(), "otlp"), 10);
    for (variable, value) in bad {
        let lines = ran.stderr.lines().filter(|line| line.contains(variable)).count();
        assert_eq!(lines, 1, "{variable}={value}:\n{}", ran.stderr);
    }
}

#[test]
fn a_malformed_endpoint_is_a_clear_error_at_the_start() {
    let ran = run(&["work", "1"], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "htp://col lector:x")]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(ran.stdout.is_empty());
    assert!(ran.stderr.contains("htp://col lector:x"), "{}", ran.stderr);
}

#[test]
fn a_file_that_cannot_be_written_is_a_clear_error_at_the_start() {
    let file = "/proc/no-such-folder/spans.jsonl";
    let variables = [("OTEL_TRACES_EXPORTER", "none"), ("SPANWEAVE_FILE", file)];
    let ran = run(&["work", "1"], &variables);
    assert_eq!(ran.status.code(), Some(1));
    assert!(ran.stderr.contains(file), "{}", ran.stderr);
}

#[test]
fn a_backend_that_is_down_is_no_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spans.jsonl");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
        ("SPANWEAVE_FILE", file.to_str().unwrap()),
    ];
    let report = run(&["work", "5"], &variables).successful().json();
    assert_eq!(delivered(&report, "file"), 10);
    assert_eq!(delivered(&report, "otlp"), 0);
    assert_eq!(report["backends"][0]["dropped"], 10, "{report}");
}

#[test]
fn leaving_an_async_main_delivers_what_is_left() {
    let collector = TestCollector::start();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.grpc_endpoint()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".to_owned()),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert!(run(&["leave", "100"], &variables).successful().stdout.is_empty());
    assert_eq!(collector.wait_for_spans(200).len(), 200);
}
