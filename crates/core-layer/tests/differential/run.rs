//! The three ways from `tracing` to exported spans.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::{SpanContext, Status, TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData, SpanExporter};
use spanweave_core::clock::Deadline;
use spanweave_core::ledger::BackendLedger;
use spanweave_core::{
    BackendReport, Bridge, Ledger, MaskedBatch, Pipeline, PipelineConfig, SpanExt, SpanSink, start,
};
use tracing::{Dispatch, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Our capture.
    Native,
    /// The layer of `tracing-opentelemetry` over our pipeline.
    Bridge,
    /// The same layer over the SDK alone.
    Stock,
}

pub(crate) struct Run {
    pub(crate) kind: Kind,
    pub(crate) activation: bool,
    pub(crate) dispatch: Dispatch,
    /// For spans of the OpenTelemetry API.
    pub(crate) tracer: SdkTracer,
    pipeline: Option<Pipeline>,
    exported: Arc<Mutex<Vec<SpanData>>>,
}

impl Run {
    /// `activation`: whether entering a span makes its OpenTelemetry context current.
    pub(crate) fn new(kind: Kind, activation: bool) -> Self {
        let exported = Arc::default();
        let bridge = match kind {
            Kind::Native => Bridge::Native,
            Kind::Bridge => Bridge::TracingOpenTelemetry,
            Kind::Stock => return Self::stock(exported, activation),
        };
        let mut config = PipelineConfig::new(Resource::builder_empty().build());
        config.bridge = bridge;
        config.context_activation = activation;
        let account = config.ledger.open("memory", "memory_span_exporter");
        let ledger = config.ledger.clone();
        config.sinks.push(Arc::new(Memory { spans: Arc::clone(&exported), ledger, account }));
        let (layer, pipeline) = start(config).unwrap();
        Self {
            kind,
            activation,
            dispatch: Dispatch::new(Registry::default().with(layer)),
            tracer: pipeline.tracer_provider().tracer("api"),
            pipeline: Some(pipeline),
            exported,
        }
    }

    fn stock(exported: Arc<Mutex<Vec<SpanData>>>, activation: bool) -> Self {
        let exporter = Exporter(Arc::clone(&exported));
        let provider = SdkTracerProvider::builder()
            .with_resource(Resource::builder_empty().build())
            .with_simple_exporter(exporter)
            .build();
        let tracer = provider.tracer_with_scope(spanweave_core::span::default_scope());
        let layer =
            tracing_opentelemetry::layer().with_tracer(tracer).with_context_activation(activation);
        Self {
            kind: Kind::Stock,
            activation,
            dispatch: Dispatch::new(Registry::default().with(layer)),
            tracer: provider.tracer("api"),
            pipeline: None,
            exported,
        }
    }

    pub(crate) fn all(activation: bool) -> [Self; 3] {
        [Kind::Native, Kind::Bridge, Kind::Stock].map(|kind| Self::new(kind, activation))
    }

    pub(crate) fn scope<R>(&self, program: impl FnOnce() -> R) -> R {
        tracing::dispatcher::with_default(&self.dispatch, program)
    }

    /// What has been exported since the last call.
    pub(crate) fn finished(&self) -> Vec<SpanData> {
        if let Some(pipeline) = &self.pipeline {
            let report = pipeline.flush(Deadline::after(Duration::from_secs(10)));
            assert!(!report.timed_out, "{report:?}");
            assert!(report.backends.iter().all(BackendReport::is_balanced), "{report:?}");
        }
        std::mem::take(&mut *self.exported.lock().unwrap())
    }

    // The extension of the capture that runs: ours, or that of `tracing-opentelemetry`.

    pub(crate) fn set_parent(&self, span: &Span, cx: Context) -> bool {
        match self.kind {
            Kind::Stock => OpenTelemetrySpanExt::set_parent(span, cx).is_ok(),
            _ => SpanExt::set_parent(span, cx).is_ok(),
        }
    }

    pub(crate) fn context(&self, span: &Span) -> Context {
        match self.kind {
            Kind::Stock => OpenTelemetrySpanExt::context(span),
            _ => SpanExt::context(span),
        }
    }

    pub(crate) fn span_context(&self, span: &Span) -> SpanContext {
        match self.kind {
            Kind::Stock => self.context(span).span().span_context().clone(),
            _ => SpanExt::span_context(span),
        }
    }

    pub(crate) fn add_link(&self, span: &Span, context: SpanContext) {
        match self.kind {
            Kind::Stock => OpenTelemetrySpanExt::add_link(span, context),
            _ => SpanExt::add_link(span, context),
        }
    }

    pub(crate) fn set_attribute(
        &self,
        span: &Span,
        key: &'static str,
        value: opentelemetry::Value,
    ) {
        match self.kind {
            Kind::Stock => OpenTelemetrySpanExt::set_attribute(span, key, value),
            _ => SpanExt::set_attribute(span, key, value),
        }
    }

    pub(crate) fn set_status(&self, span: &Span, status: Status) {
        match self.kind {
            Kind::Stock => OpenTelemetrySpanExt::set_status(span, status),
            _ => SpanExt::set_status(span, status),
        }
    }

    /// `tracing-opentelemetry` knows no such thing; its users write these two lines.
    pub(crate) fn record_error<E: std::error::Error + 'static>(&self, span: &Span, error: &E) {
        match self.kind {
            Kind::Stock => {
                let message = KeyValue::new("exception.message", error.to_string());
                OpenTelemetrySpanExt::add_event(span, "exception", vec![message]);
                OpenTelemetrySpanExt::set_status(span, Status::error(error.to_string()));
            }
            _ => SpanExt::record_error(span, error),
        }
    }
}

#[derive(Debug)]
struct Memory {
    spans: Arc<Mutex<Vec<SpanData>>>,
    ledger: Arc<Ledger>,
    account: Arc<BackendLedger>,
}

impl SpanSink for Memory {
    fn accept(&self, batch: Arc<MaskedBatch>) {
        let count = batch.len() as u64;
        self.account.accept(count);
        self.spans.lock().unwrap().extend(batch.spans().iter().map(|span| span.to_span_data()));
        self.account.deliver(count);
    }

    fn flush(&self, _: Deadline) -> Vec<BackendReport> {
        vec![self.ledger.report(&self.account)]
    }

    fn shutdown(&self, deadline: Deadline) -> Vec<BackendReport> {
        self.flush(deadline)
    }
}

#[derive(Debug)]
struct Exporter(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}
