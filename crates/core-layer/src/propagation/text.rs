//! The small pieces that all header formats share: hex, percent-encoding and comma lists.
//!
//! Everything here takes foreign text: nothing indexes, nothing panics, and the work done is
//! bounded by the budget that the caller passes.

use std::borrow::Cow;

/// A header that does not follow its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The value of lower-case hex digits, or `None` for anything else. At most 32 digits.
///
/// `from_str_radix` is not used for foreign ids: it takes `+1`, upper case and any length.
pub(super) fn lower_hex(digits: &str) -> Option<u128> {
    hex(digits, |byte| !byte.is_ascii_uppercase())
}

/// As [`lower_hex`], but upper-case digits are fine too.
pub(super) fn any_hex(digits: &str) -> Option<u128> {
    hex(digits, |_| true)
}

fn hex(digits: &str, allowed: impl Fn(u8) -> bool) -> Option<u128> {
    if digits.is_empty() || digits.len() > 32 {
        return None;
    }
    digits.bytes().try_fold(0u128, |value, byte| {
        let digit = char::from(byte).to_digit(16).filter(|_| allowed(byte))?;
        Some(value << 4 | u128::from(digit))
    })
}

/// Trims the optional white space (space and tab) of HTTP lists.
pub(super) fn trim_ows(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Decodes `%XX`; `+` stays `+`. An escape that is none stays as it is, and bytes that are not
/// UTF-8 become U+FFFD. The result is never longer than the input.
pub(super) fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if let (b'%', [high, low, after @ ..]) = (*first, tail)
            && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
        {
            bytes.push(high << 4 | low);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    Cow::Owned(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Appends `text`, every byte that is not kept as `%XX`.
pub(super) fn percent_encode(out: &mut String, text: &str, keep: impl Fn(u8) -> bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii() && keep(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for nibble in [byte >> 4, byte & 15] {
                out.push(char::from(DIGITS[usize::from(nibble)]));
            }
        }
    }
}

/// The unreserved characters of RFC 3986: no reader takes them for anything else.
pub(super) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~')
}

/// The characters of a `token` (RFC 7230, section 3.2.6).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The members of a comma list over several header lines, untrimmed, as far as `budget` bytes
/// reach (commas and white space count). A member that the budget would cut is left out, with
/// all that follow it.
pub(super) fn list_members<'a, L>(lines: L, budget: usize) -> ListMembers<'a, L::IntoIter>
where
    L: IntoIterator<Item = &'a str>,
{
    ListMembers { lines: lines.into_iter(), line: None, budget }
}

pub(super) struct ListMembers<'a, L> {
    lines: L,
    line: Option<&'a str>,
    budget: usize,
}

impl<'a, L: Iterator<Item = &'a str>> Iterator for ListMembers<'a, L> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.budget == 0 {
            return None;
        }
        let line = match self.line.take() {
            Some(line) => line,
            None => self.lines.next()?,
        };
        // A comma is ASCII, so that the text can be cut there.
        let comma = line.bytes().take(self.budget + 1).position(|byte| byte == b',');
        let (member, rest) = match comma {
            Some(comma) => {
                let (member, rest) = line.split_at(comma);
                (member, rest.get(1..))
            }
            None => (line, None),
        };
        if member.len() > self.budget {
            self.budget = 0;
            return None;
        }
        self.budget = self.budget.saturating_sub(member.len() + 1);
        self.line = rest;
        Some(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hex_takes_digits_only() {
        assert_eq!(lower_hex("0a"), Some(10));
        assert_eq!(lower_hex(&"f".repeat(32)), Some(u128::MAX));
        for bad in ["", "+1", "-1", "0A", "0x1", " 1", "g", "é", &"0".repeat(33)] {
            assert_eq!(lower_hex(bad), None, "{bad:?}");
        }
        assert_eq!(any_hex("0A"), Some(10));
    }

    #[test]
    fn percent_decoding_keeps_plus_and_broken_escapes() {
        assert_eq!(percent_decode("a+b"), "a+b");
        assert_eq!(percent_decode("%41%c3%A4"), "Aä");
        assert_eq!(percent_decode("100%"), "100%");
        assert_eq!(percent_decode("%4"), "%4");
        assert_eq!(percent_decode("%zz%41"), "%zzA");
        assert_eq!(percent_decode("%ff"), "\u{fffd}");
    }

    #[test]
    fn list_members_never_cut_a_member() {
        let members = |lines: &[&'static str], budget| {
            list_members(lines.iter().copied(), budget).collect::<Vec<_>>()
        };
        assert_eq!(members(&["ab,cd", "ef"], 100), ["ab", "cd", "ef"]);
        assert_eq!(members(&["ab,cd", "ef"], 8), ["ab", "cd", "ef"]);
        assert_eq!(members(&["ab,cd", "ef"], 7), ["ab", "cd"]);
        assert_eq!(members(&["ab,cd", "ef"], 4), ["ab"]);
        assert_eq!(members(&["ab,,"], 100), ["ab", "", ""]);
        assert_eq!(members(&["abc"], 2), [""; 0]);
    }

    proptest! {
        #[test]
        fn encoded_text_decodes_to_itself(text in ".*") {
            let mut encoded = String::new();
            percent_encode(&mut encoded, &text, is_unreserved);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(percent_decode(&encoded), text);
        }

        #[test]
        fn decoding_never_grows(text in "(%[0-9a-fA-F]{0,2}|.){0,64}") {
            prop_assert!(percent_decode(&text).len() <= text.len());
        }

        #[test]
        fn list_members_stay_within_their_budget(
            lines in prop::collection::vec("[a-zé, ]{0,40}", 0..20),
            budget in 0usize..200,
        ) {
            let lines = lines.iter().map(String::as_str);
            let whole: Vec<_> = lines.clone().flat_map(|line| line.split(',')).collect();
            let read: Vec<_> = list_members(lines, budget).collect();
            prop_assert_eq!(&read[..], &whole[..read.len()]);
            let bytes: usize = read.iter().map(|member| member.len() + 1).sum();
            prop_assert!(bytes <= budget + 1);
        }
    }
}
