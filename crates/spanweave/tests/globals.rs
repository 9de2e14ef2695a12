//! What `init` and `install` do to a process. Each test runs its body in a process of its own.

mod child;

use std::io::{Read, Write};
use std::time::Duration;

use opentelemetry::trace::{TraceContextExt, Tracer};
use spanweave::SpanExt;
use tracing_subscriber::layer::SubscriberExt;

use child::{DEADLINE, is_child, names, run};

#[test]
fn installing_twice_is_a_clear_error() {
    if is_child() {
        let _telemetry = spanweave::init().unwrap();
        let error = spanweave::init().unwrap_err();
        assert!(error.is_already_installed());
        assert!(error.to_string().contains("Builder::build()"), "{error}");
        // The first one goes on.
        tracing::info_span!("after").in_scope(|| ());
        return;
    }
    assert_eq!(names(&run("installing_twice_is_a_clear_error", &[]).spans()), ["after"]);
}

#[test]
fn a_foreign_subscriber_is_a_clear_error_and_stays() {
    if is_child() {
        tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap();
        assert!(spanweave::init().unwrap_err().is_already_installed());
        return;
    }
    run("a_foreign_subscriber_is_a_clear_error_and_stays", &[]);
}

#[test]
fn building_sets_nothing_global() {
    if is_child() {
        let (layer, telemetry) = spanweave::builder().service_name("users").build().unwrap();
        assert_eq!(spanweave::propagation::active().propagators().service_name(), None);
        opentelemetry::global::tracer("api").in_span("api", |cx| {
            assert!(!cx.span().span_context().is_valid());
        });
        // Still free, and the layer works under it.
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::set_global_default(subscriber).unwrap();
        tracing::info_span!("work").in_scope(|| ());
        assert!(telemetry.shutdown(DEADLINE).is_complete());
        return;
    }
    assert_eq!(names(&run("building_sets_nothing_global", &[]).spans()), ["work"]);
}

#[test]
fn what_cannot_work_is_an_error_at_the_start() {
    if is_child() {
        let error = spanweave::init().unwrap_err();
        assert!(error.is_backend() || error.is_metrics());
        eprintln!("says: {error}");
        return;
    }
    let this = "what_cannot_work_is_an_error_at_the_start";
    let otlp = ("OTEL_TRACES_EXPORTER", "otlp");
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url");
    assert!(run(this, &[otlp, endpoint]).lines("says: ")[0].contains("not a url"));
    // A file is no folder.
    let path = std::env::current_exe().unwrap().join("spans.jsonl");
    let file = run(this, &[("SPANWEAVE_FILE", path.to_str().unwrap())]);
    assert!(file.lines("says: ")[0].contains("spans.jsonl"));
    #[cfg(feature = "metrics")]
    {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let host = ("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1");
        let metrics = run(this, &[host, ("OTEL_EXPORTER_PROMETHEUS_PORT", &port)]);
        assert!(metrics.lines("says: ")[0].contains(&port));
    }
}

/// Answers one HTTP request with 200 and returns its head.
fn one_request(listener: std::net::TcpListener) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        head
    })
}

#[test]
fn the_environments_endpoint_and_headers_are_used() {
    if is_child() {
        let telemetry = spanweave::init().unwrap();
        tracing::info_span!("work").in_scope(|| ());
        assert!(telemetry.shutdown(DEADLINE).is_complete());
        return;
    }
    let this = "the_environments_endpoint_and_headers_are_used";
    for (variable, path, expected) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "/in", "post /in/v1/traces http/1.1"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/in", "post /in http/1.1"),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}{path}", listener.local_addr().unwrap());
        let request = one_request(listener);
        let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a%20b");
        run(this, &[("OTEL_TRACES_EXPORTER", "otlp"), (variable, &endpoint), headers]);
        let head = request.join().unwrap();
        assert!(head.starts_with(expected) && head.contains("x-team: a b\r\n"), "{head}");
    }
}

#[cfg(feature = "metrics")]
#[test]
fn metrics_are_served_where_the_environment_says() {
    if is_child() {
        let telemetry = spanweave::init().unwrap();
        tracing::info_span!("work").in_scope(|| ());
        let mut stream =
            std::net::TcpStream::connect(telemetry.metrics_address().unwrap()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let series = r#"trace_span_total{service="users",operation="work",status="unset"} 1"#;
        assert!(text.contains(series), "{text}");
        assert!(telemetry.metrics_text().contains(series));
        return;
    }
    let variables = [
        ("OTEL_SERVICE_NAME", "users"),
        ("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "0"),
    ];
    run("metrics_are_served_where_the_environment_says", &variables);
}

#[cfg(feature = "bridge")]
#[test]
fn the_bridge_feeds_the_same_pipeline_and_the_same_log_lines() {
    if is_child() {
        let bridge = spanweave::Bridge::TracingOpenTelemetry;
        let _telemetry = spanweave::builder().bridge(bridge).install().unwrap();
        tracing::info_span!("outer").in_scope(|| {
            tracing::info_span!("inner").in_scope(|| tracing::info!("bridged line"));
        });
        return;
    }
    let ran = run("the_bridge_feeds_the_same_pipeline_and_the_same_log_lines", &[]);
    let spans = ran.spans();
    assert_eq!(names(&spans), ["inner", "outer"]);
    assert_eq!(spans[0]["parentSpanId"], spans[1]["spanId"]);
    let line = &ran.lines("bridged line")[0];
    assert!(line.contains(spans[0]["spanId"].as_str().unwrap()), "{line}");
}

#[test]
fn a_backend_that_is_down_is_no_error() {
    if is_child() {
        let telemetry = spanweave::init().unwrap();
        tracing::info_span!("work").in_scope(|| ());
        let report = telemetry.shutdown(Duration::from_millis(300));
        assert_eq!(report.backends.len(), 2, "{report:?}");
        assert!(report.backends.iter().all(|backend| backend.is_balanced()), "{report:?}");
        return;
    }
    // Port 9 (discard) refuses.
    let down =
        [("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")];
    assert_eq!(run("a_backend_that_is_down_is_no_error", &down).spans().len(), 1);
}

#[test]
fn a_disabled_sdk_logs_and_propagates_and_exports_nothing() {
    if is_child() {
        let telemetry = spanweave::init().unwrap();
        tracing::info_span!("work").in_scope(|| tracing::info!("still logged"));
        opentelemetry::global::tracer("api").in_span("api", |_| ());
        let mut headers = http::HeaderMap::new();
        headers
            .insert("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1".parse().unwrap());
        let cx = spanweave::propagation::extract(&headers);
        assert!(cx.span().span_context().is_valid(), "the propagator of the environment");
        let report = telemetry.flush(DEADLINE);
        assert!(report.backends.is_empty(), "{report:?}");
        #[cfg(feature = "metrics")]
        {
            assert_eq!(telemetry.metrics_address(), None);
            assert!(!telemetry.metrics_text().contains("operation=\"work\""));
        }
        return;
    }
    let variables = [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_PROPAGATORS", "b3"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
    ];
    let ran = run("a_disabled_sdk_logs_and_propagates_and_exports_nothing", &variables);
    assert!(ran.spans().is_empty() && !ran.file().exists());
    let lines = ran.lines("still logged");
    assert!(lines.len() == 1 && !lines[0].contains("trace_id"), "{lines:?}");
}

#[test]
fn the_globals_of_opentelemetry_are_set() {
    if is_child() {
        let _telemetry = spanweave::init().unwrap();
        tracing::info_span!("outer").in_scope(|| {
            opentelemetry::global::tracer("api").in_span("api", |_| {
                tracing::info_span!("inner").in_scope(|| {
                    let mut headers = http::HeaderMap::new();
                    spanweave::propagation::inject(&mut headers);
                    let ids = tracing::Span::current().span_context();
                    let parent = headers["traceparent"].to_str().unwrap();
                    assert!(parent.contains(&ids.span_id().to_string()));
                    assert!(headers["tracestate"].to_str().unwrap().contains("users"));
                });
            });
        });
        #[cfg(feature = "metrics")]
        {
            opentelemetry::global::meter("m").u64_counter("cups").build().add(3, &[]);
            let text = _telemetry.metrics_text();
            assert!(text.contains("cups_total") && text.contains("trace_span_total"), "{text}");
        }
        return;
    }
    let ran = run("the_globals_of_opentelemetry_are_set", &[("OTEL_SERVICE_NAME", "users")]);
    let spans = ran.spans();
    let of = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap();
    assert_eq!(of("inner")["parentSpanId"], of("api")["spanId"]);
    assert_eq!(of("api")["parentSpanId"], of("outer")["spanId"]);
}

#[test]
fn a_panic_inside_a_span_is_recorded_with_its_message() {
    if is_child() {
        let telemetry = spanweave::init().unwrap();
        let caught = std::panic::catch_unwind(|| {
            tracing::info_span!("fragile").in_scope(|| panic!("out of cups"))
        });
        assert!(caught.is_err());
        assert!(telemetry.flush(DEADLINE).is_complete());
        return;
    }
    let ran = run("a_panic_inside_a_span_is_recorded_with_its_message", &[]);
    let spans = ran.spans();
    assert_eq!(spans[0]["status"]["code"], 2);
    assert_eq!(spans[0]["status"]["message"], "out of cups");
}
