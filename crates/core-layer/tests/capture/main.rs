//! What the capture promises, seen from outside: programs of `tracing` in, spans at a sink out.
#![allow(clippy::disallowed_methods)]

mod support;

mod bad_input;
mod caller;
mod context;
mod errors;
mod fields;
mod hooks;
mod parents;
mod pipeline;
mod sampling;
