//! B3, the headers of Zipkin: one (`b3`) or several (`X-B3-*`).
//!
//! <https://github.com/openzipkin/b3-propagation>
//!
//! Read is the single header, then the several ones; trace ids have 16 or 32 lower-case hex
//! digits. The debug flag implies sampled and is kept as a value of the context, so that it goes
//! on. A caller that left the decision open (ids without a sampling state) counts as sampled. A
//! decision without ids (`b3: 0`) starts a new trace and is kept as a value of the context too.

use std::sync::LazyLock;

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

use super::decision;
use super::text::{Malformed, lower_hex, trim_ows};

const SINGLE: &str = "b3";
const TRACE_ID: &str = "x-b3-traceid";
const SPAN_ID: &str = "x-b3-spanid";
const SAMPLED: &str = "x-b3-sampled";
const FLAGS: &str = "x-b3-flags";

pub(super) static SINGLE_FIELDS: LazyLock<[String; 1]> = LazyLock::new(|| [SINGLE.to_owned()]);
pub(super) static MULTI_FIELDS: LazyLock<[String; 4]> =
    LazyLock::new(|| [TRACE_ID, SPAN_ID, SAMPLED, FLAGS].map(str::to_owned));

/// Writes the single header.
pub(super) fn inject_single(cx: &Context, injector: &mut dyn Injector) {
    let span = cx.span();
    let span = span.span_context();
    if span.is_valid() {
        let state = match (is_debug(cx, span), span.is_sampled()) {
            (true, _) => 'd',
            (false, true) => '1',
            (false, false) => '0',
        };
        let header = format!("{:032x}-{:016x}-{state}", span.trace_id(), span.span_id());
        injector.set(SINGLE, header);
    }
}

/// Writes the several headers.
pub(super) fn inject_multi(cx: &Context, injector: &mut dyn Injector) {
    let span = cx.span();
    let span = span.span_context();
    if span.is_valid() {
        injector.set(TRACE_ID, format!("{:032x}", span.trace_id()));
        injector.set(SPAN_ID, format!("{:016x}", span.span_id()));
        if is_debug(cx, span) {
            injector.set(FLAGS, "1".to_owned());
        } else {
            injector.set(SAMPLED, u8::from(span.is_sampled()).to_string());
        }
    }
}

/// A debug flag stands for a sampled trace only; a span that was not sampled goes on as such.
fn is_debug(cx: &Context, span: &SpanContext) -> bool {
    span.is_sampled() && decision::is_debug(cx)
}

/// Reads the single header, else the several ones. Also returned: how many were malformed.
pub(super) fn extract(cx: &Context, extractor: &dyn Extractor) -> (Context, u64) {
    let mut malformed = 0;
    for parsed in [extract_single(extractor), extract_multi(extractor)] {
        match parsed {
            Some(Ok(Parent::Span { span, debug })) => {
                let cx = cx.with_remote_span_context(span);
                let cx = if debug { decision::with_debug(&cx) } else { cx };
                return (cx, malformed);
            }
            Some(Ok(Parent::DecisionOnly { sampled })) => {
                return (decision::with_bare(cx, sampled), malformed);
            }
            Some(Err(Malformed)) => malformed += 1,
            None => {}
        }
    }
    (cx.clone(), malformed)
}

enum Parent {
    Span { span: SpanContext, debug: bool },
    DecisionOnly { sampled: bool },
}

impl Parent {
    fn decision_only(state: State) -> Self {
        Self::DecisionOnly { sampled: state != State::Denied }
    }
}

fn extract_single(extractor: &dyn Extractor) -> Option<Result<Parent, Malformed>> {
    Some(parse_single(extractor.get(SINGLE)?))
}

fn parse_single(header: &str) -> Result<Parent, Malformed> {
    let mut fields = trim_ows(header).split('-');
    let (first, second) = (fields.next().unwrap_or_default(), fields.next());
    let Some(span_id) = second else {
        return parse_state(first).map(Parent::decision_only);
    };
    let state = fields.next().map(parse_state).transpose()?;
    let parent_span_is_fine = fields.next().is_none_or(|id| parse_span_id(id).is_ok());
    if !parent_span_is_fine || fields.next().is_some() {
        return Err(Malformed);
    }
    span(first, span_id, state.unwrap_or(State::Accepted))
}

fn extract_multi(extractor: &dyn Extractor) -> Option<Result<Parent, Malformed>> {
    let state = match (extractor.get(FLAGS), extractor.get(SAMPLED)) {
        (Some("1"), _) => Ok(Some(State::Debug)),
        (_, Some("true")) => Ok(Some(State::Accepted)),
        (_, Some("false")) => Ok(Some(State::Denied)),
        (_, Some(state @ ("0" | "1"))) => parse_state(state).map(Some),
        (_, Some(_)) => Err(Malformed),
        (_, None) => Ok(None),
    };
    match (extractor.get(TRACE_ID), extractor.get(SPAN_ID), state) {
        (None, None, Ok(None)) => None,
        (None, None, Ok(Some(state))) => Some(Ok(Parent::decision_only(state))),
        (Some(trace_id), Some(span_id), Ok(state)) => {
            Some(span(trace_id, span_id, state.unwrap_or(State::Accepted)))
        }
        _ => Some(Err(Malformed)),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Denied,
    Accepted,
    Debug,
}

fn parse_state(state: &str) -> Result<State, Malformed> {
    match state {
        "0" => Ok(State::Denied),
        "1" => Ok(State::Accepted),
        "d" => Ok(State::Debug),
        _ => Err(Malformed),
    }
}

fn span(trace_id: &str, span_id: &str, state: State) -> Result<Parent, Malformed> {
    if !matches!(trace_id.len(), 16 | 32) {
        return Err(Malformed);
    }
    let trace_id = lower_hex(trace_id).filter(|id| *id != 0).ok_or(Malformed)?;
    let flags = TraceFlags::NOT_SAMPLED.with_sampled(state != State::Denied);
    Ok(Parent::Span {
        span: SpanContext::new(
            TraceId::from(trace_id),
            parse_span_id(span_id)?,
            flags,
            true,
            TraceState::NONE,
        ),
        debug: state == State::Debug,
    })
}

fn parse_span_id(id: &str) -> Result<SpanId, Malformed> {
    if id.len() != 16 {
        return Err(Malformed);
    }
    lower_hex(id)
        .and_then(|id| u64::try_from(id).ok())
        .filter(|id| *id != 0)
        .map(SpanId::from)
        .ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";

    type Read = (Option<(String, String, bool)>, u64);

    fn read(headers: &[(&str, &str)]) -> Read {
        let carrier: HashMap<_, _> =
            headers.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (cx, malformed) = extract(&Context::new(), &carrier);
        let span = cx.span().span_context().clone();
        let span = span
            .is_valid()
            .then(|| (span.trace_id().to_string(), span.span_id().to_string(), span.is_sampled()));
        (span, malformed)
    }

    fn parent(sampled: bool) -> Option<(String, String, bool)> {
        Some((TRACE.to_owned(), SPAN.to_owned(), sampled))
    }

    #[test]
    fn the_single_header_is_read() {
        let ids = format!("{TRACE}-{SPAN}");
        for (tail, sampled) in [("", true), ("-1", true), ("-d", true), ("-0", false)] {
            assert_eq!(read(&[("b3", &format!("{ids}{tail}"))]), (parent(sampled), 0));
        }
        let with_parent = format!("{ids}-1-05e3ac9a4f6e3b90");
        assert_eq!(read(&[("b3", &with_parent)]), (parent(true), 0));
        let (short, _) = read(&[("b3", &format!("64fe8b2a57d3eff7-{SPAN}-1"))]);
        assert_eq!(short.unwrap().0, "000000000000000064fe8b2a57d3eff7");
    }

    #[test]
    fn a_decision_without_ids_is_kept() {
        for (name, value, sampled) in
            [(SINGLE, "0", false), (SINGLE, "1", true), (SAMPLED, "0", false), (FLAGS, "1", true)]
        {
            assert_eq!(read(&[(name, value)]), (None, 0));
            let carrier = HashMap::from([(name.to_owned(), value.to_owned())]);
            let (cx, _) = extract(&Context::new(), &carrier);
            assert_eq!(decision::decision_without_ids(&cx), Some(sampled), "{name}");
        }
        let carrier = HashMap::from([(SINGLE.to_owned(), format!("{TRACE}-{SPAN}-0"))]);
        let (cx, _) = extract(&Context::new(), &carrier);
        assert_eq!(decision::decision_without_ids(&cx), None);
    }

    #[test]
    fn malformed_headers_start_a_new_trace_and_are_counted() {
        let ids = format!("{TRACE}-{SPAN}");
        let zero = "0".repeat(32);
        for bad in [
            "",
            "2",
            &format!("{ids}-2"),
            &format!("{ids}-1-"),
            &format!("{ids}-1-05e3ac9a4f6e3b90-x"),
            &format!("{ids}-true"),
            &format!("{zero}-{SPAN}-1"),
            &format!("{TRACE}-0000000000000000-1"),
            &format!("{TRACE}0-{SPAN}-1"),
            &format!("+{}-{SPAN}-1", &TRACE[1..]),
            &format!("{}-{SPAN}-1", TRACE.to_uppercase()),
        ] {
            assert_eq!(read(&[("b3", bad)]), (None, 1), "{bad:?}");
        }
        assert_eq!(read(&[(TRACE_ID, TRACE)]), (None, 1));
        assert_eq!(read(&[(TRACE_ID, TRACE), (SPAN_ID, SPAN), (SAMPLED, "maybe")]), (None, 1));
    }

    #[test]
    fn the_single_header_comes_first_then_the_several_ones() {
        let several = [(TRACE_ID, TRACE), (SPAN_ID, SPAN), (SAMPLED, "0")];
        assert_eq!(read(&several), (parent(false), 0));
        let single = format!("{TRACE}-{SPAN}-1");
        let both = [&several[..], &[("b3", single.as_str())]].concat();
        assert_eq!(read(&both), (parent(true), 0));
        let broken = [&several[..], &[("b3", "broken")]].concat();
        assert_eq!(read(&broken), (parent(false), 1));
    }

    #[test]
    fn debug_implies_sampled_and_goes_on() {
        let carrier = HashMap::from([
            (TRACE_ID.to_owned(), TRACE.to_owned()),
            (SPAN_ID.to_owned(), SPAN.to_owned()),
            (FLAGS.to_owned(), "1".to_owned()),
        ]);
        let (cx, _) = extract(&Context::new(), &carrier);
        assert!(cx.span().span_context().is_sampled());
        let mut several = HashMap::new();
        inject_multi(&cx, &mut several);
        assert_eq!(several, carrier);
        let mut single = HashMap::new();
        inject_single(&cx, &mut single);
        assert_eq!(single[SINGLE], format!("{TRACE}-{SPAN}-d"));
    }

    proptest! {
        #[test]
        fn any_span_context_survives_both_forms(trace in 1u128.., span in 1u64.., sampled: bool) {
            let span_context = SpanContext::new(
                TraceId::from(trace),
                SpanId::from(span),
                TraceFlags::NOT_SAMPLED.with_sampled(sampled),
                true,
                TraceState::NONE,
            );
            let cx = Context::new().with_remote_span_context(span_context.clone());
            for inject in [inject_single, inject_multi] {
                let mut carrier = HashMap::new();
                inject(&cx, &mut carrier);
                let (read, malformed) = extract(&Context::new(), &carrier);
                prop_assert_eq!(read.span().span_context().clone(), span_context.clone());
                prop_assert_eq!(malformed, 0);
            }
        }

        #[test]
        fn arbitrary_text_never_panics(any in ".*", near in "[0-9a-fd-]{0,70}", id in ".{0,33}") {
            for text in [&any, &near] {
                drop(read(&[("b3", text), (TRACE_ID, &id), (SPAN_ID, text), (SAMPLED, &id)]));
            }
        }
    }
}
