use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use spanweave_core::SpanObserver;
use spanweave_core::span::observe_sdk_span;

use crate::SpanMetrics;

/// Span metrics under the stock OpenTelemetry SDK, for applications that keep
/// `tracing-opentelemetry` or use the OpenTelemetry API.
///
/// The SDK shows a processor only the spans that its sampler records; what the sampler drops is
/// not counted, and it shows them when they end: `http_server_active_requests` is not there.
/// Exemplars are published for spans that are sampled.
///
/// ```
/// use std::sync::Arc;
/// use opentelemetry_sdk::trace::SdkTracerProvider;
/// use spanweave_core::{ledger::Ledger, masking::Masker};
/// use spanweave_metrics::{Metrics, SpanMetrics, SpanMetricsProcessor};
///
/// let metrics = SpanMetrics::new(
///     Metrics::default(),
///     "checkout",
///     Arc::new(Masker::default()),
///     Arc::new(Ledger::new()),
/// );
/// let provider = SdkTracerProvider::builder()
///     .with_span_processor(SpanMetricsProcessor::new(metrics.clone()))
///     .build();
/// # let _ = provider;
/// ```
#[derive(Debug)]
pub struct SpanMetricsProcessor(Arc<SpanMetrics>);

impl SpanMetricsProcessor {
    /// Counts the SDK's spans in `metrics`.
    pub fn new(metrics: Arc<SpanMetrics>) -> Self {
        Self(metrics)
    }
}

impl SpanProcessor for SpanMetricsProcessor {
    fn on_start(&self, _span: &mut Span, _cx: &Context) {}

    fn on_end(&self, span: SpanData) {
        let context = span.span_context.clone();
        let measurement = observe_sdk_span(span, |span| self.0.ended(span));
        if context.is_sampled() {
            self.0.kept(measurement, context.trace_id(), context.span_id());
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}
