//! What received spans say: pure functions, spans in, findings out.
//!
//! Spans are foreign data. Parents may be missing, be the span itself or go in circles, clocks may run
//! backwards, and a trace may be a chain of a hundred thousand spans: nothing here recurses along a trace,
//! and no arithmetic on times can overflow.

mod tree;

mod critical_path;
mod self_time;

mod edges;
mod findings;
mod operations;

mod render;

#[cfg(test)]
mod samples;

pub use critical_path::{CriticalPath, Segment, critical_path};
pub use edges::{EdgeKind, ServiceEdge, service_edges};
pub use findings::{ErrorTrace, RepeatedCalls, error_traces, repeated_calls};
pub use operations::{OperationStats, operations, spans_by_service};
pub use render::{format_duration, render_trace};
pub use self_time::self_times;
pub use tree::{Trace, TraceSummary};

pub(crate) use render::{Row, rows};
#[cfg(test)]
pub(crate) use samples::{hostile_traces, sample_traces};
