//! An application that has `tracing-opentelemetry` over the stock SDK already, and takes one crate of
//! spanweave after the other. Its own code stays as it is.

use std::error::Error;
use std::sync::Arc;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use spanweave_exporter::{Backend, MultiExporter};
use spanweave_metrics::{Metrics, SpanMetrics, SpanMetricsProcessor};
use tracing_subscriber::layer::SubscriberExt;

/// The application, which knows of nothing.
#[tracing::instrument]
fn place_order(id: u64) {
    tracing::info!("placed");
    check_stock(id);
}

#[tracing::instrument(fields(password = "hunter2"))]
fn check_stock(id: u64) {}

fn run(provider: &SdkTracerProvider) {
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("existing-stack"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || place_order(7));
}

fn resource() -> Resource {
    Resource::builder().with_service_name("existing-stack").build()
}

fn main() -> Result<(), Box<dyn Error>> {
    eprintln!("1. the exporter: several backends at once, secrets masked");
    let file = std::env::temp_dir().join(format!("existing-stack-{}.jsonl", std::process::id()));
    let exporter = MultiExporter::builder()
        .export_to(Backend::console())
        .export_to(Backend::file(&file))
        .build()?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource())
        .with_batch_exporter(exporter)
        .build();
    run(&provider);
    provider.shutdown()?;
    let written = std::fs::read_to_string(&file)?;
    std::fs::remove_file(&file)?;
    eprintln!("the file has the secret: {}", written.contains("hunter2"));

    eprintln!("2. span metrics, exact whatever is sampled");
    let metrics =
        SpanMetrics::new(Metrics::default(), "existing-stack", Arc::default(), Arc::default());
    let provider = SdkTracerProvider::builder()
        .with_resource(resource())
        .with_span_processor(SpanMetricsProcessor::new(metrics.clone()))
        .build();
    run(&provider);
    provider.shutdown()?;
    let (_, text) = metrics.render(None);
    for line in text.lines().filter(|line| line.starts_with("trace_span_total")) {
        eprintln!("{line}");
    }

    // 3. The capture: `spanweave::init()` in place of provider and layer.
    Ok(())
}
