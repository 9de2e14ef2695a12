//! The server span under its caller's.

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use spanweave_core::{SpanExt, propagation};
use tracing::Span;

/// The span that `make` makes, under the remote span in `caller` (or with the decision that came
/// alone) where there is one; and whether it carries the caller's trace on, which a span that no
/// layer of ours sees does not. `make` is told whether the span has to be a root for that.
pub(crate) fn under(caller: &Context, make: impl FnOnce(bool) -> Span) -> (Span, bool) {
    let span_context = caller.span().span_context().clone();
    let has_decided = propagation::decision_without_ids(caller).is_some();
    if (span_context.is_valid() && span_context.is_remote()) || has_decided {
        let span = make(true);
        let carries = span.set_parent(caller.clone()).is_ok();
        (span, carries)
    } else {
        (make(false), true)
    }
}
