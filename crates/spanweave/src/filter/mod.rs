//! One global filter: what the log wants and what the spans want, together.
//!
//! Each consumer has a verdict for each callsite. A callsite that nobody wants is disabled in
//! `tracing` itself and costs nothing. The rest passes [`UnionFilter`]; the log takes its part in
//! [`Gated`], the capture its own, each by a cached verdict. So a quiet log never cuts a trace.
//! `tracing-subscriber`'s filters for single layers are not used: they cost more for each span
//! than the capture itself and stop the caching of callsites.
//!
//! Directives of `RUST_LOG` that look at spans (`[span{field=value}]=level`) work for the log. In
//! `SPANWEAVE_FILTER` they select the spans that they name, not what happens inside them.

mod table;

mod directives;

mod gate;
mod union;

pub(crate) use directives::Directives;
pub(crate) use gate::Gated;
pub(crate) use union::UnionFilter;

#[cfg(test)]
mod tests;
