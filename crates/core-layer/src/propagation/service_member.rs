//! The project's own `tracestate` member, which carries the name of the calling service.
//!
//! `sw=<name>`: the first 128 bytes of the name, every character that `tracestate` does not allow
//! percent-encoded. It is written at injection, to destinations that the egress policy trusts, and
//! replaces the caller's. What comes in is foreign text: whoever can reach a server can claim to
//! be any service, so it may label a metric (under a series limit) and decide nothing.

use opentelemetry::trace::TraceState;

use super::text::{percent_decode, percent_encode};

/// The key of the member.
pub const KEY: &str = "sw";

/// The response header in which a server names itself to a caller that has named itself.
pub const RESPONSE_HEADER: &str = "spanweave-service";

/// Bytes of a service name that travel.
const MAX_NAME: usize = 128;

/// Longest value of a `tracestate` member.
const MAX_VALUE: usize = 256;

/// Splits the name of the calling service off the rest of a trace state.
///
/// ```
/// use opentelemetry::trace::TraceState;
/// use spanweave_core::propagation::service_member;
///
/// let state = TraceState::from_key_value([("sw", "check%20out"), ("vendor", "1")]).unwrap();
/// let (rest, caller) = service_member::split(&state);
/// assert_eq!(rest.header(), "vendor=1");
/// assert_eq!(caller.as_deref(), Some("check out"));
/// ```
pub fn split(state: &TraceState) -> (TraceState, Option<String>) {
    (without(state), caller(state))
}

/// The name of the calling service, if its trace state says it. At most 128 bytes, never empty,
/// without control characters.
pub fn caller(state: &TraceState) -> Option<String> {
    decode(state.get(KEY)?)
}

/// A service's name as the value of [`RESPONSE_HEADER`]; always a legal one.
pub fn to_header(service: &str) -> String {
    encode(service)
}

/// The name in a [`RESPONSE_HEADER`]. At most 128 bytes, never empty, without control characters.
pub fn from_header(value: &str) -> Option<String> {
    decode(value.get(..MAX_VALUE).unwrap_or(value))
}

fn decode(value: &str) -> Option<String> {
    let name = percent_decode(value);
    let name = prefix(&name, MAX_NAME);
    let is_name = !name.is_empty() && !name.contains(char::is_control);
    is_name.then(|| name.to_owned())
}

/// The trace state with `service` as the caller, the member moved to the left as the
/// specification asks; at 32 members the last one makes room. An empty name removes the member.
pub fn with_caller(state: &TraceState, service: &str) -> TraceState {
    if service.is_empty() {
        return without(state);
    }
    state.insert(KEY, encode(service)).unwrap_or_else(|_| without(state))
}

/// The trace state without the caller's name.
pub(super) fn without(state: &TraceState) -> TraceState {
    if state.get(KEY).is_none() {
        return state.clone();
    }
    match state.delete(KEY) {
        // An emptied state equals one that never had members.
        Ok(rest) if rest.into_iter().len() > 0 => rest,
        _ => TraceState::NONE,
    }
}

fn encode(service: &str) -> String {
    let mut value = String::with_capacity(service.len().min(MAX_VALUE));
    for character in prefix(service, MAX_NAME).chars() {
        let before = value.len();
        let mut bytes = [0; 4];
        percent_encode(&mut value, character.encode_utf8(&mut bytes), |byte| {
            byte.is_ascii_graphic() && !matches!(byte, b',' | b'=' | b'%' | b';')
        });
        if value.len() > MAX_VALUE {
            value.truncate(before);
            break;
        }
    }
    value
}

/// At most the first `max` bytes of a text, cut between characters.
fn prefix(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_callers_name_moves_to_the_left_and_replaces_the_former_one() {
        let state = TraceState::from_key_value([("a", "1"), ("sw", "old")]).unwrap();
        let state = with_caller(&state, "users, eu");
        assert_eq!(state.header(), "sw=users%2C%20eu,a=1");
        assert_eq!(caller(&state).as_deref(), Some("users, eu"));
    }

    #[test]
    fn without_a_name_nothing_is_claimed() {
        let state = with_caller(&TraceState::NONE, "orders");
        assert_eq!(with_caller(&state, ""), TraceState::NONE);
        assert_eq!(split(&state), (TraceState::NONE, Some("orders".to_owned())));
        assert_eq!(split(&TraceState::NONE), (TraceState::NONE, None));
    }

    #[test]
    fn a_full_trace_state_gives_up_its_last_member() {
        let full = TraceState::from_key_value((0..32).map(|i| (format!("k{i}"), "v"))).unwrap();
        let state = with_caller(&full, "shop");
        assert_eq!((&state).into_iter().len(), 32);
        assert_eq!(state.get("k31"), None);
        assert_eq!(state.get("k30"), Some("v"));
        assert_eq!((&state).into_iter().next(), Some(("sw", "shop")));
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let name = "é".repeat(200);
        let state = with_caller(&TraceState::NONE, &name);
        let value = state.get(KEY).unwrap();
        assert!(value.len() <= MAX_VALUE);
        assert_eq!(caller(&state).unwrap(), "é".repeat(MAX_VALUE / 6));
        let state = with_caller(&TraceState::NONE, &"x".repeat(200));
        assert_eq!(caller(&state).unwrap().len(), MAX_NAME);
    }

    #[test]
    fn names_that_could_break_a_log_line_are_not_read() {
        let state = TraceState::from_key_value([(KEY, "a%0Ab")]).unwrap();
        assert_eq!(split(&state), (TraceState::NONE, None));
    }

    proptest! {
        #[test]
        fn any_short_name_survives(name in "\\PC{1,20}") {
            let state = with_caller(&TraceState::NONE, &name);
            let read = caller(&state).unwrap();
            prop_assert!(name.starts_with(&read));
            prop_assert!(read == name || state.get(KEY).unwrap().len() > MAX_VALUE - 12);
        }

        #[test]
        fn arbitrary_values_never_panic(value in "[ -+.-<>-~]{0,256}") {
            let state = TraceState::from_key_value([(KEY, value)]).unwrap();
            prop_assert!(caller(&state).is_none_or(|name| name.len() <= MAX_NAME));
        }
    }
}
