//! One call: its span, and what ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::Context;
use tonic::Code;
use tracing::Span;

use super::code;
use super::messages::Messages;

/// Who says what is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// The name of a method that a server does not have.
const OTHER: &str = "_OTHER";

/// A call that has not ended; dropped, it counts as cancelled.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) span: Span,
    side: Side,
    method: String,
    /// What the span itself does not carry: baggage.
    context: Option<Context>,
    requests: Arc<AtomicU64>,
    responses: Messages,
    open: bool,
}

impl Call {
    pub(super) fn new(span: Span, side: Side, method: String, context: Option<Context>) -> Self {
        let (requests, responses) = Default::default();
        Self { span, side, method, context, requests, responses, open: true }
    }

    /// Where the messages of the request are counted.
    pub(super) fn requests(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.requests)
    }

    pub(super) fn response_bytes(&mut self, bytes: &[u8]) {
        self.responses.take(bytes);
    }

    /// The call ended with that code.
    pub(super) fn finish(mut self, code: Code) {
        let name = code::name(code);
        self.close(name);
        if code::is_error(code, self.side) {
            self.span.record("error.type", name);
            self.span.record("otel.status_code", "ERROR");
        }
        if self.side == Side::Server && code == Code::Unimplemented {
            self.span.record("otel.name", OTHER);
            self.span.record("rpc.method", OTHER);
            self.span.record("rpc.method_original", self.method.as_str());
        }
    }

    fn panicked(mut self) {
        self.close(code::name(Code::Unknown));
        self.span.record("error.type", "panic");
        self.span.record("otel.status_code", "ERROR");
    }

    fn close(&mut self, code: &str) {
        self.open = false;
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.span.record("rpc.status_code", code);
        self.span.record("rpc.response.status_code", code);
        let requests = self.requests.load(Ordering::Relaxed);
        self.span.record("spanweave.rpc.request.messages", count(requests));
        self.span.record("spanweave.rpc.response.messages", count(self.responses.count()));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.open {
            self.close(code::name(Code::Cancelled));
            self.span.record("spanweave.outcome", "cancelled");
        }
    }
}

/// Runs `work` inside the call's span. If it panics, that is the call's outcome.
pub(super) fn inside<T>(call: &mut Option<Call>, work: impl FnOnce() -> T) -> T {
    struct Watch<'a> {
        call: &'a mut Option<Call>,
        was_panicking: bool,
    }
    impl Drop for Watch<'_> {
        fn drop(&mut self) {
            if std::thread::panicking()
                && !self.was_panicking
                && let Some(call) = self.call.take()
            {
                call.panicked();
            }
        }
    }
    let watch = Watch { call, was_panicking: std::thread::panicking() };
    let _inside = watch.call.as_ref().map(|call| {
        let attached = call.context.clone().map(Context::attach);
        // Left in the opposite order.
        (call.span.enter(), attached)
    });
    work()
}
