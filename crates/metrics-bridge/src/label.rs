//! Label names and values: masked, harmless on a terminal, bounded.

use std::sync::Arc;

use spanweave_core::masking::Masker;

/// Raw text is cut to so many bytes before it is hashed and masked, which bounds the work on the
/// application's thread.
const MAX_RAW_BYTES: usize = 4_096;

/// A value is cut to so many characters. Longer ones are not names of operations.
const MAX_CHARS: usize = 200;

/// The value of a label as it may be kept and shown; `key` is what it is of the span.
pub(crate) fn value(masker: &Masker, key: &str, raw: &str) -> Arc<str> {
    harmless(&masker.mask_value(key, significant(raw))).into()
}

/// As much of a raw value as is looked at.
#[inline]
pub(crate) fn significant(raw: &str) -> &str {
    prefix(raw, MAX_RAW_BYTES)
}

/// Cuts `text`, and replaces control characters but line feeds (which every reader has to know as
/// `\n`): an escape sequence in a name must not reach a terminal.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .take(MAX_CHARS)
        .map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// The longest prefix of at most `bytes` bytes that ends between characters.
fn prefix(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// An attribute key as a label name (`[a-zA-Z_][a-zA-Z0-9_]*`).
pub(crate) fn name(key: &str) -> String {
    let mut name: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    // Names that begin with two underscores are Prometheus's own.
    while name.starts_with("__") {
        name.remove(0);
    }
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_line_feeds_and_loses_other_control_characters() {
        assert_eq!(harmless("a\nb\x1b[31m\r\u{9b}"), "a\nb\u{fffd}[31m\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_value_of_any_length_is_cut_between_characters() {
        let long = "é".repeat(5_000_000);
        assert_eq!(value(&Masker::default(), "name", &long).chars().count(), MAX_CHARS);
        assert_eq!(prefix("éé", 3), "é");
    }

    #[test]
    fn any_key_becomes_a_valid_label_name() {
        assert_eq!(name("http.request.method"), "http_request_method");
        assert_eq!(name("9lives"), "_9lives");
        assert_eq!(name("__name__"), "_name__");
        assert_eq!(name(""), "_");
    }
}
