//! Encode once, deliver everywhere.
//!
//! A batch of spans is encoded a single time, straight from the records, and the bytes are
//! shared by all backends. Each [`Backend`] has a *lane*: a queue bounded in bytes, a thread, a
//! deadline for each attempt, retries by the OTLP rules, and an account in the
//! [`Ledger`](spanweave_core::ledger::Ledger). A backend that is down, slow, hostile or panics
//! delays no other, and never the application; what it loses is counted, with the reason.
//!
//! | backend | sends |
//! |---|---|
//! | [`Backend::otlp_grpc`] | OTLP over gRPC |
//! | [`Backend::otlp_http`], [`Backend::otlp_http_url`] | OTLP over HTTP, protobuf |
//! | [`Backend::jaeger`] | OTLP with Jaeger's ports |
//! | [`Backend::file`] | OTLP JSON lines, one object a span, or Jaeger JSON ([`FileFormat`]) |
//! | [`Backend::console`] | readable trees on stderr |
//! | [`Backend::exporter`], [`Backend::exporter_with`] | whatever that exporter does |
//!
//! [`MultiExporter`] is the sink of spanweave's pipeline, and also works alone, as a
//! `SpanExporter` under the stock OpenTelemetry SDK.
//!
//! What is sent again and what is not follows the OTLP specification: HTTP 429, 502, 503, 504
//! and connection failures; gRPC CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE,
//! UNAVAILABLE, DATA_LOSS, and RESOURCE_EXHAUSTED with a RetryInfo. 413 is sent in halves. A
//! partial success is a delivery: what the backend rejected is counted and not sent again.
//! Delivery is at least once: a request whose answer was lost is sent again.
//!
//! A backend with a spool ([`Backend::durable`]) keeps what it has accepted across the end of the
//! process, however that comes. A backend with a [`Policy`] gets a part of the spans, or does not
//! see some attributes. [`replay`] sends a spool or a recorded file somewhere else.
#![forbid(unsafe_code)]

mod error;

mod backend;
mod policy;

mod encode;

mod spool;

mod delivery;
mod transport;

mod lane;

mod fan_out;
mod seats;

mod multi;

pub mod replay;

#[cfg(test)]
mod test_support;

pub use backend::{Backend, Compression, FileFormat};
pub use delivery::RetryPolicy;
pub use error::Error;
pub use lane::{Fsync, Rotation};
pub use multi::{MultiExporter, MultiExporterBuilder};

pub use policy::Policy;

/// The `tracing` target of everything that this crate logs.
const LOG_TARGET: &str = "spanweave::exporter";
