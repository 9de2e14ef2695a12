//! The headers of Jaeger's retired clients: `uber-trace-id` and `uberctx-*`.
//!
//! <https://www.jaegertracing.io/sdk-migration/#propagation-format>
//!
//! `{trace}:{span}:{parent}:{flags}` in hex of either case; ids may lack leading zeros, and all of
//! it may be URL-encoded. Flag bit 0 is sampled, bit 1 debug, which implies sampled and is kept as
//! a value of the context. Baggage comes a header each, percent-encoded, under the limits of
//! [`super::baggage`]; it is added to baggage that other headers brought.

use std::sync::LazyLock;

use opentelemetry::Context;
use opentelemetry::baggage::{Baggage, BaggageExt};
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

use super::baggage::{MAX_BYTES, MAX_MEMBERS};
use super::decision;
use super::text::{
    Malformed, any_hex, is_token, is_unreserved, percent_decode, percent_encode, trim_ows,
};

const TRACE: &str = "uber-trace-id";
pub(super) const BAGGAGE_PREFIX: &str = "uberctx-";
pub(super) static FIELDS: LazyLock<[String; 1]> = LazyLock::new(|| [TRACE.to_owned()]);

/// Longest header that can be right: 32 + 16 + 16 + 2 digits and 3 colons, each URL-encoded.
const MAX_LEN: usize = 3 * 69;

const FLAG_SAMPLED: u8 = 1;
const FLAG_DEBUG: u8 = 2;

/// Writes the span context alone.
pub(super) fn inject_ids(cx: &Context, injector: &mut dyn Injector) {
    let span = cx.span();
    let span = span.span_context();
    if span.is_valid() {
        let flags = match (span.is_sampled(), decision::is_debug(cx)) {
            (true, true) => FLAG_SAMPLED | FLAG_DEBUG,
            (true, false) => FLAG_SAMPLED,
            (false, _) => 0,
        };
        let header = format!("{:032x}:{:016x}:0:{flags:x}", span.trace_id(), span.span_id());
        injector.set(TRACE, header);
    }
}

/// Writes the span context and the baggage.
pub(super) fn inject(cx: &Context, injector: &mut dyn Injector) {
    inject_ids(cx, injector);
    for (key, (value, _)) in cx.baggage().iter().take(MAX_MEMBERS) {
        let mut encoded = String::new();
        percent_encode(&mut encoded, value.as_str(), is_unreserved);
        injector.set(&format!("{BAGGAGE_PREFIX}{key}"), encoded);
    }
}

/// Reads the span context and the baggage. Also returned: how many headers were malformed.
pub(super) fn extract(cx: &Context, extractor: &dyn Extractor) -> (Context, u64) {
    let cx = match extract_baggage(cx.baggage(), extractor) {
        Some(baggage) => cx.with_baggage(baggage),
        None => cx.clone(),
    };
    match extractor.get(TRACE).map(parse) {
        Some(Ok((span_context, debug))) => {
            let cx = cx.with_remote_span_context(span_context);
            (if debug { decision::with_debug(&cx) } else { cx }, 0)
        }
        Some(Err(Malformed)) => (cx, 1),
        None => (cx, 0),
    }
}

fn parse(header: &str) -> Result<(SpanContext, bool), Malformed> {
    fn id(field: Option<&str>, digits: usize) -> Result<u128, Malformed> {
        let field = field.filter(|field| field.len() <= digits);
        field.and_then(any_hex).ok_or(Malformed)
    }

    let header = trim_ows(header);
    if header.len() > MAX_LEN {
        return Err(Malformed);
    }
    let header = percent_decode(header);
    let mut fields = header.split(':');
    let trace_id = id(fields.next(), 32)?;
    let span_id = u64::try_from(id(fields.next(), 16)?).map_err(|_| Malformed)?;
    id(fields.next(), 16)?;
    let flags = u8::try_from(id(fields.next(), 2)?).map_err(|_| Malformed)?;
    if trace_id == 0 || span_id == 0 || fields.next().is_some() {
        return Err(Malformed);
    }
    let debug = flags & FLAG_DEBUG != 0;
    let sampled = debug || flags & FLAG_SAMPLED != 0;
    let span_context = SpanContext::new(
        TraceId::from(trace_id),
        SpanId::from(span_id),
        TraceFlags::NOT_SAMPLED.with_sampled(sampled),
        true,
        TraceState::NONE,
    );
    Ok((span_context, debug))
}

/// The baggage that stands in the context and the headers, `None` where the headers have none.
fn extract_baggage(current: &Baggage, extractor: &dyn Extractor) -> Option<Baggage> {
    let mut headers = extractor
        .keys()
        .into_iter()
        .filter_map(|header| Some((header, baggage_key(header)?)))
        .peekable();
    headers.peek()?;
    let mut baggage: Baggage =
        current.iter().map(|(key, entry)| (key.clone(), entry.clone())).collect();
    let mut budget = MAX_BYTES;
    for (header, key) in headers.take(MAX_MEMBERS) {
        let value = extractor.get(header).unwrap_or_default();
        let Some(left) = budget.checked_sub(key.len() + value.len()) else {
            break;
        };
        budget = left;
        if key.bytes().all(is_token) {
            baggage.insert(key.to_owned(), percent_decode(value).into_owned());
        }
    }
    Some(baggage)
}

/// What follows the prefix, which may come in any case.
fn baggage_key(header: &str) -> Option<&str> {
    let (prefix, key) = header.split_at_checked(BAGGAGE_PREFIX.len())?;
    (prefix.eq_ignore_ascii_case(BAGGAGE_PREFIX) && !key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use opentelemetry::KeyValue;
    use proptest::prelude::*;

    use super::*;

    fn ids(header: &str) -> Option<(u128, u64, bool, bool)> {
        let (span, debug) = parse(header).ok()?;
        let trace_id = u128::from_be_bytes(span.trace_id().to_bytes());
        let span_id = u64::from_be_bytes(span.span_id().to_bytes());
        Some((trace_id, span_id, span.is_sampled(), debug))
    }

    #[test]
    fn ids_may_be_short_and_url_encoded() {
        assert_eq!(ids("5:6:0:1"), Some((5, 6, true, false)));
        assert_eq!(ids("5%3A6%3a0%3A0"), Some((5, 6, false, false)));
        assert_eq!(ids("A:b:1:3"), Some((10, 11, true, true)));
        assert_eq!(ids("5:6:0:02"), Some((5, 6, true, true)));
        let long = format!("{}:{}:0:1", "f".repeat(32), "f".repeat(16));
        assert_eq!(ids(&long), Some((u128::MAX, u64::MAX, true, false)));
    }

    #[test]
    fn malformed_headers_are_refused() {
        let long_trace = format!("{}:1:0:1", "f".repeat(33));
        let long_span = format!("1:{}:0:1", "f".repeat(17));
        let huge = "%31".repeat(1000);
        for bad in [
            "",
            "1",
            "1:2",
            "1:2:0",
            "1:2:0:1:1",
            "0:1:0:1",
            "1:0:0:1",
            "+1:1:0:1",
            "1:2::1",
            "1:2:0:",
            "1:2:0:x",
            "1:2:0:100",
            "é:1:0:1",
            &long_trace,
            &long_span,
            &huge,
        ] {
            assert_eq!(ids(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn debug_is_kept_and_baggage_is_added_to_what_is_there() {
        let carrier = HashMap::from([
            ("uber-trace-id".to_owned(), "1:2:0:3".to_owned()),
            ("uberctx-user".to_owned(), "J%C3%BCrgen+1".to_owned()),
        ]);
        let cx = Context::new().with_baggage([KeyValue::new("a", "1")]);
        let (cx, malformed) = extract(&cx, &carrier);
        assert_eq!(malformed, 0);
        assert_eq!(cx.baggage().get("user").map(|v| v.as_str()), Some("Jürgen+1"));
        assert_eq!(cx.baggage().get("a").map(|v| v.as_str()), Some("1"));
        let mut out = HashMap::new();
        inject_ids(&cx, &mut out);
        let expected = format!("{:032x}:{:016x}:0:3", 1, 2);
        assert_eq!(out, HashMap::from([("uber-trace-id".to_owned(), expected)]));
    }

    #[test]
    fn baggage_stays_within_its_limits() {
        let mut carrier: HashMap<_, _> =
            (0..1000).map(|i| (format!("uberctx-k{i}"), "v".to_owned())).collect();
        let (cx, _) = extract(&Context::new(), &carrier);
        assert_eq!(cx.baggage().len(), MAX_MEMBERS);
        carrier.clear();
        carrier.insert("uberctx-k".to_owned(), "v".repeat(1024 * 1024));
        let (cx, _) = extract(&Context::new(), &carrier);
        assert!(cx.baggage().is_empty());
    }

    proptest! {
        #[test]
        fn any_context_survives_the_headers(
            trace in 1u128..,
            span in 1u64..,
            sampled: bool,
            members in prop::collection::btree_map("[a-z0-9_-]{1,10}", ".{0,10}", 0..10),
        ) {
            let span_context = SpanContext::new(
                TraceId::from(trace),
                SpanId::from(span),
                TraceFlags::NOT_SAMPLED.with_sampled(sampled),
                true,
                TraceState::NONE,
            );
            let baggage: Baggage = members
                .iter()
                .map(|(key, value)| KeyValue::new(key.clone(), value.clone()))
                .collect();
            let cx = Context::new()
                .with_remote_span_context(span_context.clone())
                .with_baggage(baggage);
            let mut carrier = HashMap::new();
            inject(&cx, &mut carrier);
            let (cx, malformed) = extract(&Context::new(), &carrier);
            let read: BTreeMap<_, _> = cx
                .baggage()
                .iter()
                .map(|(key, (value, _))| (key.to_string(), value.to_string()))
                .collect();
            prop_assert_eq!(malformed, 0);
            prop_assert_eq!(cx.span().span_context().clone(), span_context);
            prop_assert_eq!(read, members);
        }

        #[test]
        fn arbitrary_text_never_panics(any in ".*", near in "[0-9a-f:%A]{0,80}", key in ".{0,12}") {
            for text in [any, near] {
                let carrier = HashMap::from([
                    (TRACE.to_owned(), text.clone()),
                    (key.clone(), text.clone()),
                    (format!("uberctx-{key}"), text),
                ]);
                let (cx, _) = extract(&Context::new(), &carrier);
                prop_assert!(cx.baggage().len() <= 2);
            }
        }
    }
}
