//! What is kept of a received span: plain data, no protobuf types.

mod ids;
mod value;

mod span;

#[cfg(test)]
pub(crate) mod sample;

pub use ids::{ParseIdError, SpanId, TraceId};
pub use span::{Event, Link, Resource, Scope, SpanKind, StatusCode, StoredSpan, Transport};
pub use value::Value;
