//! Writing protobuf's wire format.
//!
//! Tags are single bytes: no field of OTLP's trace messages that is written here has a number
//! above 15, save `Span.flags` (16), whose tag the caller writes as two bytes.

/// The wire type of a field, as the low bits of its tag have it.
pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const FIXED32: u8 = 5;

/// The tag of field `number` with wire type `kind`. `number` is at most 15.
pub(crate) const fn tag(number: u8, kind: u8) -> u8 {
    (number << 3) | kind
}

pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The number of bytes that [`varint`] writes.
pub(crate) const fn varint_len(value: u64) -> usize {
    (63 - (value | 1).leading_zeros() as usize) / 7 + 1
}

/// The size of a field of bytes, tag and length included.
pub(crate) const fn field_len(content: usize) -> usize {
    1 + varint_len(content as u64) + content
}

/// A field of bytes or text. Written even when it is empty.
pub(crate) fn bytes(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    if content.len() < 0x80 {
        // The usual case, as one write of known size.
        out.extend_from_slice(&[tag, content.len() as u8]);
    } else {
        out.push(tag);
        varint(out, content.len() as u64);
    }
    out.extend_from_slice(content);
}

/// A field of text, left out when it is empty.
pub(crate) fn text(out: &mut Vec<u8>, tag: u8, content: &str) {
    if !content.is_empty() {
        bytes(out, tag, content.as_bytes());
    }
}

/// A varint field, left out when it is zero.
pub(crate) fn number(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        out.push(tag);
        varint(out, value);
    }
}

/// A fixed64 field, left out when it is zero.
pub(crate) fn fixed64(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        out.push(tag);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// A nested message, written in place. `RESERVED` bytes are kept free for its length; where that
/// guess was wrong the content moves, so guess what is usual.
pub(crate) fn nested<const RESERVED: usize>(
    out: &mut Vec<u8>,
    tag: u8,
    write: impl FnOnce(&mut Vec<u8>),
) {
    out.push(tag);
    let head = out.len();
    out.extend_from_slice(&[0; RESERVED]);
    write(out);
    let len = out.len() - head - RESERVED;
    let width = varint_len(len as u64);
    if width > RESERVED {
        let end = out.len();
        out.resize(end + width - RESERVED, 0);
        out.copy_within(head + RESERVED..end, head + width);
    } else if width < RESERVED {
        out.copy_within(head + RESERVED.., head + width);
        out.truncate(head + width + len);
    }
    let mut rest = len as u64;
    for byte in out.iter_mut().skip(head).take(width) {
        *byte = (rest & 0x7f) as u8 | 0x80;
        rest >>= 7;
        if rest == 0 {
            *byte &= 0x7f;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_varint_is_known_before_it_is_written() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
            }
        }
    }

    #[test]
    fn a_nested_message_has_a_minimal_length_whatever_was_reserved() {
        for len in [0usize, 1, 127, 128, 16_383, 16_384, 300_000] {
            let content = vec![7; len];
            let mut expected = Vec::new();
            bytes(&mut expected, 0x0a, &content);
            let mut one = Vec::new();
            nested::<1>(&mut one, 0x0a, |out| out.extend_from_slice(&content));
            let mut two = Vec::new();
            nested::<2>(&mut two, 0x0a, |out| out.extend_from_slice(&content));
            assert!(one == expected && two == expected, "{len}");
        }
    }
}
