//! The handle of what was started.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::trace::SdkTracerProvider;
use spanweave_core::Pipeline;
use spanweave_core::clock::Deadline;
use spanweave_core::ledger::{FlushReport, ShutdownReport};

use crate::background;
use crate::env::Warning;
#[cfg(feature = "metrics")]
use crate::measuring::Measuring;

/// How long dropping a [`Telemetry`] waits for the backends.
const DROP_DEADLINE: Duration = Duration::from_secs(5);

/// What [`init`](crate::init) or [`Builder`](crate::Builder) started: flush it, shut it down, ask
/// it for metrics.
///
/// Keep it for the life of the program: **dropping it shuts everything down**, waiting up to 5 s
/// for the backends. None of the calls needs a runtime or hinders one: delivery runs on threads of
/// its own, so that a drop at the end of an async `main` works, single-threaded or not.
#[must_use = "dropping it stops the telemetry"]
pub struct Telemetry {
    inner: Arc<Inner>,
}

struct Inner {
    pipeline: Pipeline,
    #[cfg(feature = "metrics")]
    measuring: Measuring,
    #[cfg(feature = "tokio")]
    detached: Arc<crate::DetachedSpans>,
    warnings: Vec<Warning>,
}

impl Telemetry {
    pub(crate) fn new(
        pipeline: Pipeline,
        #[cfg(feature = "metrics")] measuring: Measuring,
        #[cfg(feature = "tokio")] detached: Arc<crate::DetachedSpans>,
        warnings: Vec<Warning>,
    ) -> Self {
        #[cfg(all(feature = "metrics", feature = "tokio"))]
        measuring.observe_detached(&detached);
        let inner = Inner {
            pipeline,
            #[cfg(feature = "metrics")]
            measuring,
            #[cfg(feature = "tokio")]
            detached,
            warnings,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Delivers every span that has ended, waiting up to `deadline`. Returns for each backend what
    /// was delivered, dropped and is pending. Traces that a tail rule has not decided yet stay
    /// undecided.
    ///
    /// Blocks; async code uses [`flush_async`](Self::flush_async).
    pub fn flush(&self, deadline: Duration) -> FlushReport {
        self.inner.pipeline.flush(Deadline::after(deadline))
    }

    /// Delivers what can be delivered within `deadline`, counts the rest as dropped, and stops.
    /// Spans that end later are counted as dropped. Calling it again returns the same report.
    ///
    /// Blocks; async code uses [`shutdown_async`](Self::shutdown_async).
    pub fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        self.inner.shutdown(Deadline::after(deadline))
    }

    /// As [`flush`](Self::flush), without blocking the thread; for any runtime or none. The
    /// deadline begins with the call's first poll, and dropping the future does not stop it.
    pub async fn flush_async(&self, deadline: Duration) -> FlushReport {
        let (pipeline, deadline) = (self.inner.pipeline.clone(), Deadline::after(deadline));
        background::run("spanweave-flush", move || pipeline.flush(deadline)).await
    }

    /// As [`shutdown`](Self::shutdown), without blocking the thread; for any runtime or none.
    pub async fn shutdown_async(&self, deadline: Duration) -> ShutdownReport {
        let (inner, deadline) = (Arc::clone(&self.inner), Deadline::after(deadline));
        background::run("spanweave-shutdown", move || inner.shutdown(deadline)).await
    }

    /// Where `/metrics` is served, if it is; with port 0 in the configuration, the port that was
    /// found. Never without feature `metrics`.
    pub fn metrics_address(&self) -> Option<std::net::SocketAddr> {
        #[cfg(feature = "metrics")]
        return self.inner.measuring.address();
        #[cfg(not(feature = "metrics"))]
        None
    }

    /// The metrics in the text format, as `/metrics` serves them to a client without wishes:
    /// OpenMetrics is for those who accept it. Empty without feature `metrics`.
    pub fn metrics_text(&self) -> String {
        #[cfg(feature = "metrics")]
        return self.inner.measuring.text();
        #[cfg(not(feature = "metrics"))]
        String::new()
    }

    /// The registry of the application's own metrics and meters, which `/metrics` serves too.
    #[cfg(feature = "metrics")]
    pub fn prometheus_registry(&self) -> prometheus::Registry {
        self.inner.measuring.registry()
    }

    /// A tower service that shows what `/metrics` shows, to be mounted in the application's own
    /// server.
    #[cfg(feature = "metrics")]
    pub fn metrics_service(&self) -> crate::MetricsService {
        self.inner.measuring.service()
    }

    /// A meter provider of the OpenTelemetry API; its instruments are served at `/metrics`.
    #[cfg(feature = "metrics")]
    pub fn meter_provider(&self) -> opentelemetry_sdk::metrics::SdkMeterProvider {
        self.inner.measuring.meter_provider()
    }

    /// A tracer provider of the OpenTelemetry API, whose spans go the same way as those of
    /// `tracing`. Shutting it down stops spans of that API only.
    pub fn tracer_provider(&self) -> SdkTracerProvider {
        self.inner.pipeline.tracer_provider()
    }

    /// Spans that began a trace of their own on a task of tokio although nobody told them to, by
    /// their place in the code, the most first: most likely the task was spawned without its span
    /// ([`spawn`](crate::spawn) keeps it). `/metrics` has them as `spanweave_span_detached_total`.
    #[cfg(feature = "tokio")]
    pub fn detached_spans(&self) -> Vec<crate::Detached> {
        self.inner.detached.counts()
    }

    /// What was wrong with the environment, one text each; [`install`](crate::Builder::install)
    /// logs them.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.inner.warnings.iter().map(ToString::to_string)
    }
}

impl Inner {
    fn shutdown(&self, deadline: Deadline) -> ShutdownReport {
        let report = self.pipeline.shutdown(deadline);
        #[cfg(feature = "metrics")]
        self.measuring.stop();
        report
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.shutdown(DROP_DEADLINE);
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("pipeline", &self.inner.pipeline).finish_non_exhaustive()
    }
}
