//! Ordinary [`tracing`] spans, woven into every backend at once, with exact metrics.
//!
//! An application keeps writing `#[tracing::instrument]`, `info_span!` and `info!`. spanweave turns
//! its spans into OpenTelemetry spans, sends them to several backends at the same time (OTLP over
//! gRPC and HTTP, Jaeger, files, the console, any `SpanExporter`), counts every one of them for
//! Prometheus, and writes the trace's id into every log line.
//!
//! # Quick start
//!
//! ```no_run
//! fn main() -> Result<(), spanweave::Error> {
//!     // Exports to http://localhost:4318, or to what OTEL_EXPORTER_OTLP_ENDPOINT says.
//!     let _telemetry = spanweave::init()?;
//!     greet("world");
//!     Ok(())
//! } // Dropping the handle delivers what is left, within 5 s.
//!
//! #[tracing::instrument]
//! fn greet(name: &str) {
//!     tracing::info!("hello");
//! }
//! ```
//!
//! In code instead of variables, and with more than one backend:
//!
//! ```
//! use std::time::Duration;
//! use spanweave::{Backend, Sampler};
//! use tracing_subscriber::layer::SubscriberExt;
//!
//! # fn main() -> Result<(), spanweave::Error> {
//! # let path = std::env::temp_dir().join(format!("spanweave-doc-{}.jsonl", std::process::id()));
//! let (layer, telemetry) = spanweave::builder()
//!     .service_name("checkout")
//!     .export_to(Backend::file(&path))
//!     .sampler(Sampler::ratio(0.1).parent_based().keep_errors())
//!     .build()?; // or install(), which also sets up logs and all globals
//! let subscriber = tracing_subscriber::registry().with(layer);
//! tracing::subscriber::with_default(subscriber, || {
//!     tracing::info_span!("PlaceOrder").in_scope(|| tracing::info!("placed"));
//! });
//! let report = telemetry.shutdown(Duration::from_secs(5));
//! assert!(report.is_complete());
//! # std::fs::remove_file(path).ok();
//! # Ok(())
//! # }
//! ```
//!
//! # What is where
//!
//! | | |
//! |---|---|
//! | [`init`], [`builder`], [`Telemetry`] | start, configure, flush and shut down |
//! | [`Backend`] | where spans go |
//! | [`Sampler`], [`Masking`] | which traces are kept, what is secret |
//! | [`SpanExt`], [`traced`] | parents, links, attributes and errors of a `tracing::Span`; a future as one measured operation |
//! | [`propagation`] | the current span in HTTP headers, and back |
//! | `http`, `grpc`, `db` | servers, clients and databases traced without hand-written spans |
//! | `spawn`, `JoinSetExt` | tasks that keep their span |
//! | `Metrics` | span metrics and `/metrics` |
//! | [`SpanHook`] | the application's own say over its spans |
//! | [`testing`] | spans in an application's tests |
//!
//! # Logs
//!
//! [`init`] and [`Builder::install`] write events to standard error, as text or JSON; standard
//! output stays the program's own. Each line inside a span carries `trace_id` and `span_id`.
//! `RUST_LOG` decides what is logged, `SPANWEAVE_FILTER` what is captured, and neither touches the
//! other: with `RUST_LOG=error` every span at info is still recorded. Values of fields that
//! [`Masking`] names are masked in lines, too; messages are the application's own.
//!
//! # Environment
//!
//! Read by [`init`] and [`builder`]; what is called in code wins. An empty variable is unset. A bad
//! value, and a variable of the specification that is not supported, is named once in the log and
//! otherwise ignored. A malformed endpoint and a file that cannot be written are errors.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `OTEL_SDK_DISABLED` | `true`: nothing is captured, exported or served; logs and propagators stay | `false` |
//! | `OTEL_SERVICE_NAME` | the service's name; beats `OTEL_RESOURCE_ATTRIBUTES` | `unknown_service:<executable>` |
//! | `OTEL_RESOURCE_ATTRIBUTES` | `key=value,…`, percent-encoded | |
//! | `OTEL_PROPAGATORS` | of `tracecontext`, `baggage`, `b3`, `b3multi`, `jaeger`, `none` | `tracecontext,baggage` |
//! | `SPANWEAVE_BAGGAGE_ATTRIBUTES` | keys of baggage that become span attributes, `tenant,plan` | |
//! | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | `always_on`, `always_off`, `traceidratio`, and each with `parentbased_` | `parentbased_always_on` |
//! | `OTEL_TRACES_EXPORTER` | of `otlp`, `console`, `none` | `otlp` |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | base URL; HTTP appends `v1/traces` | `http://localhost:4318`, gRPC `:4317` |
//! | `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` | URL, used as it is | |
//! | `OTEL_EXPORTER_OTLP_PROTOCOL` | `http/protobuf`, `grpc`, `http/json` | `http/protobuf` |
//! | `OTEL_EXPORTER_OTLP_HEADERS` | `key=value,…`, percent-encoded | |
//! | `OTEL_EXPORTER_OTLP_COMPRESSION` | `gzip`, `none`; also `zstd` | `none` |
//! | `OTEL_EXPORTER_OTLP_INSECURE` | `true`: a gRPC endpoint without a scheme is `http` | `false` |
//! | `OTEL_EXPORTER_OTLP_TIMEOUT` | milliseconds a request; 0 is no limit | 10000 |
//! | `OTEL_EXPORTER_OTLP_CERTIFICATE` | a file of certificates (PEM) that servers are checked against | the public roots |
//! | `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, `OTEL_EXPORTER_OTLP_CLIENT_KEY` | the client's own, for mutual TLS (PEM) | |
//! | `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` | proxies, also in lower case | |
//! | `OTEL_BSP_SCHEDULE_DELAY` | milliseconds that a span waits for its batch | 5000 |
//! | `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` | spans in a batch | 512 |
//! | `OTEL_BSP_MAX_QUEUE_SIZE` | spans that wait for the worker | [`Queue::default`] |
//! | `OTEL_BSP_EXPORT_TIMEOUT` | milliseconds; an upper limit on the timeout of requests | |
//! | `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT` (`OTEL_ATTRIBUTE_COUNT_LIMIT`), `OTEL_SPAN_EVENT_COUNT_LIMIT`, `OTEL_SPAN_LINK_COUNT_LIMIT`, `OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT`, `OTEL_LINK_ATTRIBUTE_COUNT_LIMIT` | what one span may hold | 128 |
//! | `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT` (`OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`) | bytes of a value | 262144, also the most |
//! | `OTEL_METRICS_EXPORTER` | `prometheus`: serve `/metrics`; `none`: do not | |
//! | `OTEL_EXPORTER_PROMETHEUS_HOST`, `OTEL_EXPORTER_PROMETHEUS_PORT` | where; either one serves too | `localhost`, 9464 |
//! | `OTEL_METRICS_EXEMPLAR_FILTER` | `trace_based`, `always_off` | `trace_based` |
//! | `RUST_LOG` | what is logged | `info` |
//! | `SPANWEAVE_FILTER` | which spans are captured, and which events on them, in the same syntax; code that delivers spans makes none unless it is named | `info,sqlx::query=debug` |
//! | `SPANWEAVE_LOG_FORMAT` | `text`, `json`, `off` | `text` |
//! | `SPANWEAVE_FILE` | a file for spans (OTLP JSON lines), besides the other exporters | |
//! | `SPANWEAVE_SPOOL_DIR` | a directory for spans that no backend has yet, so that they survive the process ([`Backend::durable`]) | |
//! | `NO_COLOR` | no colours in text on a terminal | |
//!
//! Each `OTEL_EXPORTER_OTLP_*` setting has a form for traces, `OTEL_EXPORTER_OTLP_TRACES_*`, which
//! beats it.
//!
//! # Features
//!
//! | feature | | default |
//! |---|---|---|
//! | `metrics` | span metrics, `/metrics`, meters | yes |
//! | `http-server` | the tower layer for HTTP servers | yes |
//! | `axum` | axum's route as `http.route` | yes |
//! | `sqlx` | database spans from the query events of sqlx | yes |
//! | `reqwest` | the HTTP client | |
//! | `reqwest-middleware` | the same for `reqwest-middleware` | |
//! | `http-client`, `hyper-client` | a tower layer for HTTP clients; with names for the errors of hyper-util's | |
//! | `grpc` | layers for tonic | |
//! | `db` | spans for the queries of any driver (part of `sqlx`) | yes |
//! | `tokio` | `spawn` and `JoinSetExt`, detached spans counted | |
//! | `sqlx-pool` | the wrapper around an sqlx pool; like sqlx 0.9 it needs Rust 1.94 | |
//! | `bridge` | [`Bridge::TracingOpenTelemetry`](Bridge), the `tracing-opentelemetry` layer as the capture | |
#![forbid(unsafe_code)]

#[cfg(target_family = "wasm")]
compile_error!(
    "spanweave needs threads and sockets, which wasm does not have; export from the host instead"
);

// What is wanted: the environment, then code.
mod env;

mod builder;
mod destinations;
mod resource;

// What runs.
mod filter;
mod log;
#[cfg(feature = "metrics")]
mod measuring;

mod background;
mod telemetry;

mod install;

mod error;

pub mod testing;

pub use builder::Builder;
pub use env::LogFormat;
pub use error::Error;
pub use telemetry::Telemetry;

pub use opentelemetry;
pub use spanweave_core::clock::Deadline;
pub use spanweave_core::ledger::{BackendReport, DropReason, FlushReport, ShutdownReport};
pub use spanweave_core::masking::Masking;
pub use spanweave_core::propagation::{self, Propagator};
pub use spanweave_core::sampling::Sampler;
pub use spanweave_core::span::{
    AttributeValue, Attributes, EventView, Link, SpanLimits, SpanRecord, StatusCode,
};
pub use spanweave_core::{
    BatchConfig, BoxError, Bridge, CompletedSpan, EndingSpan, EventSpans, EventVerdict, Layer,
    MaskedBatch, MaskedSpan, Overflow, Queue, SetParentError, SpanExt, SpanHook, SpanSink,
    StartingSpan, traced,
};
pub use spanweave_exporter::{
    Backend, Compression, FileFormat, Fsync, Policy, RetryPolicy, Rotation,
};
#[cfg(feature = "metrics")]
pub use spanweave_metrics::{Metrics, MetricsService, Names, ServeAddress, SpanMetric};

/// HTTP servers and clients, traced by the OpenTelemetry conventions with propagation included.
#[cfg(any(feature = "http-server", feature = "http-client", feature = "reqwest"))]
pub use spanweave_instrumentation::http;

/// gRPC with tonic, traced by the OpenTelemetry conventions with propagation included.
#[cfg(feature = "grpc")]
pub use spanweave_instrumentation::grpc;

/// Databases, traced by the OpenTelemetry conventions.
#[cfg(feature = "db")]
pub use spanweave_instrumentation::db;

#[cfg(feature = "tokio")]
pub use spanweave_instrumentation::tasks::{
    self, Detached, DetachedSpans, JoinSetExt, spawn, spawn_blocking,
};

/// Starts everything from the environment and sets the globals: short for
/// [`builder()`]`.`[`install()`](Builder::install).
///
/// # Errors
///
/// If a subscriber is installed already, an endpoint is malformed, a file cannot be written or the
/// address of `/metrics` is taken. The error says what to do.
pub fn init() -> Result<Telemetry, Error> {
    builder().install()
}

/// Starts from the environment; what is called on the builder wins.
pub fn builder() -> Builder {
    Builder::from_process()
}
