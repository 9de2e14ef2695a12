//! Span metrics under the stock OpenTelemetry SDK, served at the address given as argument
//! (127.0.0.1:9464) until a line comes in on standard input.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{Span, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use spanweave_metrics::{Metrics, MetricsServer, SpanMetrics, SpanMetricsProcessor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9464".to_owned());
    let metrics = SpanMetrics::new(Metrics::default(), "demo", Arc::default(), Arc::default());
    let provider = SdkTracerProvider::builder()
        .with_span_processor(SpanMetricsProcessor::new(metrics.clone()))
        .build();
    let tracer = provider.tracer("demo");
    for name in
        ["GET /orders", "POST /orders", "say \"hi\"\\", "two\nlines # TYPE x", "\x1b[31mred"]
    {
        for failed in [false, true] {
            let mut span = tracer.span_builder(name).with_kind(SpanKind::Server).start(&tracer);
            if failed {
                span.set_attribute(KeyValue::new("error.type", "timeout"));
                span.set_status(Status::error("it took too long"));
            }
            span.end();
        }
    }
    let meter = metrics.meter_provider().meter("demo");
    meter.u64_counter("jobs").with_description("Jobs done.").build().add(1, &[]);
    let server = MetricsServer::start(address, metrics)?;
    eprintln!("http://{}/metrics", server.address());
    std::io::stdin().read_line(&mut String::new())?;
    server.shutdown();
    Ok(())
}
