//! What a caller says of sampling beyond the sampled flag, kept as values of the context.

use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::TraceContextExt;

/// The debug flag of B3 and Jaeger.
#[derive(Debug)]
struct DebugFlag;

/// A decision that came without the ids of a span.
#[derive(Debug)]
struct BareDecision(bool);

/// Keeps the caller's debug flag, so that it goes on in whatever format knows it.
pub(super) fn with_debug(cx: &Context) -> Context {
    cx.with_value(DebugFlag)
}

/// Whether a caller set the debug flag.
pub(super) fn is_debug(cx: &Context) -> bool {
    cx.get::<DebugFlag>().is_some()
}

/// Keeps a decision that names no parent.
pub(super) fn with_bare(cx: &Context, sampled: bool) -> Context {
    cx.with_value(BareDecision(sampled))
}

/// Kept by a propagator of the application's own, whose values in the context are not known here.
#[derive(Debug)]
struct Foreign;

/// Marks a context that a foreign propagator has written to.
pub(super) fn with_foreign(cx: &Context) -> Context {
    cx.with_value(Foreign)
}

/// Whether a context holds more than a span: baggage, the debug flag, values of a propagator of
/// the application's own. A span that it becomes the parent of carries that on.
pub(crate) fn carries_more(cx: &Context) -> bool {
    !cx.baggage().is_empty() || is_debug(cx) || cx.get::<Foreign>().is_some()
}

/// The decision of a caller that named no span: `b3: 0` asks not to sample the trace that starts
/// here. `None` where no caller said so, or where the context holds a span.
pub fn decision_without_ids(cx: &Context) -> Option<bool> {
    let BareDecision(sampled) = cx.get::<BareDecision>()?;
    (!cx.span().span_context().is_valid()).then_some(*sampled)
}
