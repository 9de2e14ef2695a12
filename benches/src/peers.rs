//! What is compared, each set up as its own documentation says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use spanweave::{Backend, Overflow, Queue, Sampler};
use tracing::subscriber::set_global_default;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A peer by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A registry with a layer that does nothing: the floor of any layer.
    Floor,
    /// spanweave as it comes.
    Spanweave,
    /// spanweave with context activation off.
    SpanweaveInactive,
    /// spanweave whose head sampler drops 99 %.
    SpanweaveSampled,
    /// spanweave with three backends.
    SpanweaveThree,
    /// tracing-opentelemetry, the SDK's batch processor, opentelemetry-otlp over HTTP.
    TracingOpenTelemetry,
    /// fastrace's own API with a reporter that counts.
    Fastrace,
    /// No subscriber at all.
    Nothing,
}

impl Peer {
    pub(crate) const ALL: [Self; 8] = [
        Self::Floor,
        Self::Spanweave,
        Self::SpanweaveInactive,
        Self::SpanweaveSampled,
        Self::SpanweaveThree,
        Self::TracingOpenTelemetry,
        Self::Fastrace,
        Self::Nothing,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Spanweave => "spanweave",
            Self::SpanweaveInactive => "spanweave-inactive",
            Self::SpanweaveSampled => "spanweave-sampled",
            Self::SpanweaveThree => "spanweave-three",
            Self::TracingOpenTelemetry => "tracing-opentelemetry",
            Self::Fastrace => "fastrace",
            Self::Nothing => "nothing",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.name() == name)
    }

    /// Whether all its spans go to the sink.
    pub(crate) fn delivers(self) -> bool {
        matches!(
            self,
            Self::Spanweave
                | Self::SpanweaveInactive
                | Self::SpanweaveThree
                | Self::TracingOpenTelemetry
        )
    }
}

/// A peer that runs in this process.
pub(crate) enum Running {
    Quiet,
    Spanweave(Box<spanweave::Telemetry>),
    Sdk(SdkTracerProvider),
    Fastrace,
}

/// A layer that does nothing.
struct Idle;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Idle {}

/// Counts what fastrace reports.
struct Counter(Arc<AtomicU64>);

impl fastrace::collector::Reporter for Counter {
    fn report(&mut self, spans: Vec<fastrace::collector::SpanRecord>) {
        self.0.fetch_add(spans.len() as u64, Ordering::Relaxed);
    }
}

/// Room for every span of a run, so that no side loses any.
const QUEUE: usize = 1 << 21;

impl Running {
    /// Sets `peer` up as the process's global subscriber, with the sink at `sink`.
    pub(crate) fn start(peer: Peer, sink: &str) -> Result<Self, Failure> {
        match peer {
            Peer::Nothing => Ok(Self::Quiet),
            Peer::Floor => {
                set_global_default(registry().with(Idle))?;
                Ok(Self::Quiet)
            }
            Peer::Fastrace => {
                let count = Arc::new(AtomicU64::new(0));
                let config = fastrace::collector::Config::default();
                fastrace::set_reporter(Counter(count), config);
                Ok(Self::Fastrace)
            }
            Peer::TracingOpenTelemetry => {
                let exporter = SpanExporter::builder()
                    .with_http()
                    .with_endpoint(format!("{sink}/v1/traces"))
                    .build()?;
                let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
                let batch = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
                let provider = SdkTracerProvider::builder().with_span_processor(batch).build();
                let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("bench"));
                set_global_default(registry().with(layer))?;
                Ok(Self::Sdk(provider))
            }
            Peer::Spanweave | Peer::SpanweaveInactive | Peer::SpanweaveSampled => {
                spanweave(peer, [Backend::otlp_http(sink)])
            }
            Peer::SpanweaveThree => {
                let backend = |name: &str| Backend::otlp_http(sink).named(name);
                spanweave(peer, [backend("one"), backend("two"), backend("three")])
            }
        }
    }

    /// Delivers everything; how many spans it says are lost.
    pub(crate) fn finish(self) -> Result<u64, Failure> {
        const DEADLINE: Duration = Duration::from_secs(60);
        match self {
            Self::Quiet => Ok(0),
            Self::Fastrace => {
                fastrace::flush();
                Ok(0)
            }
            Self::Sdk(provider) => {
                provider.shutdown_with_timeout(DEADLINE)?;
                Ok(0)
            }
            Self::Spanweave(telemetry) => {
                let report = telemetry.shutdown(DEADLINE);
                let lost = report
                    .backends
                    .iter()
                    .map(|backend| backend.dropped_total() + backend.pending)
                    .sum();
                Ok(lost)
            }
        }
    }
}

fn spanweave(peer: Peer, backends: impl IntoIterator<Item = Backend>) -> Result<Running, Failure> {
    let queue = Queue { spans: QUEUE, bytes: 1 << 30, overflow: Overflow::Block };
    let mut builder = spanweave::builder().service_name("bench").queue(queue);
    for backend in backends {
        builder = builder.export_to(backend.queue_bytes(1 << 30));
    }
    if peer == Peer::SpanweaveInactive {
        builder = builder.context_activation(false);
    }
    if peer == Peer::SpanweaveSampled {
        builder = builder.sampler(Sampler::ratio(0.01));
    }
    let (layer, telemetry) = builder.build()?;
    set_global_default(registry().with(layer))?;
    Ok(Running::Spanweave(Box::new(telemetry)))
}
