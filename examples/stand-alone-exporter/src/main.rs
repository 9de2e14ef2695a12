//! An application that keeps the stock OpenTelemetry SDK and exports to several backends.
//!
//! usage: `stand-alone-exporter [OTLP_ENDPOINT]`
#![allow(clippy::print_stdout, reason = "this is a program")]

use std::error::Error;
use std::path::Path;

use opentelemetry::trace::{Span, Status, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue, trace::TraceContextExt};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use spanweave_exporter::{Backend, Compression, FileFormat, MultiExporter, Policy};

fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = std::env::args().nth(1);
    let folder = std::env::temp_dir().join("stand-alone-exporter");
    let exporter = exporter(endpoint, &folder)?;
    // A clone is another handle of the same lanes: it tells what became of the spans.
    let handle = exporter.clone();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name("stand-alone").build())
        .build();

    let tracer = provider.tracer("example");
    for order in 1..=20 {
        let mut request = tracer.start("order");
        request.set_attribute(KeyValue::new("order.id", order));
        // Masked on its way out, at every backend.
        request.set_attribute(KeyValue::new("user.password", "hunter2"));
        let context = Context::current_with_span(request);
        let mut payment = tracer.start_with_context("payment", &context);
        if order % 5 == 0 {
            payment.set_status(Status::error("card declined"));
        }
        payment.end();
        context.span().end();
    }

    // `Ok` means delivered, at every backend.
    let result = provider.shutdown();
    for backend in handle.reports() {
        println!(
            "{}: {} ended, {} delivered, {} dropped, {} not meant for it, {} left",
            backend.name,
            backend.ended,
            backend.delivered,
            backend.dropped_total(),
            backend.sampled_out,
            backend.pending
        );
    }
    println!("files are in {}", folder.display());
    Ok(result?)
}

fn exporter(endpoint: Option<String>, folder: &Path) -> Result<MultiExporter, Box<dyn Error>> {
    let mut builder = MultiExporter::builder()
        .export_to(Backend::file(folder.join("spans.jsonl")).named("everything"))
        .export_to(
            Backend::file(folder.join("errors.jsonl"))
                .named("errors")
                .format(FileFormat::Spans)
                .policy(Policy::new().only_errors().redact(["order.id"])),
        );
    if let Some(endpoint) = endpoint {
        let collector = Backend::otlp_http(endpoint).compression(Compression::Gzip);
        // Spans that the collector does not have yet survive the end of this process.
        builder = builder.export_to(collector.named("collector").durable(folder.join("spool")));
    }
    Ok(builder.build()?)
}
