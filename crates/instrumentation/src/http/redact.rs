//! What is taken out of URLs: credentials, and the values of signatures (semantic conventions,
//! `url.full` and `url.query`). Keys stay, so that a reader sees that there was one.

use std::borrow::Cow;

const REDACTED: &str = "REDACTED";

/// The query keys whose values are secrets: signatures of AWS, Azure and Google Cloud.
const SECRET_KEYS: [&str; 7] = [
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Goog-Signature",
];

/// A query without its question mark.
pub(crate) fn query(query: &str) -> Cow<'_, str> {
    if !query.split('&').any(is_secret) {
        return Cow::Borrowed(query);
    }
    let mut out = String::with_capacity(query.len());
    for (index, pair) in query.split('&').enumerate() {
        if index > 0 {
            out.push('&');
        }
        match pair.split_once('=') {
            Some((key, _)) if is_secret(pair) => {
                out.push_str(key);
                out.push('=');
                out.push_str(REDACTED);
            }
            _ => out.push_str(pair),
        }
    }
    Cow::Owned(out)
}

/// An absolute URL.
#[cfg(any(feature = "http-client", feature = "reqwest"))]
pub(crate) fn url(url: &str) -> Cow<'_, str> {
    let (before_fragment, fragment) = split_before(url, '#');
    let (address, query_mark) = split_before(before_fragment, '?');
    let clean_address = credentials(address);
    let clean_query = query(query_mark.strip_prefix('?').unwrap_or_default());
    if matches!((&clean_address, &clean_query), (Cow::Borrowed(_), Cow::Borrowed(_))) {
        return Cow::Borrowed(url);
    }
    let mark = if query_mark.is_empty() { "" } else { "?" };
    Cow::Owned(format!("{clean_address}{mark}{clean_query}{fragment}"))
}

/// Replaces `user:password@` in front of the host.
#[cfg(any(feature = "http-client", feature = "reqwest"))]
fn credentials(address: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = address.split_once("://") else {
        return Cow::Borrowed(address);
    };
    let (authority, path) = split_before(rest, '/');
    match authority.rsplit_once('@') {
        Some((_, host)) => Cow::Owned(format!("{scheme}://{REDACTED}:{REDACTED}@{host}{path}")),
        None => Cow::Borrowed(address),
    }
}

/// Splits in front of the first `mark`, which stays with the second half.
#[cfg(any(feature = "http-client", feature = "reqwest"))]
fn split_before(text: &str, mark: char) -> (&str, &str) {
    text.split_at(text.find(mark).unwrap_or(text.len()))
}

fn is_secret(pair: &str) -> bool {
    pair.split_once('=')
        .is_some_and(|(key, _)| SECRET_KEYS.iter().any(|secret| decodes_to(key, secret)))
}

/// Whether `encoded` is `plain` after percent-decoding; an escaped letter must not hide a key.
fn decodes_to(encoded: &str, plain: &str) -> bool {
    let mut rest = encoded.as_bytes();
    for expected in plain.bytes() {
        let byte = match rest {
            [b'%', high, low, tail @ ..] => {
                rest = tail;
                hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low)
            }
            [byte, tail @ ..] => {
                rest = tail;
                Some(*byte)
            }
            [] => None,
        };
        if byte != Some(expected) {
            return false;
        }
    }
    rest.is_empty()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_signatures_are_replaced_and_their_keys_stay() {
        let table = [
            ("a=1&b=2", "a=1&b=2"),
            ("sig=abc", "sig=REDACTED"),
            ("a=1&sig=abc&b=2", "a=1&sig=REDACTED&b=2"),
            ("X-Amz-Signature=x&X-Amz-Date=1", "X-Amz-Signature=REDACTED&X-Amz-Date=1"),
            ("X-Amz-Credential=x", "X-Amz-Credential=REDACTED"),
            ("X-Amz-Security-Token=x", "X-Amz-Security-Token=REDACTED"),
            ("AWSAccessKeyId=x", "AWSAccessKeyId=REDACTED"),
            ("Signature=x=y==", "Signature=REDACTED"),
            ("X-Goog-Signature=x", "X-Goog-Signature=REDACTED"),
            ("s%69g=abc", "s%69g=REDACTED"),
            ("signal=abc&sign=1", "signal=abc&sign=1"),
            ("sig", "sig"),
            ("", ""),
            ("&&=&%&%4&%zz=1", "&&=&%&%4&%zz=1"),
        ];
        for (input, expected) in table {
            assert_eq!(query(input), expected, "{input}");
        }
    }

    #[cfg(any(feature = "http-client", feature = "reqwest"))]
    #[test]
    fn credentials_in_urls_are_replaced() {
        let table = [
            ("https://h/p?q=1#f", "https://h/p?q=1#f"),
            ("https://u:p@h:1/p", "https://REDACTED:REDACTED@h:1/p"),
            ("https://u@h", "https://REDACTED:REDACTED@h"),
            ("https://u:p%40@h/a@b", "https://REDACTED:REDACTED@h/a@b"),
            ("https://h/a?mail=a@b", "https://h/a?mail=a@b"),
            ("https://h?sig=x#sig=y", "https://h?sig=REDACTED#sig=y"),
            ("https://u:p@h/?sig=x&a=b", "https://REDACTED:REDACTED@h/?sig=REDACTED&a=b"),
            ("not a url", "not a url"),
        ];
        for (input, expected) in table {
            assert_eq!(url(input), expected, "{input}");
        }
    }
}
