use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; $len]);

        impl $name {
            /// The id in these bytes; `None` where the length is wrong or all bytes are zero, which
            /// the specification calls invalid.
            #[must_use]
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                let bytes = <[u8; $len]>::try_from(bytes).ok()?;
                (bytes != [0; $len]).then_some(Self(bytes))
            }

            /// The bytes in network order.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            /// Reads exactly the form that `Display` writes: lower-case hex, full length, not all zero.
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).and_then(|bytes| Self::from_bytes(&bytes)).ok_or(ParseIdError(()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

id!(
    /// A trace id: 16 bytes, not all zero; printed as 32 lower-case hex digits.
    TraceId,
    16
);
id!(
    /// A span id: 8 bytes, not all zero; printed as 16 lower-case hex digits.
    SpanId,
    8
);

/// The text is not an id in lower-case hex of the full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseIdError(());

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not a trace or span id: lower-case hex digits of the full length, not all zero",
        )
    }
}

impl std::error::Error for ParseIdError {}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    fn nibble(digit: u8) -> Option<u8> {
        match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_and_parses_as_lower_case_hex() {
        let text = "4bf92f3577b34da6a3ce929d0e0e4736";
        let id: TraceId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.as_bytes()[0], 0x4b);
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for bad in [
            "",
            "0",
            "00f067aa0ba902b",
            "00f067aa0ba902b7a",
            "00F067AA0BA902B7",
            "+0f067aa0ba902b7",
            "0000000000000000",
            "00f067aa0ba902bé",
        ] {
            assert!(bad.parse::<SpanId>().is_err(), "{bad:?}");
        }
        assert_eq!(SpanId::from_bytes(&[1; 7]), None);
        assert_eq!(SpanId::from_bytes(&[0; 8]), None);
    }
}
