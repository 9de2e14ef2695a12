//! Exact span metrics for Prometheus: every span end counts, before sampling, in the process.
//!
//! [`SpanMetrics`] watches spans (as an observer of the spanweave pipeline, or alone under the
//! stock OpenTelemetry SDK as a [`SpanMetricsProcessor`]) and is read in four ways: by
//! [`MetricsServer`] at `/metrics`, by a [`MetricsService`] or [`SpanMetrics::render`] in a server
//! of your own, or by whoever gathers the [`prometheus::Registry`] that it is registered in.
//!
//! | family | type | labels |
//! |---|---|---|
//! | `trace_span_total` | counter | `service`, `operation`, `status` (`unset`, `ok`, `error`) |
//! | `trace_span_duration_seconds` | histogram | `service`, `operation` |
//! | `trace_errors_total` | counter | `service`, `operation`, `error_type` |
//! | `service_requests_total` | counter | `source_service`, `target_service`, `operation` |
//! | `service_calls_total` | counter | `source_service`, `target_service`, `operation` |
//! | `http_server_request_duration_seconds` | histogram | `http_request_method`, `url_scheme`, `http_route`, `http_response_status_code`, `network_protocol_version`, `error_type` |
//! | `http_server_active_requests` | gauge | `http_request_method`, `url_scheme` |
//! | `http_client_request_duration_seconds` | histogram | `http_request_method`, `server_address`, `server_port`, `http_response_status_code`, `network_protocol_version`, `error_type` |
//! | `db_client_operation_duration_seconds` | histogram | `db_system_name`, `db_namespace`, `db_collection_name`, `db_stored_procedure_name`, `db_operation_name`, `db_query_summary`, `db_response_status_code`, `server_address`, `server_port`, `error_type` |
//!
//! The operation is the span's name. The HTTP and database metrics are those of the semantic
//! conventions, derived from spans with their attributes. Beside them stand the ledger of the
//! backends (where every span went), the process, `target_info`, and everything else of the
//! registry. Alias sets ([`Names`]) write the span metrics under the names that Jaeger's Monitor
//! tab and dashboards for Tempo read, by kind as well.
//!
//! # Edges
//!
//! Each service counts the requests that it takes in `service_requests_total`, so the sum over
//! services has each request once. The caller's name comes from its `tracestate` member. The
//! requests that a service makes are in `service_calls_total`, with the name that the callee
//! sends back in a response header (the attribute `service.peer.name` of the client span); a
//! database has its system's name. Who gives no name is `unknown`.
//!
//! # How it counts
//!
//! Each thread adds to blocks of its own (plain load and store, no contended cache line), found
//! through a cache by callsite or, for names that are made at run time, by a keyed hash of the
//! name. A scrape sums the blocks of all threads and of the threads that have ended. The counter
//! and the histogram of an operation are views of the same buckets, so they always agree, and
//! `_count` is the `+Inf` bucket by construction.
//!
//! # Limits
//!
//! A metric has at most [`Metrics::series_limit`] series; spans above it are counted in series
//! whose first label is `_other` (`operation="_other"`), so the sum over all series is always the number of spans. Series
//! that expire are folded into the same series. Label values are masked and cut when a series is
//! made; raw values are not kept.
//!
//! ```
//! use std::sync::Arc;
//! use spanweave_core::{ledger::Ledger, masking::Masker};
//! use spanweave_metrics::{Metrics, SpanMetrics};
//!
//! let metrics = SpanMetrics::new(
//!     Metrics::default().buckets([0.01, 0.1, 1.0]),
//!     "checkout",
//!     Arc::new(Masker::default()),
//!     Arc::new(Ledger::new()),
//! );
//! let (content_type, body) = metrics.render(Some("application/openmetrics-text"));
//! assert!(content_type.starts_with("application/openmetrics-text"));
//! assert!(body.ends_with("# EOF\n"));
//! ```
#![forbid(unsafe_code)]

mod error;
mod names;
mod settings;

// What there is to count.
mod conventions;
mod label;
mod model;
mod schema;

// Span ends in.
mod ended;
mod measured;
mod series_table;
mod shard;

mod observer;
mod processor;

// Metrics out.
mod collect;
mod collector;
mod foreign;
mod negotiate;
mod span_metrics;
mod text;

mod respond;
mod server;
mod service;

#[cfg(test)]
mod testing;

pub use error::Error;
pub use model::SpanMetric;
pub use processor::SpanMetricsProcessor;
pub use server::MetricsServer;
pub use service::MetricsService;
pub use settings::{Metrics, Names, ServeAddress};
pub use span_metrics::SpanMetrics;
pub use text::Format;
