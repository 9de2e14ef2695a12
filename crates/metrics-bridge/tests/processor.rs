//! Stand-alone use, under the stock OpenTelemetry SDK.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use spanweave_metrics::{Format, Metrics, Names, SpanMetrics, SpanMetricsProcessor};

fn metrics(settings: Metrics) -> Arc<SpanMetrics> {
    SpanMetrics::new(settings, "shop", Arc::default(), Arc::default())
}

fn provider(metrics: &Arc<SpanMetrics>, sampler: Sampler) -> SdkTracerProvider {
    SdkTracerProvider::builder()
        .with_resource(
            Resource::builder_empty()
                .with_attributes([
                    KeyValue::new("service.name", "shop"),
                    KeyValue::new("host.name", "h\"1"),
                    KeyValue::new("db.password", "hunter2"),
                ])
                .build(),
        )
        .with_sampler(sampler)
        .with_span_processor(SpanMetricsProcessor::new(metrics.clone()))
        .build()
}

fn end_span(provider: &SdkTracerProvider, name: &'static str, kind: SpanKind, status: Status) {
    let start = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mut span = provider
        .tracer("test")
        .span_builder(name)
        .with_kind(kind)
        .with_start_time(start)
        .start(&provider.tracer("test"));
    if status != Status::Unset {
        span.set_attribute(KeyValue::new("error.type", "timeout"));
        span.set_status(status);
    }
    span.end_with_timestamp(start + Duration::from_millis(7));
}

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines()
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("no {start} in:\n{text}"))
}

#[test]
fn spans_of_the_stock_sdk_are_counted_with_exemplars_and_their_resource() {
    let metrics = metrics(Metrics::default());
    let provider = provider(&metrics, Sampler::AlwaysOn);
    end_span(&provider, "GET /orders", SpanKind::Server, Status::Unset);
    end_span(&provider, "GET /orders", SpanKind::Server, Status::error("no"));
    end_span(&provider, "SELECT", SpanKind::Client, Status::Ok);
    let text = metrics.text(Format::Text);
    for expected in [
        "trace_span_total{service=\"shop\",operation=\"GET /orders\",status=\"unset\"} 1",
        "trace_span_total{service=\"shop\",operation=\"GET /orders\",status=\"error\"} 1",
        "trace_span_total{service=\"shop\",operation=\"SELECT\",status=\"ok\"} 1",
        "trace_span_duration_seconds_bucket{service=\"shop\",operation=\"GET /orders\",le=\"0.005\"} 0",
        "trace_span_duration_seconds_bucket{service=\"shop\",operation=\"GET /orders\",le=\"0.01\"} 2",
        "trace_span_duration_seconds_bucket{service=\"shop\",operation=\"GET /orders\",le=\"+Inf\"} 2",
        "trace_span_duration_seconds_sum{service=\"shop\",operation=\"GET /orders\"} 0.014",
        "trace_span_duration_seconds_count{service=\"shop\",operation=\"GET /orders\"} 2",
        "trace_errors_total{service=\"shop\",operation=\"GET /orders\",error_type=\"timeout\"} 1",
        "service_requests_total{source_service=\"unknown\",target_service=\"shop\",operation=\"GET /orders\"} 2",
        "target_info{db_password=\"[masked]\",host_name=\"h\\\"1\",service_name=\"shop\"} 1",
    ] {
        assert_eq!(line(&text, expected), expected);
    }
    assert!(!text.contains("trace_id"), "no exemplars in the text format");
    assert!(!text.contains("otel_sdk_span_started_total"), "no ledger without a pipeline");
    let open_metrics = metrics.text(Format::OpenMetrics);
    let bucket = "trace_span_duration_seconds_bucket{service=\"shop\",operation=\"SELECT\",le=\"0.01\"} 1 # {trace_id=\"";
    assert!(line(&open_metrics, bucket).contains("\"} 0.007 1"), "{open_metrics}");
    let counter = "trace_errors_total{service=\"shop\",operation=\"GET /orders\",error_type=\"timeout\"} 1 # {";
    line(&open_metrics, counter);
    provider.shutdown().unwrap();
}

#[test]
fn no_exemplar_leads_to_a_trace_that_was_not_kept() {
    let metrics = metrics(Metrics::default());
    let provider = provider(&metrics, Sampler::AlwaysOff);
    end_span(&provider, "GET /orders", SpanKind::Server, Status::Unset);
    assert!(!metrics.text(Format::OpenMetrics).contains("trace_id"));
}

#[test]
fn alias_sets_stand_beside_the_own_names() {
    let metrics = metrics(Metrics::default().names(Names::JaegerSpm).names(Names::Tempo));
    let provider = provider(&metrics, Sampler::AlwaysOn);
    end_span(&provider, "GET /orders", SpanKind::Server, Status::error("no"));
    let text = metrics.text(Format::Text);
    for expected in [
        "trace_span_total{service=\"shop\",operation=\"GET /orders\",status=\"error\"} 1",
        "traces_span_metrics_calls_total{service_name=\"shop\",span_name=\"GET /orders\",span_kind=\"SPAN_KIND_SERVER\",status_code=\"STATUS_CODE_ERROR\"} 1",
        "traces_span_metrics_duration_milliseconds_bucket{service_name=\"shop\",span_name=\"GET /orders\",span_kind=\"SPAN_KIND_SERVER\",status_code=\"STATUS_CODE_ERROR\",le=\"10\"} 1",
        "traces_span_metrics_duration_milliseconds_sum{service_name=\"shop\",span_name=\"GET /orders\",span_kind=\"SPAN_KIND_SERVER\",status_code=\"STATUS_CODE_ERROR\"} 7",
        "traces_spanmetrics_calls_total{service=\"shop\",span_name=\"GET /orders\",span_kind=\"SPAN_KIND_SERVER\",status_code=\"STATUS_CODE_ERROR\"} 1",
        "traces_service_graph_request_total{client=\"unknown\",server=\"shop\"} 1",
    ] {
        assert_eq!(line(&text, expected), expected);
    }
}
