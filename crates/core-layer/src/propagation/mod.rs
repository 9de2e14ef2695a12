//! How a trace context travels between processes.
//!
//! The formats are parsed and written here and nowhere else: W3C Trace Context (level 2), W3C
//! Baggage, B3 and Jaeger's. The parsers are strict, read a bounded part of what they are given
//! (8 KiB of `tracestate` and of `baggage`, 64 members) and never panic; what they refuse starts a
//! new trace and is counted in [`malformed_headers`].
//!
//! The free functions use the process-wide choice of [`set_active`]; each [`Propagator`] and
//! [`Propagators`] also is a [`TextMapPropagator`] of its own.
//!
//! ```
//! use opentelemetry::trace::TraceContextExt;
//! use spanweave_core::propagation;
//!
//! let mut request = http::HeaderMap::new();
//! let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
//! request.insert("traceparent", parent.parse().unwrap());
//! let cx = propagation::extract(&request);
//! assert!(cx.span().span_context().is_remote());
//!
//! let mut onwards = http::HeaderMap::new();
//! propagation::inject_context(&cx, &mut onwards);
//! assert_eq!(onwards["traceparent"], parent);
//! ```

// Headers in and out.
mod carrier;
mod decision;
mod text;

// A file for each format.
mod b3;
mod baggage;
mod jaeger;
pub mod service_member;
mod trace_context;

// Which format, for whom.
mod egress;
mod propagator;

// Other carriers than headers.
mod process;

use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use http::{HeaderMap, HeaderName, Uri};
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;

use baggage::BAGGAGE;

pub use carrier::{HeaderExtractor, HeaderInjector};
pub(crate) use decision::carries_more;
pub use decision::decision_without_ids;
pub use egress::{Egress, EgressPolicy};
pub use process::{extract_env, extract_map, inject_env, inject_map};
pub use propagator::{Propagator, Propagators, malformed_headers};

/// Writes the context of the current span into the headers, unrestricted: the name of this service
/// and the baggage go along. Where the destination may be somebody else's, use [`inject_for`].
///
/// Headers that the propagators write replace those that stood there. Without a current span, the
/// headers of the trace stay as they are.
pub fn inject(headers: &mut HeaderMap) {
    inject_context(&current_context(), headers);
}

/// Writes the context of the current span into the headers of a request to `destination`, as much
/// of it as the egress policy lets go there: all to private hosts, the ids of the trace alone to
/// public ones and where the URI names no host. Headers that may not go there are removed, so that
/// those of an incoming request are not forwarded by accident.
pub fn inject_for(destination: &Uri, headers: &mut HeaderMap) {
    inject_context_for(&current_context(), destination, headers);
}

/// As [`inject`], for a context of the caller's choice.
pub fn inject_context(cx: &Context, headers: &mut HeaderMap) {
    active().write(cx, Egress::Full, headers);
}

/// As [`inject_for`], for a context of the caller's choice.
pub fn inject_context_for(cx: &Context, destination: &Uri, headers: &mut HeaderMap) {
    active().write_for(cx, destination, headers);
}

/// Reads the caller's context. It holds no parent where the headers name none or a malformed one:
/// a span that takes it as its parent then starts a new trace.
pub fn extract(headers: &HeaderMap) -> Context {
    active().read(headers)
}

/// What the free functions of this module go by. Until [`set_active`] is called it is the default:
/// W3C Trace Context and Baggage, no service name, private hosts trusted.
#[derive(Clone, Debug, Default)]
pub struct Active {
    propagators: Propagators,
    egress: EgressPolicy,
}

impl Active {
    /// Those propagators (with their service name) under the default egress policy.
    pub fn new(propagators: Propagators) -> Self {
        Self { propagators, egress: EgressPolicy::default() }
    }

    /// Replaces the egress policy.
    #[must_use]
    pub fn with_egress(mut self, egress: EgressPolicy) -> Self {
        self.egress = egress;
        self
    }

    /// The propagators.
    pub fn propagators(&self) -> &Propagators {
        &self.propagators
    }

    /// The egress policy.
    pub fn egress(&self) -> &EgressPolicy {
        &self.egress
    }

    fn read(&self, headers: &HeaderMap) -> Context {
        self.propagators.extract_with_context(&Context::new(), &HeaderExtractor(headers))
    }

    fn write_for(&self, cx: &Context, destination: &Uri, headers: &mut HeaderMap) {
        let egress = self.egress.decide(destination.host().unwrap_or_default());
        self.write(cx, egress, headers);
    }

    fn write(&self, cx: &Context, egress: Egress, headers: &mut HeaderMap) {
        // What a new parent goes out with must not be mixed with what came with another one.
        if cx.span().span_context().is_valid() {
            for field in self.propagators.fields() {
                if field != BAGGAGE {
                    headers.remove(field);
                }
            }
        }
        if egress != Egress::Full {
            remove_descriptions(headers);
        }
        self.propagators.write(cx, egress, &mut HeaderInjector(headers));
    }
}

static ACTIVE: RwLock<Option<Arc<Active>>> = RwLock::new(None);
static DEFAULT: LazyLock<Arc<Active>> = LazyLock::new(Arc::default);

/// Sets the process-wide choice; the last call wins.
pub fn set_active(active: Active) {
    *ACTIVE.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(active));
}

/// The process-wide choice.
pub fn active() -> Arc<Active> {
    let active = ACTIVE.read().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(active.as_ref().unwrap_or(&DEFAULT))
}

/// The context that goes out: that of the current span, whose ids are final from now on.
pub(crate) fn current_context() -> Context {
    crate::capture::context_for_injection()
}

/// Removes what describes the inside of the system.
fn remove_descriptions(headers: &mut HeaderMap) {
    headers.remove(trace_context::TRACESTATE);
    headers.remove(BAGGAGE);
    let jaeger_baggage: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(jaeger::BAGGAGE_PREFIX))
        .cloned()
        .collect();
    for name in jaeger_baggage {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn incoming(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn shop() -> Active {
        Active::new(Propagators::default().with_service_name("shop"))
    }

    fn context() -> Context {
        Active::default().read(&incoming(&[
            ("traceparent", PARENT),
            ("tracestate", "a=1"),
            ("tracestate", "sw=edge"),
            ("baggage", "k=v;p"),
            ("baggage", "l=w"),
        ]))
    }

    #[test]
    fn headers_over_several_lines_are_read_as_one_and_replaced_as_one() {
        let mut headers = incoming(&[("baggage", "old=1"), ("baggage", "old=2")]);
        shop().write(&context(), Egress::Full, &mut headers);
        assert_eq!(headers["traceparent"], PARENT);
        assert_eq!(headers["tracestate"], "sw=shop,a=1");
        assert_eq!(headers.get_all("baggage").iter().count(), 1);
        assert_eq!(headers["baggage"], "k=v;p,l=w");
    }

    #[test]
    fn public_hosts_get_traceparent_alone_even_when_headers_are_forwarded() {
        let mut headers = incoming(&[
            ("tracestate", "sw=edge"),
            ("baggage", "user=1"),
            ("uberctx-user", "1"),
            ("accept", "*/*"),
        ]);
        shop().write(&context(), Egress::TraceOnly, &mut headers);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["traceparent"], PARENT);
        assert_eq!(headers["accept"], "*/*");
    }

    #[test]
    fn the_destination_decides() {
        for (uri, full) in [
            ("http://orders:8080/x", true),
            ("http://[::1]:8080/x", true),
            ("https://api.example.com/x", false),
            ("/relative", false),
        ] {
            let mut headers = HeaderMap::new();
            shop().write_for(&context(), &Uri::from_static(uri), &mut headers);
            assert_eq!(headers["traceparent"], PARENT);
            assert_eq!(headers.contains_key("baggage"), full, "{uri}");
            assert_eq!(headers.contains_key("tracestate"), full, "{uri}");
        }
    }

    #[test]
    fn a_stale_tracestate_does_not_go_with_a_new_parent() {
        let cx = Active::default().read(&incoming(&[("traceparent", PARENT)]));
        let mut headers = incoming(&[("tracestate", "stale=1"), ("baggage", "own=1")]);
        Active::default().write(&cx, Egress::Full, &mut headers);
        assert!(!headers.contains_key("tracestate"));
        assert_eq!(headers["baggage"], "own=1");
    }

    #[test]
    fn without_a_span_the_headers_stay() {
        let mut headers = incoming(&[("traceparent", PARENT), ("tracestate", "a=1")]);
        Active::default().write(&Context::new(), Egress::Full, &mut headers);
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn a_traceparent_that_is_not_text_starts_a_new_trace_and_is_counted() {
        let before = malformed_headers();
        let mut headers = incoming(&[("baggage", "k=v")]);
        headers.insert("traceparent", HeaderValue::from_bytes(&[0xff]).unwrap());
        let cx = Active::default().read(&headers);
        assert!(!cx.has_active_span());
        assert!(malformed_headers() > before);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 8),
        ) {
            let names = [
                "traceparent", "tracestate", "tracestate", "baggage", "b3", "x-b3-traceid",
                "uber-trace-id", "uberctx-k",
            ];
            let mut headers = HeaderMap::new();
            for (name, value) in names.into_iter().zip(&values) {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    headers.append(name, value);
                }
            }
            let all = Propagators::new([
                Propagator::trace_context(),
                Propagator::baggage(),
                Propagator::b3(),
                Propagator::jaeger(),
            ]);
            let cx = all.extract_with_context(&Context::new(), &HeaderExtractor(&headers));
            let mut out = HeaderMap::new();
            Active::new(all).write(&cx, Egress::Full, &mut out);
            prop_assert!(!cx.has_active_span() || out.contains_key("traceparent"));
        }
    }
}
