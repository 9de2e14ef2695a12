//! A format of the application's own next to the standard one: `x-acme-trace: <trace>/<span>` for the
//! ids, and a tenant that goes along.

use std::error::Error;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::text_map_propagator::FieldIter;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use spanweave::propagation::{self, Propagator};
use spanweave::{Backend, SpanExt};

#[derive(Debug)]
struct Acme {
    fields: [String; 2],
}

/// Kept in the context between extraction and injection.
#[derive(Debug)]
struct Tenant(String);

impl Acme {
    const TRACE: &str = "x-acme-trace";
    const TENANT: &str = "x-acme-tenant";

    fn new() -> Self {
        Self { fields: [Self::TRACE, Self::TENANT].map(str::to_owned) }
    }

    fn parse(header: &str) -> Option<SpanContext> {
        let (trace, span) = header.split_once('/')?;
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let parent = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::NONE);
        parent.is_valid().then_some(parent)
    }
}

impl TextMapPropagator for Acme {
    fn inject_context(&self, cx: &Context, injector: &mut dyn Injector) {
        let span = cx.span().span_context().clone();
        if span.is_valid() {
            injector.set(Self::TRACE, format!("{}/{}", span.trace_id(), span.span_id()));
        }
        if let Some(Tenant(tenant)) = cx.get() {
            injector.set(Self::TENANT, tenant.clone());
        }
    }

    fn extract_with_context(&self, cx: &Context, extractor: &dyn Extractor) -> Context {
        let cx = match extractor.get(Self::TRACE).and_then(Self::parse) {
            Some(parent) => cx.with_remote_span_context(parent),
            None => cx.clone(),
        };
        match extractor.get(Self::TENANT) {
            Some(tenant) => cx.with_value(Tenant(tenant.to_owned())),
            None => cx,
        }
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&self.fields)
    }
}

fn show(title: &str, headers: &HeaderMap) {
    for (name, value) in headers {
        eprintln!("{title} {name}: {}", value.to_str().unwrap_or_default());
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let telemetry = spanweave::builder()
        .service_name("custom-propagator")
        .export_to(Backend::console())
        .propagators([Propagator::trace_context(), Propagator::custom(Acme::new())])
        .install()?;

    let mut incoming = HeaderMap::new();
    let parent = "4bf92f3577b34da6a3ce929d0e0e4736/00f067aa0ba902b7";
    incoming.insert(Acme::TRACE, parent.parse()?);
    incoming.insert(Acme::TENANT, "blue".parse()?);
    show("in ", &incoming);

    let span = tracing::info_span!("HandleRequest", otel.kind = "server");
    span.set_parent(propagation::extract(&incoming))?;
    let mut outgoing = HeaderMap::new();
    span.in_scope(|| propagation::inject(&mut outgoing));
    drop(span);
    show("out", &outgoing);

    let report = telemetry.shutdown(Duration::from_secs(5));
    eprintln!("complete: {}", report.is_complete());
    Ok(())
}
