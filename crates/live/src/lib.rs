//! An OTLP receiver that explains what it receives.
//!
//! [`Collector`] listens on loopback for OTLP/gRPC and OTLP/HTTP (protobuf and JSON, gzip), keeps the
//! spans in a bounded [`TraceStore`], and serves a page and JSON next to the OTLP/HTTP endpoint. The
//! analysis is a set of pure functions over a [`Trace`]: tree, [`self_times`], [`critical_path`],
//! [`operations`], [`service_edges`], [`error_traces`], [`repeated_calls`], [`render_trace`].
//!
//! Decoding is `opentelemetry-proto`'s, on purpose: whatever spanweave's own encoder writes is read here
//! by somebody else's code, so the receiver is an independent check of it.
//!
//! ```
//! use spanweave_live::{Collector, CollectorConfig};
//!
//! let collector = Collector::start(CollectorConfig::default())?;
//! assert!(collector.http_endpoint().starts_with("http://127.0.0.1:"));
//! assert_eq!(collector.store().len(), 0);
//! collector.shutdown();
//! # Ok::<(), spanweave_live::Error>(())
//! ```
//!
//! # Paths on the HTTP port
//!
//! | path | answer |
//! |---|---|
//! | `POST /v1/traces` | OTLP/HTTP |
//! | `GET /` | recent traces, services, operations, findings |
//! | `GET /trace/{id}` | one trace as a waterfall |
//! | `GET /api/traces`, `/api/traces/{id}`, `/api/operations`, `/api/services` | the same as JSON |
//!
//! The page has no authentication; therefore only loopback addresses are accepted, and the page answers
//! only where the `Host` header names one (a page elsewhere cannot read it by DNS rebinding).

mod error;
mod sync;

mod model;

mod receiver;

mod store;

mod analysis;

mod page;

pub use analysis::{
    CriticalPath, EdgeKind, ErrorTrace, OperationStats, RepeatedCalls, Segment, ServiceEdge, Trace,
    TraceSummary, critical_path, error_traces, format_duration, operations, render_trace,
    repeated_calls, self_times, service_edges, spans_by_service,
};
pub use error::Error;
pub use model::{
    Event, Link, ParseIdError, Resource, Scope, SpanId, SpanKind, StatusCode, StoredSpan, TraceId,
    Transport, Value,
};
pub use receiver::{Collector, CollectorConfig, ReceiverCounts, RequestInfo, Verdict};
pub use store::{StoreCounts, StoreLimits, TraceStore, View};
