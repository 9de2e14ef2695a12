//! Capture, propagation, sampling, masking and the span pipeline of spanweave.
//!
//! Most applications use the crate `spanweave`, which puts this together with exporters and span
//! metrics. This crate is for those who build their own: [`start`] takes a [`PipelineConfig`] and
//! returns a layer for `tracing-subscriber` and a handle.
//!
//! The way of a span: it is captured on the application's thread (a record that is recycled, no
//! allocation in the steady state), measured there by the [`SpanObserver`]s whether it is sampled
//! or not, handed to one worker thread, masked, kept or dropped by the tail rules, put into a
//! batch, and given to the [`SpanSink`]s. Nothing behind the masking can see a span that has not
//! been masked: its type is [`MaskedSpan`].
//!
//! ```
//! use std::time::Duration;
//! use spanweave_core::{PipelineConfig, clock::Deadline, start};
//! use tracing_subscriber::layer::SubscriberExt;
//!
//! let resource = opentelemetry_sdk::Resource::builder().with_service_name("shop").build();
//! let (layer, pipeline) = start(PipelineConfig::new(resource))?;
//! let subscriber = tracing_subscriber::registry().with(layer);
//! tracing::subscriber::with_default(subscriber, || {
//!     let _span = tracing::info_span!("CreateUser").entered();
//! });
//! pipeline.shutdown(Deadline::after(Duration::from_secs(1)));
//! assert_eq!(pipeline.ledger().pipeline().ended, 1);
//! # Ok::<(), spanweave_core::Error>(())
//! ```
//!
//! Features: `bridge` (the layer of `tracing-opentelemetry` as an alternative capture).
#![deny(unsafe_code)]

#[cfg(target_family = "wasm")]
compile_error!("spanweave needs threads and a clock; WebAssembly is not supported");

pub mod clock;
pub mod sync;

mod error;
mod ids;
mod ports;

pub mod span;

mod capture;
pub mod propagation;
pub mod sampling;

pub mod masking;
mod pipeline;

pub mod ledger;
mod sdk;
mod start;

pub use capture::{Layer, SetParentError, SpanExt, current_ids, install_panic_hook, traced};
pub use error::Error;
pub use ledger::{BackendReport, DropReason, FlushReport, Ledger, ShutdownReport};
pub use pipeline::{
    BatchConfig, Bridge, CallsiteFilter, Overflow, Pipeline, PipelineConfig, Queue,
};
pub use ports::{
    BoxError, CompletedSpan, EndingSpan, EventSpans, EventVerdict, Measurement, SpanEnd, SpanHook,
    SpanObserver, SpanSink, SpanStart, StartingSpan,
};
pub use sampling::Sampler;
pub use span::{
    AttributeValue, Attributes, MaskedBatch, MaskedSpan, SpanLimits, SpanRecord, StatusCode,
};
pub use start::start;
