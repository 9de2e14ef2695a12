//! The layer of `tracing-opentelemetry` in place of our own capture.
//!
//! That layer is generic over its subscriber and ours is not, so it is made in `on_layer`, where
//! the subscriber's type is known, and kept behind `Any`.
#![cfg(feature = "bridge")]

use std::any::Any;
use std::sync::Arc;

use opentelemetry::trace::{SpanContext, Status, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::Span;
use tracing_core::Subscriber;
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::registry::LookupSpan;

use super::ext::SetParentError;
use super::layer::{Layer, Mode};
use super::{Capture, callsite};

/// The bridge's layer, of type `OpenTelemetryLayer<S, SdkTracer>` for the subscriber's `S`.
pub(crate) struct BridgeLayer {
    pub(super) capture: Arc<Capture>,
    provider: SdkTracerProvider,
    layer: Option<Box<dyn Any + Send + Sync>>,
}

pub(super) type Inner<S> = OpenTelemetryLayer<S, SdkTracer>;

impl BridgeLayer {
    pub(crate) fn new(capture: Arc<Capture>, provider: SdkTracerProvider) -> Self {
        Self { capture, provider, layer: None }
    }

    /// Makes the layer for the subscriber type `S`.
    pub(super) fn attach<S>(&mut self)
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let core = &self.capture.core;
        let layer: Inner<S> = tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer_with_scope(crate::span::default_scope()))
            .with_context_activation(self.capture.activation)
            .with_location(core.location)
            .with_threads(core.threads)
            .with_tracked_inactivity(core.busy_idle);
        self.layer = Some(Box::new(layer));
    }

    pub(super) fn get<S>(&self) -> Option<&Inner<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        self.layer.as_ref()?.downcast_ref()
    }

    pub(super) fn wants(&self, metadata: &'static tracing_core::Metadata<'static>) -> bool {
        let info: &callsite::CallsiteInfo = self.capture.callsites.get(metadata);
        info.enabled
    }
}

/// Whether the subscriber of `span` captures through the bridge.
fn is_bridged(span: &Span) -> bool {
    span.with_subscriber(|(_, dispatch)| {
        dispatch
            .downcast_ref::<Layer>()
            .is_some_and(|layer| matches!(layer.mode(), Mode::Bridge(_)))
    })
    .unwrap_or(false)
}

pub(super) fn set_parent(span: &Span, cx: &Context) -> Option<Result<(), SetParentError>> {
    is_bridged(span).then(|| {
        OpenTelemetrySpanExt::set_parent(span, cx.clone()).map_err(|_| SetParentError::AlreadyUsed)
    })
}

pub(super) fn context(span: &Span) -> Option<Context> {
    is_bridged(span).then(|| OpenTelemetrySpanExt::context(span))
}

// The extension of the bridged layer is called for each of these: to go through the context would
// start the span, and its parent and name could not be set any more.

pub(super) fn add_link(span: &Span, cx: &SpanContext) -> bool {
    let bridged = is_bridged(span);
    if bridged {
        OpenTelemetrySpanExt::add_link(span, cx.clone());
    }
    bridged
}

pub(super) fn set_attribute(span: &Span, attribute: &KeyValue) -> bool {
    let bridged = is_bridged(span);
    if bridged {
        let KeyValue { key, value, .. } = attribute.clone();
        OpenTelemetrySpanExt::set_attribute(span, key, value);
    }
    bridged
}

pub(super) fn set_status(span: &Span, status: &Status) -> bool {
    let bridged = is_bridged(span);
    if bridged {
        OpenTelemetrySpanExt::set_status(span, status.clone());
    }
    bridged
}

pub(super) fn add_event(
    span: &Span,
    name: &'static str,
    attributes: impl FnOnce() -> Vec<KeyValue>,
) -> bool {
    let bridged = is_bridged(span);
    if bridged {
        OpenTelemetrySpanExt::add_event(span, name, attributes());
    }
    bridged
}
