//! What the tests of spanweave need: a collector, a server that misbehaves by script, a proxy that breaks
//! connections, a listener that never accepts, and expectations about spans.
//!
//! Everything is blocking and runs on threads of its own, so it can be used from a plain `#[test]` and from
//! inside a runtime alike. Helpers panic with what they saw where an expectation is not met: they are for
//! tests only. Everything stops when it is dropped.
//!
//! ```
//! use spanweave_testkit::{TestCollector, http};
//!
//! let collector = TestCollector::start();
//! let span = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{
//!     "traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7","name":"hello",
//!     "startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}"#;
//! let answer = http::post(&collector.traces_url(), "application/json", span.as_bytes());
//! assert_eq!(answer.status, 200);
//! assert_eq!(collector.wait_for_span("hello").duration_ns(), 1);
//! ```

mod span_ids;

mod collector;
mod scripted;

mod backlog;
mod proxy;

mod expect;
pub mod http;

pub use backlog::{FullBacklog, full_backlog_listener};
pub use collector::TestCollector;
pub use expect::{
    assert_attribute, assert_child_of, assert_error, assert_no_attribute, assert_root,
    assert_same_trace, assert_within, describe, eventually,
};
pub use proxy::TcpProxy;
pub use scripted::{RecordedRequest, ScriptedServer};
pub use span_ids::SpanIds;

pub use spanweave_live::{
    Collector, CollectorConfig, SpanKind, StatusCode, StoreLimits, StoredSpan, Trace, Transport,
    Value, Verdict,
};

use std::time::Duration;

/// How long a helper waits before it panics: far more than a loaded machine needs, so that a test that
/// fails here found a fault and not a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
