//! Jaeger's format against `opentelemetry-jaeger-propagator` 0.32, the oracle, over maps of text: the
//! two are built on different versions of the API.
//!
//! Where the oracle is laxer or reads otherwise, generated headers keep away or the comparison says
//! so: it reads the flags as a decimal number (ours as hex, as Jaeger writes them), takes debug
//! without sampled as not sampled, does not look at the parent's id, takes a sign for a digit, and
//! decodes `%3A` alone.

#![allow(deprecated, reason = "the format has ended, those who still speak it have not")]

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry_0_32::propagation::TextMapPropagator as _;
use opentelemetry_0_32::trace::TraceContextExt as _;
use opentelemetry_jaeger_propagator::Propagator as Oracle;
use proptest::prelude::*;
use spanweave_core::propagation::Propagator;

/// Trace id, span id and whether it is sampled.
type Parent = Option<(String, String, bool)>;

fn carrier(header: &str) -> HashMap<String, String> {
    HashMap::from([("uber-trace-id".to_owned(), header.to_owned())])
}

fn ours(header: &str) -> Parent {
    let cx = Propagator::jaeger().extract(&carrier(header));
    let span = cx.span().span_context().clone();
    let parent = (span.trace_id().to_string(), span.span_id().to_string(), span.is_sampled());
    span.is_valid().then_some(parent)
}

fn oracles(header: &str) -> Parent {
    let cx = Oracle::new().extract(&carrier(header));
    let span = cx.span().span_context().clone();
    let parent = (span.trace_id().to_string(), span.span_id().to_string(), span.is_sampled());
    span.is_valid().then_some(parent)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn legal_headers_are_read_alike(
        trace_id in "[0-9a-fA-F]{1,32}",
        span_id in "[0-9a-fA-F]{1,16}",
        parent_id in prop::sample::select(vec!["0", "1", "00f067aa0ba902b7"]),
        // Not those with debug and without sampled.
        flags in prop::sample::select(vec!["0", "1", "3", "5", "7", "8", "9", "00", "01", "03"]),
        encoded in any::<bool>(),
    ) {
        let header = format!("{trace_id}:{span_id}:{parent_id}:{flags}");
        let header = if encoded { header.replace(':', "%3A") } else { header };
        prop_assert_eq!(ours(&header), oracles(&header));
    }

    #[test]
    fn what_is_read_of_other_text_is_what_the_oracle_reads(
        header in "([0-9a-f]{0,34}:){2,4}[0-9a-f]{0,3}|[0-9a-f:%3A]{0,80}",
    ) {
        if let Some((trace_id, span_id, sampled)) = ours(&header) {
            // The oracle reads flags of decimal digits only.
            let flags = header.rsplit([':', 'A']).next().unwrap_or_default();
            let comparable = flags.len() == 1
                && flags.parse::<u8>().is_ok_and(|flags| flags & 2 == 0 || flags & 1 == 1)
                && (header.contains(':') != header.contains('%'));
            if comparable {
                prop_assert_eq!(oracles(&header), Some((trace_id, span_id, sampled)));
            }
        }
    }

    #[test]
    fn the_same_header_is_written(
        trace_id in 1_u128.., span_id in 1_u64.., sampled in any::<bool>(),
    ) {
        let flags = TraceFlags::default().with_sampled(sampled);
        let span = SpanContext::new(
            TraceId::from(trace_id), SpanId::from(span_id), flags, true, TraceState::NONE,
        );
        let cx = opentelemetry::Context::new().with_remote_span_context(span);
        let mut written = HashMap::new();
        Propagator::jaeger().inject_context(&cx, &mut written);

        use opentelemetry_0_32::trace as old;
        let flags = old::TraceFlags::default().with_sampled(sampled);
        let span = old::SpanContext::new(
            old::TraceId::from(trace_id), old::SpanId::from(span_id), flags, true,
            old::TraceState::NONE,
        );
        let cx = opentelemetry_0_32::Context::new().with_remote_span_context(span);
        let mut expected = HashMap::new();
        Oracle::new().inject_context(&cx, &mut expected);
        prop_assert_eq!(written, expected);
    }
}
