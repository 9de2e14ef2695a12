//! W3C Trace Context, level 2: the headers `traceparent` and `tracestate`.
//!
//! <https://www.w3.org/TR/trace-context-2/>
//!
//! Strict where the specification is: lower-case hex only, no zero ids, no version `ff`, exactly
//! one `traceparent`. A higher version is read by its first four fields. Of the flags, `sampled`
//! (bit 0) and `random` (bit 1) are kept, all others cleared. Where `traceparent` does not parse,
//! `tracestate` is not looked at; where `tracestate` does not parse, it alone is dropped.
//!
//! A `tracestate` key `tenant@system` whose system part has the full 14 characters cannot be held
//! by [`TraceState`] of `opentelemetry` 0.33; such a member is not passed on, the others are.

use std::sync::LazyLock;

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

use super::service_member;
use super::text::{Malformed, list_members, lower_hex, trim_ows};

pub(super) const TRACEPARENT: &str = "traceparent";
pub(super) const TRACESTATE: &str = "tracestate";
pub(super) static FIELDS: LazyLock<[String; 2]> =
    LazyLock::new(|| [TRACEPARENT.to_owned(), TRACESTATE.to_owned()]);

/// `00-` + 32 + `-` + 16 + `-` + 2.
const TRACEPARENT_LEN: usize = 55;

/// Bytes of `tracestate` that are read. The specification asks for at least 512.
const MAX_TRACESTATE: usize = 8 * 1024;

/// The most members of a `tracestate`.
pub(super) const MAX_MEMBERS: usize = 32;

/// Sampled and random.
const KNOWN_FLAGS: u8 = 0b11;

/// What becomes of `tracestate` at injection.
#[derive(Clone, Copy, Debug)]
pub(super) enum State<'a> {
    /// It is not sent.
    Omitted,
    /// It is sent, with the name of this service in the project's own member where one is known.
    Sent { caller: Option<&'a str> },
}

/// Writes the span context of `cx`, if there is a valid one.
pub(super) fn inject(cx: &Context, state: State<'_>, injector: &mut dyn Injector) {
    let span = cx.span();
    let span_context = span.span_context();
    if !span_context.is_valid() {
        return;
    }
    injector.set(TRACEPARENT, format_traceparent(span_context));
    if let State::Sent { caller } = state {
        let trace_state = span_context.trace_state();
        let header = match caller {
            Some(service) => format_tracestate(&service_member::with_caller(trace_state, service)),
            None => format_tracestate(&service_member::without(trace_state)),
        };
        if !header.is_empty() {
            injector.set(TRACESTATE, header);
        }
    }
}

/// What the headers say.
#[derive(Debug, PartialEq)]
pub(super) struct Extracted {
    /// The caller's span; `None` where there is none, and a new trace starts.
    pub(super) span_context: Option<SpanContext>,
    /// Headers that were there but did not parse.
    pub(super) malformed: u64,
}

/// Reads the caller's span context.
pub(super) fn extract(extractor: &dyn Extractor) -> Extracted {
    let Some(lines) = extractor.get_all(TRACEPARENT) else {
        return Extracted { span_context: None, malformed: 0 };
    };
    // Two parents are no parent.
    let parsed = match lines.as_slice() {
        [line] => parse_traceparent(line),
        _ => Err(Malformed),
    };
    let Ok(parent) = parsed else {
        return Extracted { span_context: None, malformed: 1 };
    };
    let lines = extractor.get_all(TRACESTATE).unwrap_or_default();
    let (trace_state, malformed) = match parse_tracestate(lines) {
        Ok(trace_state) => (trace_state, 0),
        Err(Malformed) => (TraceState::NONE, 1),
    };
    Extracted {
        span_context: Some(SpanContext::new(
            parent.trace_id,
            parent.span_id,
            parent.flags,
            true,
            trace_state,
        )),
        malformed,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Traceparent {
    trace_id: TraceId,
    span_id: SpanId,
    flags: TraceFlags,
}

fn parse_traceparent(header: &str) -> Result<Traceparent, Malformed> {
    fn field(header: &str, from: usize, to: usize) -> Result<u128, Malformed> {
        header.get(from..to).and_then(lower_hex).ok_or(Malformed)
    }

    let header = trim_ows(header);
    let dash = |at: usize| header.as_bytes().get(at) == Some(&b'-');
    if !(dash(2) && dash(35) && dash(52)) {
        return Err(Malformed);
    }
    let version = field(header, 0, 2)?;
    let length_fits = match version {
        0 => header.len() == TRACEPARENT_LEN,
        0xff => false,
        _ => header.len() == TRACEPARENT_LEN || dash(TRACEPARENT_LEN),
    };
    let trace_id = field(header, 3, 35)?;
    let span_id = field(header, 36, 52)?;
    let flags = field(header, 53, 55)?;
    if !length_fits || trace_id == 0 || span_id == 0 {
        return Err(Malformed);
    }
    Ok(Traceparent {
        trace_id: TraceId::from(trace_id),
        span_id: SpanId::from(u64::try_from(span_id).map_err(|_| Malformed)?),
        flags: TraceFlags::new(u8::try_from(flags).map_err(|_| Malformed)? & KNOWN_FLAGS),
    })
}

fn format_traceparent(span: &SpanContext) -> String {
    format!(
        "00-{:032x}-{:016x}-{:02x}",
        span.trace_id(),
        span.span_id(),
        span.trace_flags().to_u8() & KNOWN_FLAGS
    )
}

/// One bad member, a key twice or more than 32 members: the whole list is dropped.
fn parse_tracestate<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<TraceState, Malformed> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    for member in list_members(lines, MAX_TRACESTATE) {
        let member = trim_ows(member);
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=').ok_or(Malformed)?;
        let twice = members.iter().any(|(other, _)| *other == key);
        if !is_key(key) || !is_value(value) || twice || members.len() == MAX_MEMBERS {
            return Err(Malformed);
        }
        members.push((key, value));
    }
    members.retain(|(key, _)| fits_trace_state(key));
    TraceState::from_key_value(members).map_err(|_| Malformed)
}

fn format_tracestate(state: &TraceState) -> String {
    let mut header = String::new();
    for (key, value) in state.into_iter().take(MAX_MEMBERS) {
        if !header.is_empty() {
            header.push(',');
        }
        header.push_str(key);
        header.push('=');
        header.push_str(value);
    }
    header
}

/// `key` or `tenant@system`: at most 256, or 241 and 14 characters.
fn is_key(key: &str) -> bool {
    fn part(part: &str, max: usize) -> bool {
        part.len() <= max
            && part
                .bytes()
                .next()
                .is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            && part.bytes().all(|byte| {
                byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()
                    || matches!(byte, b'_' | b'-' | b'*' | b'/')
            })
    }

    match key.split_once('@') {
        Some((tenant, system)) => part(tenant, 241) && part(system, 14),
        None => part(key, 256),
    }
}

/// 1 to 256 printable ASCII characters without `,` and `=`, the last of them no space.
fn is_value(value: &str) -> bool {
    value.len() <= 256
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=')
        && value.bytes().next_back().is_some_and(|byte| byte != b' ')
}

/// Whether [`TraceState`] takes a key that the specification allows.
fn fits_trace_state(key: &str) -> bool {
    key.split_once('@').is_none_or(|(_, system)| system.len() < 14)
}

#[cfg(test)]
mod tests;
