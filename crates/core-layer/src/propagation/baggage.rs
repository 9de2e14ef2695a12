//! W3C Baggage: the header `baggage`.
//!
//! <https://www.w3.org/TR/baggage/>
//!
//! 64 members and 8192 bytes are honoured, counted over all lines of the header (white space and
//! commas included), never part of a member. A member that breaks the grammar is left out alone.
//! Of a key that comes twice the last value stands. Values are percent-encoded; `+` is a plus.
//! Properties are kept as they came, as the entry's metadata.

use std::sync::LazyLock;

use opentelemetry::Context;
use opentelemetry::baggage::{Baggage, BaggageExt};
use opentelemetry::propagation::{Extractor, Injector};

use super::text::{
    is_token, is_unreserved, list_members, percent_decode, percent_encode, trim_ows,
};

pub(super) const BAGGAGE: &str = "baggage";
pub(super) static FIELDS: LazyLock<[String; 1]> = LazyLock::new(|| [BAGGAGE.to_owned()]);

/// The specification's limits.
pub(super) const MAX_MEMBERS: usize = 64;
pub(super) const MAX_BYTES: usize = 8192;

/// Writes the baggage of `cx`, if it has any.
pub(super) fn inject(cx: &Context, injector: &mut dyn Injector) {
    let header = format(cx.baggage());
    if !header.is_empty() {
        injector.set(BAGGAGE, header);
    }
}

/// The context with the header's baggage in place of its own; unchanged where the header is
/// absent or holds nothing legal.
pub(super) fn extract(cx: &Context, extractor: &dyn Extractor) -> Context {
    let baggage = parse(extractor.get_all(BAGGAGE).unwrap_or_default());
    if baggage.is_empty() { cx.clone() } else { cx.with_baggage(baggage) }
}

fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Baggage {
    let mut baggage = Baggage::new();
    list_members(lines, MAX_BYTES).filter_map(parse_member).take(MAX_MEMBERS).for_each(
        |(key, value, properties)| {
            baggage.insert_with_metadata(
                key.to_owned(),
                percent_decode(value).into_owned(),
                properties,
            );
        },
    );
    baggage
}

/// `key OWS "=" OWS value *( OWS ";" OWS property )`, the properties not taken apart.
fn parse_member(member: &str) -> Option<(&str, &str, &str)> {
    let (pair, properties) = match member.split_once(';') {
        Some((pair, properties)) => (pair, trim_ows(properties)),
        None => (member, ""),
    };
    let (key, value) = pair.split_once('=')?;
    let (key, value) = (trim_ows(key), trim_ows(value));
    let legal = !key.is_empty()
        && key.bytes().all(is_token)
        && value.bytes().all(is_octet)
        && are_properties(properties);
    legal.then_some((key, value, properties))
}

/// What may stand in a value: printable ASCII without white space, `"`, `,`, `;` and `\`.
fn is_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\')
}

fn are_properties(properties: &str) -> bool {
    properties.bytes().all(|byte| is_octet(byte) || matches!(byte, b';' | b' ' | b'\t'))
}

fn format(baggage: &Baggage) -> String {
    // In the order of the keys, so that the same members are left out each time.
    let mut entries: Vec<_> = baggage.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| key.as_str());
    let mut header = String::new();
    for (key, (value, metadata)) in entries.into_iter().take(MAX_MEMBERS) {
        let before = header.len();
        if before > 0 {
            header.push(',');
        }
        header.push_str(key.as_str());
        header.push('=');
        percent_encode(&mut header, value.as_str(), is_unreserved);
        let properties = metadata.as_str();
        if !properties.is_empty() && are_properties(properties) {
            header.push(';');
            header.push_str(properties);
        }
        if header.len() > MAX_BYTES {
            header.truncate(before);
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;

    use super::*;

    fn entries(lines: &[&str]) -> Vec<(String, String, String)> {
        let baggage = parse(lines.iter().copied());
        let mut entries: Vec<_> = baggage
            .iter()
            .map(|(key, (value, metadata))| {
                (key.to_string(), value.to_string(), metadata.to_string())
            })
            .collect();
        entries.sort();
        entries
    }

    fn entry(key: &str, value: &str, metadata: &str) -> (String, String, String) {
        (key.to_owned(), value.to_owned(), metadata.to_owned())
    }

    /// The cases of the W3C baggage test-suite.
    #[test]
    fn members_are_read_as_the_w3c_suite_says() {
        let cases: &[(&[&str], &[_])] = &[
            (&["SomeKey=SomeValue"], &[entry("SomeKey", "SomeValue", "")]),
            (
                &["a=1;SomeProp,b=2;ValueProp=PropVal"],
                &[entry("a", "1", "SomeProp"), entry("b", "2", "ValueProp=PropVal")],
            ),
            (
                &["a \t = \t 1 \t ; \t p \t , \t b \t = \t 2"],
                &[entry("a", "1", "p"), entry("b", "2", "")],
            ),
            (&["k=SomeValue=equals"], &[entry("k", "SomeValue=equals", "")]),
            (
                &["k=%09%20%22%27%3B%3Dasdf%21%40%23%24%25%5E%26%2A%28%29"],
                &[entry("k", "\t \"';=asdf!@#$%^&*()", "")],
            ),
            (
                &["userId=alice", "serverNode=DF%2028,isProduction=false"],
                &[
                    entry("isProduction", "false", ""),
                    entry("serverNode", "DF 28", ""),
                    entry("userId", "alice", ""),
                ],
            ),
            (&["k=a+b"], &[entry("k", "a+b", "")]),
            (&["k=%ff%41"], &[entry("k", "\u{fffd}A", "")]),
            (&["k="], &[entry("k", "", "")]),
            (&["k=1,k=2"], &[entry("k", "2", "")]),
        ];
        for (lines, expected) in cases {
            assert_eq!(&entries(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_broken_member_is_left_out_alone() {
        for broken in ["novalue", "=1", "b ad=1", "k=a b", "k=\"q\"", "k=ä", "k=1;p\r\nx: y", ""] {
            let header = format!("a=1,{broken},b=2");
            assert_eq!(
                entries(&[&header]),
                [entry("a", "1", ""), entry("b", "2", "")],
                "{broken:?}"
            );
        }
    }

    #[test]
    fn sixty_four_members_are_honoured_over_all_lines() {
        let lines: Vec<_> = (0..1000).map(|i| format!("k{i:03}=v")).collect();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let read = entries(&lines);
        assert_eq!(read.len(), 64);
        assert_eq!(read[63].0, "k063");
        let repeated: Vec<_> = (0..70).map(|i| format!("k={i}")).collect();
        assert_eq!(entries(&[&repeated.join(",")]), [entry("k", "63", "")]);
    }

    #[test]
    fn exactly_8192_bytes_are_honoured_and_never_part_of_a_member() {
        let longest = format!("a={}", "0".repeat(8190));
        assert_eq!(entries(&[&longest])[0].1.len(), 8190);
        assert!(entries(&[&format!("{longest}0")]).is_empty());
        let huge = format!("a=1,b={}", "x".repeat(1024 * 1024));
        assert_eq!(entries(&[&huge]), [entry("a", "1", "")]);
    }

    #[test]
    fn what_is_written_stays_within_the_limits() {
        let mut baggage = Baggage::new();
        for i in 0..60 {
            baggage.insert(format!("k{i:02}"), "ä".repeat(50));
        }
        let header = format(&baggage);
        assert!(header.len() <= MAX_BYTES);
        let read = entries(&[&header]);
        assert_eq!(read.len(), 8192 / (300 + 5));
        assert!(read.iter().all(|(_, value, _)| *value == "ä".repeat(50)));
    }

    #[test]
    fn metadata_cannot_break_out_of_its_member() {
        let mut baggage = Baggage::new();
        baggage.insert_with_metadata("a", "1", "p=1,evil=2");
        baggage.insert_with_metadata("b", "2", "p\r\nx: y");
        baggage.insert_with_metadata("c", "3", "fine;k=v");
        assert_eq!(format(&baggage), "a=1,b=2,c=3;fine;k=v");
    }

    #[test]
    fn an_absent_or_empty_header_keeps_the_baggage_of_the_context() {
        let cx = Context::new().with_baggage([opentelemetry::KeyValue::new("a", "1")]);
        let mut carrier = HashMap::new();
        assert_eq!(extract(&cx, &carrier).baggage().len(), 1);
        carrier.insert(BAGGAGE.to_owned(), ", ,".to_owned());
        assert_eq!(extract(&cx, &carrier).baggage().len(), 1);
    }

    proptest! {
        #[test]
        fn any_baggage_survives_the_header(
            members in prop::collection::btree_map("[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,10}", ".{0,10}", 0..20),
        ) {
            let mut baggage = Baggage::new();
            for (key, value) in &members {
                baggage.insert(key.clone(), value.clone());
            }
            let cx = Context::new().with_baggage(baggage);
            let mut carrier = HashMap::new();
            inject(&cx, &mut carrier);
            let read: BTreeMap<_, _> = extract(&Context::new(), &carrier)
                .baggage()
                .iter()
                .map(|(key, (value, _))| (key.to_string(), value.to_string()))
                .collect();
            prop_assert_eq!(read, members);
        }

        #[test]
        fn arbitrary_text_never_panics(lines in prop::collection::vec(".*", 0..4), near in "[a-c=;,% é\t]*") {
            let lines = lines.iter().map(String::as_str).chain([near.as_str()]);
            prop_assert!(parse(lines).len() <= MAX_MEMBERS);
        }
    }
}
