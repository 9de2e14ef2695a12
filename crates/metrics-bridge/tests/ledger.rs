//! Where every span went, on the same page.

use std::collections::HashMap;
use std::sync::Arc;

use spanweave_core::ledger::{DropReason, Ledger};
use spanweave_metrics::{Format, Metrics, SpanMetrics};

#[test]
fn the_ledger_of_each_backend_balances_on_the_page() {
    let ledger = Arc::new(Ledger::new());
    let metrics = SpanMetrics::new(Metrics::default(), "shop", Arc::default(), ledger.clone());
    let good = ledger.open("collector", "otlp_http_span_exporter");
    let bad = ledger.open("say \"file\"", "file_span_exporter");
    for backend in [&good, &bad] {
        backend.accept(10);
        backend.begin_request(4);
    }
    good.end_request(4);
    good.deliver(4);
    bad.fail("refused");
    bad.sample_out(1);
    bad.drop_spans(DropReason::Refused, 3);
    bad.drop_spans(DropReason::Io, 2);

    let text = metrics.text(Format::Text);
    let samples: HashMap<&str, u64> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(series, value)| (series, value.parse::<f64>().unwrap() as u64))
        .collect();
    let of =
        |name: &str, labels: &str| samples.get(format!("{name}{{{labels}}}").as_str()).copied();
    let good = r#"otel_component_type="otlp_http_span_exporter",otel_component_name="collector""#;
    let bad = r#"otel_component_type="file_span_exporter",otel_component_name="say \"file\"""#;
    let refused = format!("{bad},error_type=\"refused\"");
    let io = format!("{bad},error_type=\"io\"");
    let expected = [
        ("otel_sdk_exporter_span_exported_total", good, 4),
        ("otel_sdk_exporter_span_exported_total", bad, 0),
        ("otel_sdk_exporter_span_exported_total", &refused, 3),
        ("otel_sdk_exporter_span_exported_total", &io, 2),
        ("otel_sdk_exporter_span_inflight", good, 0),
        ("otel_sdk_exporter_span_inflight", bad, 4),
        ("spanweave_backend_sampled_out_spans_total", bad, 1),
        ("spanweave_backend_pending_spans", good, 6),
        ("spanweave_backend_pending_spans", bad, 4),
        ("spanweave_backend_up", good, 1),
        ("spanweave_backend_up", bad, 0),
        ("spanweave_backend_requests_total", bad, 1),
        ("spanweave_backend_requests_failed_total", bad, 1),
    ];
    for (name, labels, value) in expected {
        assert_eq!(of(name, labels), Some(value), "{name} {labels} in\n{text}");
    }
    assert!(!text.contains("error_type=\"\""), "success has no error_type");
    assert_eq!(samples.get("spanweave_spans_ended_total"), Some(&0));
}

#[test]
fn a_malformed_trace_context_is_counted_on_the_page() {
    let ledger = Arc::new(Ledger::new());
    let metrics = SpanMetrics::new(Metrics::default(), "shop", Arc::default(), ledger.clone());
    ledger.open("collector", "otlp_http_span_exporter");
    let counted = || {
        let text = metrics.text(Format::Text);
        let line = text.lines().find(|line| line.starts_with("spanweave_malformed_headers_total "));
        line.unwrap_or_else(|| panic!("not in\n{text}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = counted();

    let mut headers = http::HeaderMap::new();
    headers.insert("traceparent", http::HeaderValue::from_static("00-no-trace-01"));
    spanweave_core::propagation::extract(&headers);

    assert_eq!(counted(), before + 1);
}
