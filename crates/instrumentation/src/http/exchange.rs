//! One request and its response: the span, and what ends it.
//!
//! The span ends at the end of the response's body, or where that fails, or when its owner drops
//! it. An [`Exchange`] has exactly one outcome: `finish` takes it by value, and its `Drop` gives
//! an outcome to one that nobody finished.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use opentelemetry::Context;
use spanweave_core::clock::{self, MonotonicNanos};
use tracing::Span;

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// To the end of the body.
    Complete,
    /// One side gave up: no error, by the conventions.
    Cancelled,
    /// With an error of this class, which is low in cardinality.
    Failed(Cow<'static, str>),
}

/// The class of a panic.
const PANIC: &str = "panic";

#[derive(Debug)]
pub(crate) struct Exchange {
    span: Span,
    /// What the span itself does not carry: baggage.
    context: Option<Context>,
    open: bool,
    /// The status code or an earlier failure has set `error.type`; the first one stands.
    failed: bool,
    /// The outcome if nobody finishes it.
    if_dropped: Outcome,
    request_body: Option<RequestBody>,
    body: Option<BodyCount>,
    /// When it began, until the first byte of the response is there.
    start: Option<MonotonicNanos>,
}

/// The size of a request's body.
#[cfg_attr(not(feature = "http-server"), allow(dead_code))]
#[derive(Clone, Debug)]
pub(crate) enum RequestBody {
    /// As its headers say.
    Announced(u64),
    /// What has been read so far.
    Counted(Arc<AtomicU64>),
}

#[derive(Debug, Default)]
struct BodyCount {
    bytes: u64,
    expected: Option<u64>,
}

impl Exchange {
    /// An exchange that counts as cancelled if it is dropped.
    pub(crate) fn new(span: Span) -> Self {
        Self {
            span,
            context: None,
            open: true,
            failed: false,
            if_dropped: Outcome::Cancelled,
            request_body: None,
            body: None,
            start: Some(clock::now()),
        }
    }

    /// Makes `context` current around the span wherever work runs [`inside`].
    #[cfg(feature = "http-server")]
    pub(crate) fn in_context(mut self, context: Option<Context>) -> Self {
        self.context = context;
        self
    }

    #[cfg(feature = "http-server")]
    pub(crate) fn count_request_body(&mut self, body: Option<RequestBody>) {
        self.request_body = body;
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The response's head is there.
    pub(crate) fn head(&mut self, status: StatusCode, is_error: bool) {
        self.span.record("http.response.status_code", i64::from(status.as_u16()));
        if is_error {
            self.fail(status.as_str());
        }
    }

    /// A body follows, of so many bytes if that is known.
    pub(crate) fn expect_body(&mut self, bytes: Option<u64>) {
        self.body = Some(BodyCount { bytes: 0, expected: bytes });
    }

    /// From here on, dropping it is a normal end.
    #[cfg(any(feature = "http-client", feature = "reqwest"))]
    pub(crate) fn complete_if_dropped(&mut self) {
        self.if_dropped = Outcome::Complete;
    }

    pub(crate) fn add_body_bytes(&mut self, bytes: usize) {
        self.first_byte();
        if let Some(body) = &mut self.body {
            body.bytes = body.bytes.saturating_add(bytes as u64);
        }
    }

    pub(crate) fn finish(mut self, outcome: Outcome) {
        self.close(outcome);
    }

    fn first_byte(&mut self) {
        if let Some(start) = self.start.take() {
            let nanos = clock::now().saturating_sub(start);
            self.span.record("spanweave.http.time_to_first_byte_ms", nanos as f64 / 1e6);
        }
    }

    fn close(&mut self, outcome: Outcome) {
        self.open = false;
        if matches!(outcome, Outcome::Complete) {
            self.first_byte();
        }
        let request_body = self.request_body.as_ref().map(|body| match body {
            RequestBody::Announced(bytes) => *bytes,
            RequestBody::Counted(bytes) => bytes.load(Ordering::Relaxed),
        });
        if let Some(bytes) = request_body {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            self.span.record("http.request.body.size", bytes);
        }
        if let Some(body) = &self.body {
            let bytes = i64::try_from(body.bytes).unwrap_or(i64::MAX);
            self.span.record("http.response.body.size", bytes);
        }
        match outcome {
            Outcome::Complete => {}
            Outcome::Cancelled => {
                self.span.record("spanweave.outcome", "cancelled");
            }
            Outcome::Failed(class) => self.fail(&class),
        }
    }

    fn fail(&mut self, class: &str) {
        if !self.failed {
            self.failed = true;
            self.span.record("error.type", class);
            self.span.record("otel.status_code", "ERROR");
        }
    }

    /// Whether all bytes that were announced have been handed over: a server stops reading a body
    /// there, without asking for its end.
    fn has_all_bytes(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.expected.is_some_and(|all| body.bytes >= all))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let outcome = if self.has_all_bytes() {
            Outcome::Complete
        } else {
            // Nobody has waited for a byte.
            self.start = None;
            std::mem::replace(&mut self.if_dropped, Outcome::Complete)
        };
        self.close(outcome);
    }
}

/// Runs `work` inside the exchange's span. If it panics, that is the exchange's outcome: the
/// panic may be caught further up, before the exchange itself is dropped.
pub(crate) fn inside<T>(exchange: &mut Option<Exchange>, work: impl FnOnce() -> T) -> T {
    struct Watch<'a> {
        exchange: &'a mut Option<Exchange>,
        was_panicking: bool,
    }
    impl Drop for Watch<'_> {
        fn drop(&mut self) {
            if std::thread::panicking()
                && !self.was_panicking
                && let Some(exchange) = self.exchange.take()
            {
                exchange.finish(Outcome::Failed(Cow::Borrowed(PANIC)));
            }
        }
    }
    let watch = Watch { exchange, was_panicking: std::thread::panicking() };
    let _inside = watch.exchange.as_ref().map(|exchange| {
        let attached = exchange.context.clone().map(Context::attach);
        // Left in the opposite order.
        (exchange.span.enter(), attached)
    });
    work()
}

/// Whether a response has no body, whatever its headers say (RFC 9110, 6.4.1).
pub(crate) fn has_no_body(method: &http::Method, status: StatusCode) -> bool {
    status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || method == http::Method::HEAD
        || (method == http::Method::CONNECT && status.is_success())
}
