//! The same faults, met by spanweave (in memory, and durable) and by the stock SDK's batch
//! processor with its own OTLP exporter. Each case runs in a process of its own; the backend
//! counts unique spans.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use serde::{Deserialize, Serialize};
use spanweave::{Backend, RetryPolicy, Telemetry};
use spanweave_core::clock;
use spanweave_testkit::{CollectorConfig, StoreLimits, TcpProxy, TestCollector, Verdict};
use tracing_subscriber::layer::SubscriberExt;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The deadline of a shutdown.
const T: Duration = Duration::from_secs(5);
const SPANS: usize = 20_000;
const BURST: usize = 200_000;

/// The faults, and what they are called in the table.
const FAULTS: [(&str, &str); 13] = [
    ("none", "no fault"),
    ("down", "backend down for 2 s"),
    ("unavailable", "503 to the first five requests"),
    ("slow", "100 ms a request"),
    ("hang", "the first request is never answered (timeout 1 s)"),
    ("restarts", "20 restarts while spans are made"),
    ("retry-after", "429 with `Retry-After: 2`"),
    ("too-large", "413 whenever one certain span is in the request"),
    ("panic", "an exporter that panics once"),
    ("stuck", "an exporter whose first export never ends"),
    ("burst", "200,000 spans at once"),
    ("exit", "`process::exit` without a shutdown, backend down; then a restart"),
    ("sigkill", "SIGKILL, backend down; then a restart"),
];
const PEERS: [&str; 3] = ["memory", "durable", "stock"];

/// What came of a case.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    made: usize,
    arrived: usize,
    /// Spans that the peer says it has lost.
    reported: Option<u64>,
    /// Whether its shutdown said that all is well; `None` if there was none.
    said_ok: Option<bool>,
    shutdown_ms: u64,
}

/// Runs everything; a table in Markdown.
pub(crate) fn compare() -> Result<String, Failure> {
    let mut out = String::from(
        "| fault | spanweave, in memory | spanweave, durable | stock SDK |\n|---|---|---|---|\n",
    );
    for (fault, name) in FAULTS {
        write!(out, "| {name} |")?;
        for peer in PEERS {
            eprintln!("{fault}: {peer}");
            write!(out, " {} |", cell(&case(fault, peer)?))?;
        }
        out.push('\n');
    }
    Ok(out)
}

fn cell(outcome: &Outcome) -> String {
    let lost = outcome.made - outcome.arrived.min(outcome.made);
    let percent = 100.0 * lost as f64 / outcome.made.max(1) as f64;
    let told = match (lost, outcome.reported, outcome.said_ok) {
        (0, _, _) => String::new(),
        (_, Some(reported), _) if reported == lost as u64 => ", all reported".to_owned(),
        (_, Some(reported), _) => format!(", {reported} reported"),
        (_, None, Some(true)) => ", shutdown says Ok".to_owned(),
        (_, None, Some(false)) => ", shutdown says Err".to_owned(),
        (_, None, None) => String::new(),
    };
    format!("{lost} of {} lost ({percent:.1} %){told}", outcome.made)
}

fn case(fault: &str, peer: &str) -> Result<Outcome, Failure> {
    if matches!(fault, "exit" | "sigkill") {
        return ended(fault, peer);
    }
    let output = Command::new(std::env::current_exe()?)
        .args(["child", "faults", fault, peer])
        .stderr(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().ok_or_else(|| format!("{fault}, {peer}: no outcome"))?;
    Ok(serde_json::from_str(line)?)
}

/// A process that ends before its backend is there, and one that starts after it.
fn ended(fault: &str, peer: &str) -> Result<Outcome, Failure> {
    let folder = tempfile::tempdir()?;
    let server = collector(CollectorConfig::default());
    let child = |endpoint: &str, action: &str| -> Result<_, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["child", "faults", action, peer, endpoint]).arg(folder.path());
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?)
    };
    let mut first =
        child("http://127.0.0.1:9", if fault == "exit" { "exiting" } else { "waiting" })?;
    if let Some(output) = first.stdout.take() {
        BufReader::new(output).read_line(&mut String::new())?;
    }
    if fault == "sigkill" {
        first.kill()?;
    }
    first.wait()?;
    child(&server.http_endpoint(), "draining")?.wait()?;
    let arrived = server.unique_spans();
    Ok(Outcome { made: SPANS, arrived, reported: None, said_ok: None, shutdown_ms: 0 })
}

/// The process of one case.
#[allow(clippy::print_stdout)]
pub(crate) fn child(arguments: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [action @ ("exiting" | "waiting" | "draining"), peer, endpoint, directory] => {
            ending(action, peer, endpoint, Path::new(directory))
        }
        [fault, peer] => {
            println!("{}", serde_json::to_string(&meet(fault, peer)?)?);
            // What hangs or is stuck must not hold up the end.
            std::process::exit(0);
        }
        _ => Err("child faults FAULT PEER".into()),
    }
}

#[allow(clippy::print_stdout)]
fn ending(action: &str, peer: &str, endpoint: &str, directory: &Path) -> Result<(), Failure> {
    let peer = Peer::otlp(peer, endpoint, directory)?;
    if action == "draining" {
        std::thread::sleep(Duration::from_secs(2));
        peer.shutdown();
        return Ok(());
    }
    peer.make(SPANS);
    std::thread::sleep(Duration::from_millis(300));
    println!("ready");
    if action == "exiting" {
        std::process::exit(0);
    }
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

fn collector(config: CollectorConfig) -> TestCollector {
    let limits = StoreLimits { spans: 4_000_000, bytes: 8 << 30 };
    TestCollector::start_with(config.limits(limits))
}

fn meet(fault: &str, name: &str) -> Result<Outcome, Failure> {
    let folder = tempfile::tempdir()?;
    if matches!(fault, "panic" | "stuck") {
        return foreign(fault, name, folder.path());
    }
    let number = AtomicUsize::new(0);
    let kind = fault.to_owned();
    let config = CollectorConfig::default().hook(move |request| {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let offending = || request.spans.iter().any(|span| &*span.name == "offending");
        match kind.as_str() {
            "unavailable" if number < 5 => Verdict::http_status(503),
            "slow" => Verdict::accept().after(Duration::from_millis(100)),
            "hang" if number == 0 => Verdict::hang(),
            "retry-after" if number == 0 => {
                Verdict::http_status(429).retry_after(Duration::from_secs(2))
            }
            "too-large" if offending() => Verdict::http_status(413),
            _ => Verdict::accept(),
        }
    });
    let server = collector(config);
    let proxy = TcpProxy::to(&server.http_endpoint());
    if fault == "down" {
        proxy.down();
    }
    let peer = Peer::otlp(name, &proxy.endpoint(), folder.path())?;
    let mut made = SPANS;
    match fault {
        "burst" => {
            made = BURST;
            peer.make(made);
        }
        "restarts" => {
            for _ in 0..20 {
                peer.make(SPANS / 20);
                proxy.down();
                std::thread::sleep(Duration::from_millis(30));
                proxy.up();
                std::thread::sleep(Duration::from_millis(70));
            }
        }
        "too-large" => {
            peer.steadily(SPANS / 2);
            peer.offend();
            peer.steadily(SPANS - SPANS / 2 - 1);
        }
        _ => peer.steadily(made),
    }
    if fault == "down" {
        std::thread::sleep(Duration::from_secs(1));
        proxy.up();
    }
    let (reported, said_ok, shutdown_ms) = peer.shutdown();
    Ok(Outcome { made, arrived: server.unique_spans(), reported, said_ok, shutdown_ms })
}

/// Cases of an exporter that others have written.
fn foreign(fault: &str, name: &str, directory: &Path) -> Result<Outcome, Failure> {
    let arrived = Arc::new(AtomicUsize::new(0));
    let exporter =
        Faulty { panics: fault == "panic", first: AtomicBool::new(true), arrived: arrived.clone() };
    let peer = match name {
        "stock" => Peer::stock(exporter),
        _ => Peer::ours(
            Backend::exporter(exporter).timeout(Duration::from_secs(1)).durable(directory),
        )?,
    };
    peer.steadily(SPANS);
    let (reported, said_ok, shutdown_ms) = peer.shutdown();
    let arrived = arrived.load(Ordering::Relaxed);
    Ok(Outcome { made: SPANS, arrived, reported, said_ok, shutdown_ms })
}

#[derive(Debug)]
struct Faulty {
    panics: bool,
    first: AtomicBool,
    arrived: Arc<AtomicUsize>,
}

impl SpanExporter for Faulty {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if self.first.swap(false, Ordering::Relaxed) {
            assert!(!self.panics, "the fault that was asked for");
            std::future::pending::<()>().await;
        }
        self.arrived.fetch_add(batch.len(), Ordering::Relaxed);
        Ok(())
    }
}

enum Peer {
    Ours(Telemetry, tracing::Dispatch),
    Stock(SdkTracerProvider, tracing::Dispatch),
}

impl Peer {
    fn otlp(name: &str, endpoint: &str, directory: &Path) -> Result<Self, Failure> {
        const TIMEOUT: Duration = Duration::from_secs(1);
        if name == "stock" {
            let exporter = opentelemetry_otlp::SpanExporter::builder()
                .with_http()
                .with_endpoint(format!("{endpoint}/v1/traces"))
                .with_timeout(TIMEOUT)
                .build()?;
            return Ok(Self::stock(exporter));
        }
        let retry = RetryPolicy::default().initial_delay(Duration::from_millis(100));
        let backend = Backend::otlp_http(endpoint).timeout(TIMEOUT).retry(retry);
        Self::ours(match name {
            "durable" => backend.durable(PathBuf::from(directory)),
            _ => backend,
        })
    }

    fn ours(backend: Backend) -> Result<Self, Failure> {
        let (layer, telemetry) =
            spanweave::builder().service_name("faults").export_to(backend).build()?;
        let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
        Ok(Self::Ours(telemetry, dispatch))
    }

    fn stock(exporter: impl SpanExporter + 'static) -> Self {
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("faults"));
        let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
        Self::Stock(provider, dispatch)
    }

    fn with(&self, work: impl FnOnce()) {
        let (Self::Ours(_, dispatch) | Self::Stock(_, dispatch)) = self;
        tracing::dispatcher::with_default(dispatch, work);
    }

    /// Makes spans as fast as it goes.
    fn make(&self, spans: usize) {
        self.with(|| {
            for number in 0..spans {
                tracing::info_span!("work", number).in_scope(|| ());
            }
        });
    }

    /// Makes spans at 20,000 a second, which no queue minds without a fault.
    fn steadily(&self, spans: usize) {
        for _ in 0..spans / 200 {
            self.make(200);
            std::thread::sleep(Duration::from_millis(10));
        }
        self.make(spans % 200);
    }

    fn offend(&self) {
        self.with(|| tracing::info_span!("offending").in_scope(|| ()));
    }

    /// What it says it has lost (nothing, where it has no word for that), whether it says that
    /// all is well, and how long that took.
    fn shutdown(&self) -> (Option<u64>, Option<bool>, u64) {
        let start = clock::instant();
        let (reported, ok) = match self {
            Self::Ours(telemetry, _) => {
                let report = telemetry.shutdown(T);
                let backend = &report.backends[0];
                (Some(backend.dropped_total() + backend.pending), report.is_complete())
            }
            Self::Stock(provider, _) => {
                let result: Result<(), OTelSdkError> = provider.shutdown_with_timeout(T);
                (None, result.is_ok())
            }
        };
        (reported, Some(ok), u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}
