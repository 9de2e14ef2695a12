//! A program that exports through a spool and comes to a bad end, for tests that need a process.
//!
//! usage: `spooling-program write|burst|app DIR ENDPOINT FIRST [END]`
//!
//! `write` hands over batches of 50 spans whose ids count up from FIRST, and says after each how
//! many were accepted, until it is killed. `burst` hands over 200 batches, slowly enough for a
//! disk to fill and to empty, shuts down and prints its report. `app` makes 1000 spans through
//! the whole pipeline, waits a quarter of a second, and ends as END says: `exit`, `abort`,
//! `return` (with the handle dropped), or `sleep`.
#![allow(clippy::print_stdout, reason = "this is how it answers")]

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use serde_json::json;
use spanweave::{Backend, Deadline, MaskedBatch, Masking, SpanSink};
use spanweave_core::clock;
use spanweave_exporter::MultiExporter;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["write", directory, endpoint, first] => write(directory, endpoint, first),
        ["burst", directory, endpoint, first] => burst(directory, endpoint, first),
        ["app", directory, endpoint, _, end] => app(directory, endpoint, end),
        _ => Err("usage: spooling-program write|burst|app DIR ENDPOINT FIRST [END]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

const BATCH: u64 = 50;

fn exporter(directory: &str, endpoint: &str) -> Result<MultiExporter, Failure> {
    let backend = Backend::otlp_http(endpoint).durable(directory);
    Ok(MultiExporter::builder().export_to(backend).build()?)
}

fn write(directory: &str, endpoint: &str, first: &str) -> Result<(), Failure> {
    let exporter = exporter(directory, endpoint)?;
    let mut next: u64 = first.parse()?;
    let mut out = std::io::stdout().lock();
    loop {
        exporter.accept(batch(next));
        next += BATCH;
        writeln!(out, "{next}")?;
    }
}

fn burst(directory: &str, endpoint: &str, first: &str) -> Result<(), Failure> {
    let exporter = exporter(directory, endpoint)?;
    let first: u64 = first.parse()?;
    println!("started");
    for number in 0..200 {
        exporter.accept(batch(first + number * BATCH));
        std::thread::sleep(Duration::from_millis(10));
    }
    let report = exporter.shutdown(Deadline::after(Duration::from_secs(5))).remove(0);
    println!(
        "{}",
        json!({
            "ended": 200 * BATCH,
            "recovered": report.recovered,
            "delivered": report.delivered,
            "dropped": report.dropped_total(),
            "pending": report.pending,
        })
    );
    Ok(())
}

fn app(directory: &str, endpoint: &str, end: &str) -> Result<(), Failure> {
    let telemetry = spanweave::builder()
        .service_name("app")
        .export_to(Backend::otlp_http(endpoint).durable(directory))
        .install()?;
    for number in 0..1000 {
        tracing::info_span!("work", number).in_scope(|| ());
    }
    // More than the window in which a span may not be on disk yet.
    std::thread::sleep(Duration::from_millis(250));
    println!("ready");
    match end {
        "exit" => std::process::exit(0),
        "abort" => std::process::abort(),
        "sleep" => std::thread::sleep(Duration::from_secs(60)),
        _ => {}
    }
    drop(telemetry);
    Ok(())
}

fn batch(first: u64) -> Arc<MaskedBatch> {
    let resource = Arc::new(Resource::builder_empty().with_service_name("writer").build());
    let spans = (first..first + BATCH).map(span).collect();
    Arc::new(MaskedBatch::from_sdk(spans, resource, &Masking::default().compile()))
}

fn span(id: u64) -> SpanData {
    let now = clock::system_time();
    SpanData {
        span_context: SpanContext::new(
            TraceId::from(u128::from(id) + 1),
            SpanId::from(id + 1),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "work".into(),
        start_time: now,
        end_time: now,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: opentelemetry::InstrumentationScope::default(),
    }
}
