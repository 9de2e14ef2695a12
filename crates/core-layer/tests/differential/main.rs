//! One program, run through our own capture and through `tracing-opentelemetry`: the spans that
//! come out are the same, apart from what `normalise` lists.
//!
//! Every program runs three times: over [`Bridge::Native`](spanweave_core::Bridge), over
//! [`Bridge::TracingOpenTelemetry`](spanweave_core::Bridge), and over the stock SDK with the layer
//! of `tracing-opentelemetry`, so that the oracle does not depend on our pipeline.
//!
//! Random programs come from a seed that is printed on failure. `SPANWEAVE_CASES` sets how many
//! are run, `SPANWEAVE_SEED` repeats a run.

mod program;

mod emit;
mod run;

mod facts;
mod machine;
mod workers;

mod normalise;

mod features;
mod freezing;
mod generated;
mod seed;
