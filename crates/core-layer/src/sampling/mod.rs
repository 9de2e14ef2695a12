//! Which traces are kept.
//!
//! Two decisions, both pure: time and ids are passed in.
//!
//! 1. **Head**: when a local root's ids become final, [`HeadSampler`] decides whether the trace is
//!    sampled, and what `tracestate` says of it. Probabilities are consistent: every service and
//!    collector that follows `th` and `rv` comes to the same answer ([`consistent`]).
//! 2. **Tail**: with keep rules, the spans of one local root wait for each other in a
//!    [`TailBuffer`], and what the head did not sample is kept after all where a rule matches.
//!
//! [`Sampler`] is the description that an application writes; it compiles into both.

// The rules of the specification.
pub mod consistent;
mod rate;

// At the start of a trace.
mod head;

// At its end.
mod tail;

pub use consistent::without_threshold;
pub use head::{HeadDecision, HeadInput, HeadSampler, ParentDecision, Sampler, SamplerError};
pub use rate::RateLimiter;
pub use tail::{Decided, Kept, TailBuffer, TailLimits, TailRules, TailSpan};
