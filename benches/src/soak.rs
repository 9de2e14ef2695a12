//! Minutes of load while backends come and go: memory stays flat and the ledger adds up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use spanweave::{Backend, BackendReport, RetryPolicy, Rotation};
use spanweave_core::clock;
use spanweave_testkit::TcpProxy;
use tracing_subscriber::layer::SubscriberExt;

use crate::sink::Sink;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How much the resident memory may grow between the second and the last fifth of the run.
const GROWTH: f64 = 16.0;
const THREADS: usize = 2;

/// Runs for so many minutes. An error if memory grows or spans are unaccounted for.
#[allow(clippy::print_stdout)]
pub(crate) fn run(minutes: f64) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let report_panic = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() != Some(MOOD) {
            report_panic(info);
        }
    }));
    let (steady, coming) = (Sink::start()?, Sink::start()?);
    let proxy = TcpProxy::to(&coming.url());
    let quick = RetryPolicy::default().max_delay(Duration::from_secs(1)).give_up_after(None);
    let (layer, telemetry) = spanweave::builder()
        .service_name("soak")
        .export_to(Backend::otlp_http(steady.url()).named("steady"))
        .export_to(
            Backend::otlp_http(proxy.endpoint())
                .named("durable")
                .retry(quick)
                .durable(folder.path().join("spool")),
        )
        .export_to(Backend::otlp_http(proxy.endpoint()).named("memory").retry(quick))
        .export_to(
            Backend::file(folder.path().join("spans.jsonl"))
                .named("file")
                .rotation(Rotation::new().max_bytes(8 << 20).keep_files(2)),
        )
        .export_to(Backend::exporter(Moody::default()).named("moody"))
        .build()?;
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    let ends = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..THREADS)
        .map(|_| {
            let (dispatch, ends) = (dispatch.clone(), ends.clone());
            std::thread::spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || work(&ends));
            })
        })
        .collect();

    let seconds = (minutes * 60.0).max(10.0) as usize;
    let mut resident = Vec::new();
    for second in 0..seconds {
        // Down for three seconds of ten, cut in the middle of what is left.
        match second % 10 {
            3 => proxy.down(),
            6 => proxy.up(),
            8 => proxy.cut(),
            _ => {}
        }
        std::thread::sleep(Duration::from_secs(1));
        resident.push(resident_mebibytes()?);
        if second % 30 == 29 {
            println!("{:4} s: {:.1} MiB resident", second + 1, resident[second]);
        }
    }
    ends.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().map_err(|_| "a thread of the load panicked")?;
    }
    proxy.up();
    let start = clock::instant();
    let report = telemetry.shutdown(Duration::from_secs(60));
    println!("shut down within {:?}", start.elapsed());
    for backend in &report.backends {
        println!("{}", line(backend));
    }
    let fifth = (resident.len() / 5).max(1);
    let growth = median(&resident[resident.len() - fifth..]) - median(&resident[fifth..2 * fifth]);
    println!("resident memory grew by {growth:.1} MiB from the second to the last fifth");
    check(&report.backends, &steady, growth)
}

fn check(backends: &[BackendReport], steady: &Sink, growth: f64) -> Result<(), Failure> {
    if let Some(backend) = backends.iter().find(|b| !b.is_balanced() || b.pending > 0) {
        return Err(format!("{} does not add up: {backend:?}", backend.name).into());
    }
    for name in ["steady", "durable", "file"] {
        let lossless = backends.iter().find(|backend| backend.name == name);
        if lossless.is_none_or(|backend| backend.dropped_total() > 0) {
            return Err(format!("{name} lost spans: {lossless:?}").into());
        }
    }
    let arrived = steady.spans()?;
    if backends.first().is_none_or(|backend| backend.delivered != arrived) {
        return Err(format!("{arrived} spans arrived at the steady backend").into());
    }
    if growth > GROWTH {
        return Err(format!("memory grew by {growth:.1} MiB, more than {GROWTH} MiB").into());
    }
    Ok(())
}

fn line(backend: &BackendReport) -> String {
    format!(
        "{:8} ended {} delivered {} dropped {:?} pending {}",
        backend.name, backend.ended, backend.delivered, backend.dropped, backend.pending
    )
}

/// About 2000 spans a second.
fn work(ends: &AtomicBool) {
    let mut number = 0u64;
    while !ends.load(Ordering::Relaxed) {
        for _ in 0..10 {
            number += 1;
            let request = tracing::info_span!("request", otel.kind = "server", number);
            request.in_scope(|| {
                tracing::info_span!("step", detail = "some text").in_scope(|| {
                    tracing::info!("inside");
                });
            });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

const MOOD: &str = "a mood";

/// Fails now and then, and panics now and then.
#[derive(Debug, Default)]
struct Moody(std::sync::atomic::AtomicU64);

impl SpanExporter for Moody {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        match self.0.fetch_add(1, Ordering::Relaxed) % 50 {
            10 => Err(OTelSdkError::InternalFailure(MOOD.to_owned())),
            20 => panic!("{MOOD}"),
            _ => Ok(()),
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn resident_mebibytes() -> Result<f64, Failure> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: f64 = text.split(' ').nth(1).ok_or("statm has no second field")?.parse()?;
    // The page size of Linux on the machines that this runs on.
    Ok(pages * 4096.0 / f64::from(1 << 20))
}
