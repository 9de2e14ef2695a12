//! Small text codecs, and text that must not tell secrets.

/// An endpoint without user information and query, for logs and `Debug`. Works on text that is
/// no URL, too.
pub(crate) fn redact(endpoint: &str) -> String {
    let (scheme, rest) = match endpoint.find("://") {
        Some(position) => endpoint.split_at(position + 3),
        None => ("", endpoint),
    };
    let (rest, query) = match rest.find(['?', '#']) {
        Some(position) => (rest.get(..position).unwrap_or_default(), "?[masked]"),
        None => (rest, ""),
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}[masked]@{host}{query}"),
        None => format!("{scheme}{rest}{query}"),
    }
}

/// Text of a backend, fit for a log line: short, without control characters.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 200;
    text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Percent-decoding; what is no valid escape stays as it is.
pub(crate) fn percent_decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 (RFC 4648) with padding.
pub(crate) fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .chain(&[0, 0])
            .take(3)
            .fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        for position in 0..4 {
            let digit = word >> (18 - 6 * position) & 0x3f;
            let digit = ALPHABET.get(digit as usize).copied().unwrap_or(b'=');
            out.push(if position <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// Base64 (RFC 4648), with or without padding, as gRPC's `-bin` headers have it.
pub(crate) fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut word, mut bits) = (0u32, 0u32);
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|known| *known == byte)?;
        word = word << 6 | u32::try_from(digit).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits & 0xff) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn credentials_of_an_endpoint_are_not_shown() {
        for (endpoint, shown) in [
            ("http://host:4318/v1", "http://host:4318/v1"),
            ("https://user:s3cret@host/v1?key=s3cret", "https://[masked]@host/v1?[masked]"),
            ("user:s3cret@host", "[masked]@host"),
            ("http://a:s3/cret@b@host", "http://[masked]@host"),
            ("", ""),
        ] {
            assert_eq!(redact(endpoint), shown);
        }
    }

    #[test]
    fn percent_escapes_are_decoded() {
        assert_eq!(percent_decode("a%20b%zz%4"), b"a b%zz%4");
    }

    #[test]
    fn base64_is_the_known_one() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("user:pass", "dXNlcjpwYXNz"),
        ] {
            assert_eq!(base64_encode(plain.as_bytes()), text);
        }
        assert_eq!(base64_decode("a*"), None);
    }

    proptest! {
        #[test]
        fn base64_reads_back_with_and_without_padding(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let text = base64_encode(&bytes);
            prop_assert_eq!(base64_decode(text.trim_end_matches('=')), Some(bytes.clone()));
            prop_assert_eq!(base64_decode(&text), Some(bytes));
        }
    }
}
