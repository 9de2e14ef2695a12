//! Lists of `key=value`, percent-encoded, as resources and headers use them.

/// Why a member of a list is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberError {
    /// There is no `=`.
    NoValue,
    /// Nothing stands in front of the `=`.
    NoKey,
    /// A `%` without two hexadecimal digits, or bytes that are not UTF-8.
    Encoding,
}

impl MemberError {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NoValue => "has no '='",
            Self::NoKey => "has no key",
            Self::Encoding => "is not percent-encoded UTF-8",
        }
    }
}

/// The members of `text`, in order; empty ones (`a=1,,b=2`) are skipped.
pub(crate) fn members(text: &str) -> impl Iterator<Item = Result<(String, String), MemberError>> {
    text.split(',').map(str::trim).filter(|member| !member.is_empty()).map(member)
}

fn member(text: &str) -> Result<(String, String), MemberError> {
    let (key, value) = text.split_once('=').ok_or(MemberError::NoValue)?;
    let key = decode(key.trim()).ok_or(MemberError::Encoding)?;
    let value = decode(value.trim()).ok_or(MemberError::Encoding)?;
    if key.is_empty() { Err(MemberError::NoKey) } else { Ok((key, value)) }
}

/// Decodes `%41`; a plus sign stays a plus sign.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Result<(String, String), MemberError>> {
        members(text).collect()
    }

    #[test]
    fn members_are_trimmed_and_decoded() {
        let expected = [("a", "1 2"), ("b", "x=y"), ("c", ""), ("d", "+ü,")];
        let expected: Vec<_> =
            expected.map(|(key, value)| Ok((key.to_owned(), value.to_owned()))).into();
        assert_eq!(all(" a = 1%202 ,,b=x=y, c=,d=+%C3%bc%2C,"), expected);
    }

    #[test]
    fn a_broken_member_does_not_hide_the_others() {
        use MemberError::{Encoding, NoKey, NoValue};
        let found: Vec<_> =
            all("x,=1,a=%4,b=%zz,c=%ff,d=%+1,e=5").into_iter().map(Result::err).collect();
        let bad = |error| Some(error);
        assert_eq!(
            found,
            [
                bad(NoValue),
                bad(NoKey),
                bad(Encoding),
                bad(Encoding),
                bad(Encoding),
                bad(Encoding),
                None
            ]
        );
    }
}
