//! From the application's threads to the backends.
//!
//! A finished span waits in its thread's outbox ([`handoff`]), is swept up by the worker
//! ([`worker`]), masked, held back while tail rules are undecided, and put into a batch
//! ([`batcher`]) that all sinks share. Its memory returns through the [`pool`].

mod config;

mod handoff;
mod pool;
mod signal;

mod core;

mod batcher;
mod worker;

mod handle;

pub use config::{BatchConfig, Bridge, CallsiteFilter, Overflow, PipelineConfig, Queue};
pub use handle::Pipeline;

pub(crate) use self::core::Core;
pub(crate) use handoff::{Outbox, bump};
pub(crate) use pool::RecordPool;
pub(crate) use worker::Worker;
