//! Exact span metrics for Prometheus: every span end counts, before sampling, in the process.
//!
//! [`SpanMetrics`] watches span ends (as an observer of the spanweave pipeline, or alone under
//! the stock OpenTelemetry SDK as a [`SpanMetricsProcessor`]) and is read in three ways: by
//! [`MetricsServer`] at `/metrics`, by [`SpanMetrics::render`] in a server of your own, or by
//! whoever gathers the [`prometheus::Registry`] that it is registered in.
//!
//! | family | type | labels |
//! |---|---|---|
//! | `trace_span_total` | counter | `service`, `operation`, `status` (`unset`, `ok`, `error`) |
//! | `trace_span_duration_seconds` | histogram | `service`, `operation` |
//! | `trace_errors_total` | counter | `service`, `operation`, `error_type` |
//! | `service_requests_total` | counter | `source_service`, `target_service`, `operation` |
//!
//! The operation is the span's name. Beside them stand the ledger of the backends (where every
//! span went), `target_info`, and everything else of the registry.
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
//! with `operation="_other"`, so the sum over all series is always the number of spans. Series
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

// Span ends in.
mod ended;
mod label;
mod model;
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

mod server;

#[cfg(test)]
mod testing;

pub use error::Error;
pub use processor::SpanMetricsProcessor;
pub use server::MetricsServer;
pub use settings::{Metrics, Names, ServeAddress};
pub use span_metrics::SpanMetrics;
pub use text::Format;
