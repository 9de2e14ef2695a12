//! One registry for span metrics, meters and the application's own metrics.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{Span, Tracer, TracerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::core::{Collector, Desc};
use prometheus::{Histogram, HistogramOpts, IntCounter, Registry, proto};
use spanweave_metrics::{Format, Metrics, SpanMetrics, SpanMetricsProcessor};

fn metrics() -> Arc<SpanMetrics> {
    let metrics = SpanMetrics::new(Metrics::default(), "shop", Arc::default(), Arc::default());
    let provider = SdkTracerProvider::builder()
        .with_span_processor(SpanMetricsProcessor::new(metrics.clone()))
        .build();
    provider.tracer("test").start("work").end();
    metrics
}

#[test]
fn the_applications_metrics_and_meters_are_on_the_same_page() {
    let metrics = metrics();
    let orders = IntCounter::new("orders", "Orders.").unwrap();
    let size =
        Histogram::with_opts(HistogramOpts::new("size_bytes", "Size.").buckets(vec![1.0])).unwrap();
    let registry = metrics.registry();
    registry.register(Box::new(orders.clone())).unwrap();
    registry.register(Box::new(size.clone())).unwrap();
    orders.inc_by(3);
    size.observe(2.0);
    let meter = metrics.meter_provider().meter("app");
    meter
        .u64_counter("jobs")
        .with_description("Jobs.")
        .build()
        .add(4, &[KeyValue::new("k", "a\nb")]);

    let text = metrics.text(Format::Text);
    assert!(text.contains("# TYPE orders counter\norders 3\n"), "{text}");
    assert!(
        text.contains("size_bytes_bucket{le=\"1\"} 0\nsize_bytes_bucket{le=\"+Inf\"} 1\n"),
        "{text}"
    );
    assert!(text.contains("jobs_total{k=\"a\\nb\",otel_scope_name=\"app\"} 4\n"), "{text}");
    let open_metrics = metrics.text(Format::OpenMetrics);
    assert!(open_metrics.contains("# TYPE orders counter\norders_total 3\n"), "{open_metrics}");
    assert!(open_metrics.contains("size_bytes_bucket{le=\"1.0\"} 0\n"), "{open_metrics}");
}

#[test]
fn who_gathers_the_registry_gets_span_metrics_once_and_the_page_has_them_once() {
    let metrics = metrics();
    let names = |registry: &Registry| -> Vec<String> {
        registry.gather().iter().map(|family| family.name().to_owned()).collect()
    };
    let gathered = names(&metrics.registry());
    assert_eq!(gathered.iter().filter(|name| *name == "trace_span_total").count(), 1);
    assert!(gathered.contains(&"trace_span_duration_seconds".to_owned()));
    assert_eq!(metrics.text(Format::Text).matches("# TYPE trace_span_total ").count(), 1);
    assert_eq!(names(&metrics.registry()), gathered, "the own scrape leaves no trace");
}

#[test]
fn the_registry_refuses_a_metric_of_our_name() {
    let ours = IntCounter::new("trace_span_total", "Mine.").unwrap();
    assert!(metrics().registry().register(Box::new(ours)).is_err());
}

#[test]
fn a_foreign_family_of_our_name_is_left_out_and_counted() {
    let metrics = SpanMetrics::new(Metrics::default(), "shop", Arc::default(), Arc::default());
    let meter = metrics.meter_provider().meter("app");
    meter.u64_counter("trace_errors").build().add(1, &[]);
    meter.u64_counter("fine").build().add(1, &[]);
    for _ in 0..2 {
        let text = metrics.text(Format::Text);
        assert!(!text.contains("# TYPE trace_errors"), "{text}");
        assert!(text.contains("fine_total"), "{text}");
        assert!(text.contains("spanweave_metrics_dropped_families 1\n"), "{text}");
    }
}

#[test]
fn a_collector_that_panics_does_not_take_the_page_with_it() {
    struct Panics(Desc);
    impl Collector for Panics {
        fn desc(&self) -> Vec<&Desc> {
            vec![&self.0]
        }
        fn collect(&self) -> Vec<proto::MetricFamily> {
            panic!("a collector of the application");
        }
    }
    let metrics = metrics();
    let desc = Desc::new("p".into(), "Panics.".into(), vec![], HashMap::new()).unwrap();
    metrics.registry().register(Box::new(Panics(desc))).unwrap();
    for _ in 0..2 {
        assert!(metrics.text(Format::Text).contains("trace_span_total{"));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_on_the_page_unless_the_application_shows_it_itself() {
    let metrics = metrics();
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
        "process_threads",
    ] {
        let text = metrics.text(Format::Text);
        assert_eq!(text.matches(&format!("# TYPE {name} ")).count(), 1, "{text}");
    }
    let own = prometheus::IntGauge::new("process_threads", "Mine.").unwrap();
    metrics.registry().register(Box::new(own)).unwrap();
    let text = metrics.text(Format::Text);
    assert!(text.contains("# HELP process_threads Mine.\n"), "{text}");
    assert_eq!(text.matches("# TYPE process_threads ").count(), 1);
    assert!(text.contains("spanweave_metrics_dropped_families 0\n"), "{text}");
}
