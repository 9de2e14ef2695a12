use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const TRACE: &str = "12345678901234567890123456789012";

fn state(lines: &[&str]) -> Option<String> {
    parse_tracestate(lines.iter().copied()).ok().map(|state| format_tracestate(&state))
}

/// The cases of the W3C harness (`TraceContextTest`).
#[test]
fn traceparent_follows_the_w3c_harness() {
    let good = [
        "00-12345678901234567890123456789012-1234567890123456-01",
        "00-12345678901234567890123456789012-1234567890123456-00",
        "cc-12345678901234567890123456789012-1234567890123456-01",
        "cc-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
        " 00-12345678901234567890123456789012-1234567890123456-01",
        "\t00-12345678901234567890123456789012-1234567890123456-01",
        "00-12345678901234567890123456789012-1234567890123456-01 ",
        "\t 00-12345678901234567890123456789012-1234567890123456-01 \t",
    ];
    for header in good {
        let parsed = parse_traceparent(header).map(|parent| parent.trace_id.to_string());
        assert_eq!(parsed.as_deref(), Ok(TRACE), "{header:?}");
    }
    let bad = [
        "",
        "00",
        "00-12345678901234567890123456789012-1234567890123456-01.",
        "00-12345678901234567890123456789012-1234567890123456-01-",
        "00-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
        "cc-12345678901234567890123456789012-1234567890123456-01.what-the-future-will-be-like",
        "cc-12345678901234567890123456789012-1234567890123456-0",
        "ff-12345678901234567890123456789012-1234567890123456-01",
        ".0-12345678901234567890123456789012-1234567890123456-01",
        "0.-12345678901234567890123456789012-1234567890123456-01",
        "000-12345678901234567890123456789012-1234567890123456-01",
        "0000-12345678901234567890123456789012-1234567890123456-01",
        "0-12345678901234567890123456789012-1234567890123456-01",
        "00-00000000000000000000000000000000-1234567890123456-01",
        "00-.2345678901234567890123456789012-1234567890123456-01",
        "00-1234567890123456789012345678901.-1234567890123456-01",
        "00-123456789012345678901234567890123-1234567890123456-01",
        "00-1234567890123456789012345678901-1234567890123456-01",
        "00-12345678901234567890123456789012-0000000000000000-01",
        "00-12345678901234567890123456789012-.234567890123456-01",
        "00-12345678901234567890123456789012-123456789012345.-01",
        "00-12345678901234567890123456789012-12345678901234567-01",
        "00-12345678901234567890123456789012-123456789012345-01",
        "00-12345678901234567890123456789012-1234567890123456-.0",
        "00-12345678901234567890123456789012-1234567890123456-0.",
        "00-12345678901234567890123456789012-1234567890123456-001",
        "00-12345678901234567890123456789012-1234567890123456-1",
        // What lenient number parsers let through.
        "00-+2345678901234567890123456789012-1234567890123456-01",
        "+0-12345678901234567890123456789012-1234567890123456-01",
        "00-ABCDEF78901234567890123456789012-1234567890123456-01",
        "00-12345678901234567890123456789012-1234567890123456-0A",
        "00-1234567890123456789012345678901é-123456789012345-01",
    ];
    for header in bad {
        assert_eq!(parse_traceparent(header), Err(Malformed), "{header:?}");
    }
}

#[test]
fn only_the_sampled_and_random_flags_are_kept() {
    for (header, kept) in [("00", 0), ("01", 1), ("02", 2), ("03", 3), ("ff", 3), ("08", 0)] {
        let header = format!("00-{TRACE}-1234567890123456-{header}");
        let flags = parse_traceparent(&header).map(|parent| parent.flags.to_u8());
        assert_eq!(flags, Ok(kept), "{header}");
    }
}

#[test]
fn two_traceparent_lines_are_malformed() {
    struct Twice;
    impl Extractor for Twice {
        fn get(&self, key: &str) -> Option<&str> {
            self.get_all(key)?.first().copied()
        }
        fn keys(&self) -> Vec<&str> {
            vec![TRACEPARENT]
        }
        fn get_all(&self, key: &str) -> Option<Vec<&str>> {
            (key == TRACEPARENT)
                .then(|| vec!["00-12345678901234567890123456789012-1234567890123456-01"; 2])
        }
    }
    let extracted = extract(&Twice);
    assert_eq!((extracted.span_context, extracted.malformed), (None, 1));
}

#[test]
fn tracestate_is_not_read_without_a_traceparent() {
    let mut carrier = HashMap::new();
    carrier.insert(TRACESTATE.to_owned(), "broken".to_owned());
    assert_eq!(extract(&carrier).malformed, 0);
    carrier.insert(TRACEPARENT.to_owned(), "broken".to_owned());
    assert_eq!(extract(&carrier).malformed, 1);
    carrier.insert(TRACEPARENT.to_owned(), format!("00-{TRACE}-1234567890123456-01"));
    let extracted = extract(&carrier);
    assert_eq!(extracted.malformed, 1, "the broken tracestate is dropped");
    assert!(extracted.span_context.is_some_and(|span| span.is_remote()
        && span.is_sampled()
        && span.trace_state() == &TraceState::NONE));
}

#[test]
fn tracestate_follows_the_w3c_harness() {
    let long = "z".repeat(256);
    let vendor = format!("{}@{}", "t".repeat(241), "v".repeat(14));
    let good = [
        (vec!["foo=1,bar=2"], "foo=1,bar=2"),
        (vec![""], ""),
        (vec!["foo=1", ""], "foo=1"),
        (vec!["", "foo=1"], "foo=1"),
        (vec!["foo=1,,bar=2, \t,"], "foo=1,bar=2"),
        (vec!["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], "foo=1,bar=2,rojo=1,congo=2,baz=3"),
        (vec!["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
        (vec!["foo=1\t \t,\t \tbar=2"], "foo=1,bar=2"),
        (vec!["\t foo=1 \t"], "foo=1"),
        (vec!["t1@sys=1"], "t1@sys=1"),
        (vec!["1a=1"], "1a=1"),
        (vec!["foo= 1"], "foo= 1"),
    ];
    for (lines, expected) in good {
        assert_eq!(state(&lines).as_deref(), Some(expected), "{lines:?}");
    }
    let bad = [
        vec!["foo=1,foo=1"],
        vec!["foo=1,foo=2"],
        vec!["foo=1", "foo=2"],
        vec!["foo =1"],
        vec!["FOO=1"],
        vec!["foo.bar=1"],
        vec!["foo@=1,bar=2"],
        vec!["@foo=1,bar=2"],
        vec!["foo@@bar=1,bar=2"],
        vec!["foo@bar@baz=1,bar=2"],
        vec!["foo=1,t@vvvvvvvvvvvvvvv=1"],
        vec!["foo=bar=baz"],
        vec!["foo=,bar=3"],
        vec!["foo,bar=3"],
        vec!["=1"],
        vec!["foo=\u{7f}"],
        vec!["foo=ä"],
    ];
    for lines in bad {
        assert_eq!(state(&lines), None, "{lines:?}");
    }

    let long_key = format!("{long}=1");
    assert_eq!(state(&["foo=1", &long_key]), Some(format!("foo=1,{long}=1")));
    assert_eq!(state(&["foo=1", &format!("z{long_key}")]), None);
    assert_eq!(state(&["foo=1", &format!("{vendor}=1")]).as_deref(), Some("foo=1"));
    assert_eq!(state(&["foo=1", &format!("t{vendor}=1")]), None);
    assert_eq!(state(&[&format!("foo={long}")]), Some(format!("foo={long}")));
    assert_eq!(state(&[&format!("foo={long}z")]), None);
}

#[test]
fn tracestate_holds_every_legal_character() {
    let key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
    let value: String = (' '..='~').filter(|c| !matches!(c, ',' | '=')).collect();
    let header = format!("{key}={value}");
    assert_eq!(state(&[&header]), Some(header.clone()));
    let header = format!("{key}@a-z0-9_-*/={value}");
    assert_eq!(state(&[&header]), Some(header.clone()));
}

#[test]
fn thirty_two_members_pass_and_thirty_three_are_dropped() {
    let member = |i| format!("bar{i:02}={i:02}");
    let header = (1..=32).map(member).collect::<Vec<_>>().join(",");
    assert_eq!(state(&[&header]), Some(header.clone()));
    assert_eq!(state(&[&header, "bar33=33"]), None);
}

#[test]
fn at_least_512_characters_of_tracestate_are_passed_on() {
    let header =
        (0..8).map(|i| format!("key{i}={}", "v".repeat(100))).collect::<Vec<_>>().join(",");
    assert!(header.len() > 512);
    assert_eq!(state(&[&header]), Some(header.clone()));
}

#[test]
fn a_huge_tracestate_is_cut_at_a_member() {
    let header =
        (0..30).map(|i| format!("key{i:02}={}", "v".repeat(256))).collect::<Vec<_>>().join(",");
    let huge = format!("{header},last={}", "x".repeat(64 * 1024));
    assert_eq!(state(&[&huge]), Some(header));
}

proptest! {
    #[test]
    fn any_span_context_survives_the_headers(
        trace_id in 1u128..,
        span_id in 1u64..,
        flags in 0u8..4,
        members in prop::collection::btree_map(
            "[a-z][a-z0-9_*/-]{0,20}(@[a-z][a-z0-9_-]{0,12})?", "[!-+.-<>-~]{1,30}", 0..10),
    ) {
        let members: Vec<_> = members.into_iter().filter(|(key, _)| key != "sw").collect();
        let trace_state = TraceState::from_key_value(members).map_err(|error| {
            TestCaseError::fail(error.to_string())
        })?;
        let span_context = SpanContext::new(
            TraceId::from(trace_id),
            SpanId::from(span_id),
            TraceFlags::new(flags),
            true,
            trace_state,
        );
        let cx = Context::new().with_remote_span_context(span_context.clone());
        let mut carrier = HashMap::new();
        inject(&cx, State::Sent { caller: None }, &mut carrier);
        prop_assert_eq!(
            extract(&carrier),
            Extracted { span_context: Some(span_context), malformed: 0 }
        );
    }

    #[test]
    fn arbitrary_text_never_panics(parent in ".*", state in ".*") {
        if let Ok(parsed) = parse_traceparent(&parent) {
            prop_assert!(parsed.trace_id != TraceId::INVALID);
        }
        if let Ok(parsed) = parse_tracestate([state.as_str()]) {
            prop_assert!((&parsed).into_iter().count() <= MAX_MEMBERS);
        }
    }

    #[test]
    fn nearly_right_text_never_panics(parent in "[0-9a-f+é-]{50,60}", state in "[a-z@=, é]*") {
        let carrier = HashMap::from([
            (TRACEPARENT.to_owned(), parent),
            (TRACESTATE.to_owned(), state),
        ]);
        if let Some(span) = extract(&carrier).span_context {
            prop_assert!(span.is_valid());
        }
    }
}
