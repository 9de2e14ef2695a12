//! What a pipeline is made of.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::Resource;
use tracing_core::Metadata;

use crate::ledger::Ledger;
use crate::masking::Masker;
use crate::ports::{EventSpans, SpanHook, SpanObserver, SpanSink};
use crate::sampling::Sampler;
use crate::span::SpanLimits;

/// What happens to a span that ends while the hand-off to the worker is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The span that ends is dropped and counted; the application does not wait.
    #[default]
    DropNewest,
    /// The thread that ends the span waits for room. Nothing is lost; the application is slowed
    /// down to the speed of the worker.
    Block,
}

/// The hand-off between the application's threads and the worker.
///
/// ```
/// use spanweave_core::{Overflow, Queue};
/// let queue = Queue { bytes: 16 << 20, overflow: Overflow::Block, ..Queue::default() };
/// assert_eq!(queue.spans, 65_536);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The most spans that wait. Default 65,536: the specification's 2,048 is less than one
    /// millisecond of a burst. Each thread reserves room in blocks of up to 16 spans, and
    /// what it does not use is taken back within 50 ms.
    pub spans: usize,
    /// The most bytes that wait, approximately. Default 64 MiB.
    pub bytes: usize,
    /// What happens above that.
    pub overflow: Overflow,
}

impl Default for Queue {
    fn default() -> Self {
        Self { spans: 65_536, bytes: 64 << 20, overflow: Overflow::DropNewest }
    }
}

/// How spans are put together for the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchConfig {
    /// The longest that a span waits for its batch. Default 5 s (`OTEL_BSP_SCHEDULE_DELAY`).
    pub delay: Duration,
    /// The most spans in a batch. Default 512 (`OTEL_BSP_MAX_EXPORT_BATCH_SIZE`).
    pub max_spans: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { delay: Duration::from_secs(5), max_spans: 512 }
    }
}

/// Which code turns spans of `tracing` into records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bridge {
    /// Our own capture.
    #[default]
    Native,
    /// The layer of `tracing-opentelemetry` over our tracer provider, for applications and crates
    /// that call its `OpenTelemetrySpanExt`.
    #[cfg(feature = "bridge")]
    TracingOpenTelemetry,
}

/// Decides once for each callsite whether the capture takes its spans and events.
pub type CallsiteFilter = Arc<dyn Fn(&'static Metadata<'static>) -> bool + Send + Sync>;

/// What a pipeline is made of; [`start`](crate::start) makes it run.
#[derive(Clone)]
#[non_exhaustive]
pub struct PipelineConfig {
    /// Who made the spans.
    pub resource: Resource,
    /// What one span may hold.
    pub limits: SpanLimits,
    /// Which traces go to the backends.
    pub sampler: Sampler,
    /// What is secret.
    pub masker: Arc<Masker>,
    /// The hand-off to the worker.
    pub queue: Queue,
    /// How batches are put together.
    pub batch: BatchConfig,
    /// Who sees every span.
    pub observers: Vec<Arc<dyn SpanObserver>>,
    /// Attributes that observers want to see on spans that are not recorded, too.
    pub observed_attributes: Vec<String>,
    /// The application's own say.
    pub hooks: Vec<Arc<dyn SpanHook>>,
    /// Where batches go.
    pub sinks: Vec<Arc<dyn SpanSink>>,
    /// Which events become spans.
    pub event_spans: Vec<Arc<dyn EventSpans>>,
    /// Where everything is counted.
    pub ledger: Arc<Ledger>,
    /// Whether entering a span makes its OpenTelemetry context current. Default true.
    pub context_activation: bool,
    /// Keys of baggage that become attributes of local roots, masked like any. Default none.
    pub baggage_attributes: Vec<String>,
    /// Whether spans carry `code.*` attributes and events their place. Default true.
    pub location: bool,
    /// Whether spans carry `thread.id` and `thread.name`. Default true.
    pub threads: bool,
    /// Whether spans carry `busy_ns` and `idle_ns`. Default true.
    pub busy_idle: bool,
    /// Spans longer than this are logged by the worker.
    pub log_spans_longer_than: Option<Duration>,
    /// Which capture is used.
    pub bridge: Bridge,
    /// Which callsites the capture takes; all, if there is none.
    pub enabled: Option<CallsiteFilter>,
}

impl std::fmt::Debug for PipelineConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PipelineConfig")
            .field("sampler", &self.sampler)
            .field("queue", &self.queue)
            .field("batch", &self.batch)
            .field("bridge", &self.bridge)
            .finish_non_exhaustive()
    }
}

impl PipelineConfig {
    /// The defaults, without any sink.
    pub fn new(resource: Resource) -> Self {
        Self {
            resource,
            limits: SpanLimits::default(),
            sampler: Sampler::default(),
            masker: Arc::new(Masker::default()),
            queue: Queue::default(),
            batch: BatchConfig::default(),
            observers: Vec::new(),
            observed_attributes: Vec::new(),
            hooks: Vec::new(),
            sinks: Vec::new(),
            event_spans: Vec::new(),
            ledger: Arc::new(Ledger::new()),
            context_activation: true,
            baggage_attributes: Vec::new(),
            location: true,
            threads: true,
            busy_idle: true,
            log_spans_longer_than: None,
            bridge: Bridge::Native,
            enabled: None,
        }
    }
}
