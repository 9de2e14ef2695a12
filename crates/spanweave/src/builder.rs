//! What can be chosen in code, on top of the environment.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::{KeyValue, Value};
use spanweave_core::masking::{Masker, Masking};
use spanweave_core::propagation::{Active, EgressPolicy, Propagator, Propagators};
use spanweave_core::sampling::Sampler;
use spanweave_core::span::SpanLimits;
use spanweave_core::{BatchConfig, Bridge, EventSpans, Layer, PipelineConfig, Queue};
use spanweave_core::{SpanHook, SpanSink};
use spanweave_exporter::{Backend, MultiExporter};

use crate::destinations;
use crate::env::{self, EnvConfig, LogFormat, Warning};
use crate::error::{Error, Kind};
use crate::filter::Directives;
#[cfg(feature = "metrics")]
use crate::measuring::Measuring;
use crate::resource;
use crate::telemetry::Telemetry;

/// What spanweave does: starts from the environment (the table on the [crate's page](crate)), and
/// what is called here wins.
///
/// [`install`](Self::install) makes it the process's own; [`build`](Self::build) returns the parts
/// and touches nothing global.
///
/// ```no_run
/// use std::time::Duration;
/// use spanweave::{Backend, Sampler};
///
/// # fn main() -> Result<(), spanweave::Error> {
/// let telemetry = spanweave::builder()
///     .service_name("checkout")
///     .resource_attribute("service.version", env!("CARGO_PKG_VERSION"))
///     .export_to(Backend::otlp_grpc("http://collector:4317"))
///     .export_to(Backend::file("spans.jsonl"))
///     .sampler(Sampler::rate_limited(100).keep_errors())
///     .log_spans_longer_than(Duration::from_secs(5))
///     .install()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing runs until install() or build()"]
pub struct Builder {
    env: EnvConfig,
    warnings: Vec<Warning>,
    attributes: Vec<KeyValue>,
    backends: Option<Vec<Backend>>,
    sinks: Vec<Arc<dyn SpanSink>>,
    sampler: Option<Sampler>,
    masking: Masking,
    #[cfg(feature = "metrics")]
    metrics: spanweave_metrics::Metrics,
    propagators: Option<Vec<Propagator>>,
    egress: EgressPolicy,
    baggage_attributes: Option<Vec<String>>,
    queue: Option<Queue>,
    batch: Option<BatchConfig>,
    limits: Option<SpanLimits>,
    hooks: Vec<Arc<dyn SpanHook>>,
    event_spans: Vec<Arc<dyn EventSpans>>,
    slow: Option<Duration>,
    context_activation: bool,
    bridge: Bridge,
}

/// Spans in a batch, at the most: memory for a batch is reserved at once.
const MAX_BATCH: usize = 65_536;

/// What [`Builder::install`] needs besides the parts.
pub(crate) struct Global {
    pub(crate) log: Option<Arc<Directives>>,
    pub(crate) log_format: LogFormat,
    pub(crate) masker: Arc<Masker>,
    pub(crate) spans: Arc<Directives>,
    pub(crate) active: Active,
    pub(crate) disabled: bool,
}

impl Builder {
    /// From the variables of the process.
    pub(crate) fn from_process() -> Self {
        let (env, warnings) = EnvConfig::read(&env::process);
        Self::new(env, warnings)
    }

    pub(crate) fn new(env: EnvConfig, warnings: Vec<Warning>) -> Self {
        Self {
            env,
            warnings,
            attributes: Vec::new(),
            backends: None,
            sinks: Vec::new(),
            sampler: None,
            masking: Masking::default(),
            #[cfg(feature = "metrics")]
            metrics: spanweave_metrics::Metrics::default(),
            propagators: None,
            egress: EgressPolicy::default(),
            baggage_attributes: None,
            queue: None,
            batch: None,
            limits: None,
            hooks: Vec::new(),
            event_spans: Vec::new(),
            slow: None,
            context_activation: true,
            bridge: Bridge::default(),
        }
    }

    /// The service's name: `service.name` of the resource, and how the service calls itself to the
    /// services that it calls. Default: `OTEL_SERVICE_NAME`, else `service.name` in
    /// `OTEL_RESOURCE_ATTRIBUTES`, else `unknown_service:<executable>`.
    pub fn service_name(self, name: impl Into<String>) -> Self {
        self.resource_attribute("service.name", name.into())
    }

    /// An attribute of the resource, such as `service.version` or `deployment.environment.name`;
    /// the last value of a key wins. Host, process, a random `service.instance.id` and
    /// `telemetry.sdk.*` are there already; the command line never is.
    pub fn resource_attribute(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.push(KeyValue::new(key.into(), value));
        self
    }

    /// Exports to one more backend. The first call replaces what the environment names
    /// (`OTEL_TRACES_EXPORTER`, `SPANWEAVE_FILE`).
    pub fn export_to(mut self, backend: Backend) -> Self {
        self.backends.get_or_insert_default().push(backend);
        self
    }

    /// Exports nowhere, whatever the environment names; metrics and logs go on. Later calls of
    /// [`export_to`](Self::export_to) add backends again.
    pub fn export_nowhere(mut self) -> Self {
        self.backends = Some(Vec::new());
        self
    }

    /// Hands the masked batches to a sink of the application's own too.
    pub fn sink(mut self, sink: Arc<dyn SpanSink>) -> Self {
        self.sinks.push(sink);
        self
    }

    /// Which traces go to the backends. Default: `OTEL_TRACES_SAMPLER`, else
    /// `parentbased_always_on`. Metrics count every span, sampled or not.
    pub fn sampler(mut self, sampler: Sampler) -> Self {
        self.sampler = Some(sampler);
        self
    }

    /// Which values are replaced before anything leaves, in log lines as well. On by default.
    pub fn masking(mut self, masking: Masking) -> Self {
        self.masking = masking;
        self
    }

    /// Span metrics. Always counted; served at `/metrics` only where an address here,
    /// `OTEL_METRICS_EXPORTER=prometheus` or `OTEL_EXPORTER_PROMETHEUS_HOST`/`_PORT` says so.
    #[cfg(feature = "metrics")]
    pub fn metrics(mut self, metrics: spanweave_metrics::Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// In which formats the context of a trace travels. Default: `OTEL_PROPAGATORS`, else W3C
    /// Trace Context and Baggage. Used by [`install`](Self::install), which makes them the
    /// process's own.
    pub fn propagators(mut self, list: impl IntoIterator<Item = Propagator>) -> Self {
        self.propagators = Some(list.into_iter().collect());
        self
    }

    /// Which hosts get more than the ids of the trace from
    /// [`propagation::inject_for`](crate::propagation::inject_for). Default: private ones. Used by
    /// [`install`](Self::install).
    pub fn egress(mut self, policy: EgressPolicy) -> Self {
        self.egress = policy;
        self
    }

    /// Entries of the baggage that become attributes of the topmost span of each trace in this
    /// process, under their own keys and masked like any. What comes in is foreign text: choose
    /// keys that your own services set. Default: `SPANWEAVE_BAGGAGE_ATTRIBUTES`, else none.
    pub fn baggage_attributes(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.baggage_attributes = Some(keys.into_iter().map(Into::into).collect());
        self
    }

    /// The hand-off between the application and the worker: spans, bytes and what happens when it
    /// is full. Default: `OTEL_BSP_MAX_QUEUE_SIZE`, else [`Queue::default`].
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queue = Some(queue);
        self
    }

    /// How spans are put together; a batch has at most 65,536 of them. With a durable backend
    /// they wait 40 ms by default, so that spans are on disk within 100 ms. Default: `OTEL_BSP_SCHEDULE_DELAY` and
    /// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, else 5 s and 512 spans.
    pub fn batch(mut self, batch: BatchConfig) -> Self {
        self.batch = Some(batch);
        self
    }

    /// What one span may hold. Default: the `OTEL_*_LIMIT` variables.
    pub fn span_limits(mut self, limits: SpanLimits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// The application's own say over its spans: attributes at the start, a last change at the
    /// end, a look at what is exported. Repeatable; hooks run in the order of the calls.
    pub fn processor(mut self, hook: impl SpanHook + 'static) -> Self {
        self.hooks.push(Arc::new(hook));
        self
    }

    /// Makes spans out of events that report a finished operation. With feature `sqlx`, on by
    /// default, the query events of sqlx are seen to already; what is given here is asked first,
    /// for example to name the database:
    /// `.event_spans(spanweave::db::SqlxQueries::new().system("postgresql"))`.
    pub fn event_spans(mut self, source: impl EventSpans + 'static) -> Self {
        self.event_spans.push(Arc::new(source));
        self
    }

    /// Logs spans that take longer than `limit`, at level warn. The worker does it, with masked
    /// values.
    pub fn log_spans_longer_than(mut self, limit: Duration) -> Self {
        self.slow = Some(limit);
        self
    }

    /// Whether entering a span makes its OpenTelemetry context current, so that code which uses
    /// that API finds its parent. On by default.
    pub fn context_activation(mut self, on: bool) -> Self {
        self.context_activation = on;
        self
    }

    /// Which code turns spans of `tracing` into records; see [`Bridge`].
    pub fn bridge(mut self, bridge: Bridge) -> Self {
        self.bridge = bridge;
        self
    }

    /// What is logged, in the syntax of `RUST_LOG`, instead of that variable. Used by
    /// [`install`](Self::install).
    pub fn log_filter(mut self, directives: impl Into<String>) -> Self {
        self.env.log_filter = Some(directives.into());
        self
    }

    /// How log lines look, instead of `SPANWEAVE_LOG_FORMAT`. Used by [`install`](Self::install).
    pub fn log_format(mut self, format: LogFormat) -> Self {
        self.env.log_format = format;
        self
    }

    /// Which spans are captured, and which events on them, in the syntax of `RUST_LOG`, instead of
    /// `SPANWEAVE_FILTER`. Independent of what is logged.
    pub fn span_filter(mut self, directives: impl Into<String>) -> Self {
        self.env.span_filter = Some(directives.into());
        self
    }

    /// Starts the pipeline and returns its layer, for a subscriber of your own:
    /// `registry().with(layer)`. Sets nothing global, neither in `tracing` nor in OpenTelemetry
    /// nor in [`propagation`](crate::propagation).
    ///
    /// The layer takes the spans that the span filter wants; a filter of your own can only take
    /// more away. It must not be wrapped in `reload::Layer`, which hides it from
    /// [`SpanExt`](crate::SpanExt).
    ///
    /// # Errors
    ///
    /// If an endpoint is malformed, a file cannot be written, the address of `/metrics` is taken
    /// or no thread can be had. A backend that is down is not an error.
    pub fn build(self) -> Result<(Layer, Telemetry), Error> {
        let (layer, telemetry, _) = self.start()?;
        Ok((layer, telemetry))
    }

    /// Starts everything and makes it the process's own: the subscriber of `tracing` (capture, log
    /// lines on standard error, one filter for both, records of the `log` crate), the tracer
    /// provider, meter provider and propagator of OpenTelemetry, and
    /// [`propagation`](crate::propagation). Then logs what was wrong with the environment.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), and if a global subscriber is there already.
    pub fn install(self) -> Result<Telemetry, Error> {
        crate::install::install(self)
    }

    pub(crate) fn start(mut self) -> Result<(Layer, Telemetry, Global), Error> {
        let disabled = self.env.disabled;
        let resource = resource::resource(&resource::detect(), &self.env, &self.attributes);
        let global = self.global(&resource::service_name(&resource));

        let mut config = PipelineConfig::new(resource.clone());
        config.limits = self.limits.unwrap_or(self.env.limits);
        config.sampler = self.sampler.take().or(self.env.sampler.take()).unwrap_or_default();
        config.masker = Arc::clone(&global.masker);
        config.queue = self.queue.unwrap_or_else(|| env_queue(&self.env));
        config.batch = self.batch.unwrap_or_else(|| env_batch(&self.env));
        config.batch.max_spans = config.batch.max_spans.clamp(1, MAX_BATCH);
        config.hooks = self.hooks;
        config.event_spans = self.event_spans;
        #[cfg(feature = "sqlx")]
        config.event_spans.push(Arc::new(spanweave_instrumentation::db::SqlxQueries::default()));
        config.baggage_attributes =
            self.baggage_attributes.unwrap_or_else(|| self.env.baggage_attributes.clone());
        config.context_activation = self.context_activation;
        config.log_spans_longer_than = self.slow;
        config.bridge = self.bridge;
        config.enabled = Some(capture_filter(disabled, Arc::clone(&global.spans)));
        config.sinks = if disabled { Vec::new() } else { self.sinks };

        let backends = match self.backends {
            _ if disabled => Vec::new(),
            Some(backends) => backends,
            None => destinations::backends(&self.env),
        };
        let asked = self.batch.is_some() || self.env.batch_delay.is_some();
        if !asked && backends.iter().any(Backend::is_durable) {
            // What waits for its batch is not on disk yet. With the 50 ms that a span may wait for
            // the worker, it is within 100 ms.
            config.batch.delay = Duration::from_millis(40);
        }
        if !backends.is_empty() {
            let exporter = MultiExporter::start(backends, &resource, &config.ledger)
                .map_err(|error| Error::of(Kind::Backend, error))?;
            config.sinks.push(Arc::new(exporter));
        }

        #[cfg(feature = "tokio")]
        let detached = Arc::new(spanweave_instrumentation::tasks::DetachedSpans::default());
        #[cfg(feature = "metrics")]
        let measuring = Measuring::start(self.metrics, &self.env, &resource, &mut config)?;
        #[cfg(feature = "tokio")]
        config.observers.push(Arc::clone(&detached) as _);
        let (layer, pipeline) =
            spanweave_core::start(config).map_err(|error| Error::of(Kind::Pipeline, error))?;
        let telemetry = Telemetry::new(
            pipeline,
            #[cfg(feature = "metrics")]
            measuring,
            #[cfg(feature = "tokio")]
            detached,
            self.warnings,
        );
        Ok((layer, telemetry, global))
    }

    /// Filters and propagators.
    fn global(&mut self, service: &str) -> Global {
        let env = &self.env;
        let log = (env.log_format != LogFormat::Off)
            .then(|| Directives::for_log(env.log_filter.as_deref(), &mut self.warnings));
        let spans = Directives::for_spans(env.span_filter.as_deref(), &mut self.warnings);
        let propagators = match (self.propagators.take(), &env.propagators) {
            (Some(list), _) => Propagators::new(list),
            (None, Some(names)) => {
                Propagators::new(names.iter().filter_map(|name| Propagator::from_name(name)))
            }
            (None, None) => Propagators::default(),
        };
        Global {
            log: log.map(Arc::new),
            log_format: env.log_format,
            masker: Arc::new(self.masking.compile()),
            spans: Arc::new(spans),
            active: Active::new(propagators.with_service_name(service))
                .with_egress(self.egress.clone()),
            disabled: env.disabled,
        }
    }
}

/// Which callsites the capture takes.
fn capture_filter(disabled: bool, spans: Arc<Directives>) -> spanweave_core::CallsiteFilter {
    if disabled { Arc::new(|_| false) } else { Arc::new(move |metadata| spans.takes(metadata)) }
}

fn env_queue(env: &EnvConfig) -> Queue {
    let default = Queue::default();
    Queue { spans: env.queue_spans.unwrap_or(default.spans), ..default }
}

fn env_batch(env: &EnvConfig) -> BatchConfig {
    let default = BatchConfig::default();
    // A batch is never larger than the queue, by the specification.
    let limit = env.queue_spans.unwrap_or(usize::MAX);
    BatchConfig {
        delay: env.batch_delay.unwrap_or(default.delay),
        max_spans: env.batch_spans.unwrap_or(default.max_spans).min(limit),
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("attributes", &self.attributes)
            .field("sampler", &self.sampler)
            .field("masking", &self.masking)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
