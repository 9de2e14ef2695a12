//! The layout of a record. Pure.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | `SWR` and the form (`1` protobuf, `2` JSON) |
//! | 4..8 | length of the payload |
//! | 8..12 | spans in it |
//! | 12..16 | stream: the hash of form and policy |
//! | 16..24 | when it was written, nanoseconds since the Unix epoch |
//! | 24..28 | CRC-32 of the payload |
//! | 28..32 | CRC-32 of bytes 0..28 |
//!
//! All integers are little-endian. Behind the header lies the payload: one encoded request, as it
//! is sent.

use std::ops::Range;

use crate::lane::Form;

/// The length of a header.
pub(crate) const HEADER: usize = 32;
/// The longest payload: large single writes tear often.
pub(crate) const LONGEST_PAYLOAD: usize = 1024 * 1024;

const MAGIC: [u8; 3] = *b"SWR";

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) form: Form,
    pub(crate) len: u32,
    pub(crate) spans: u32,
    pub(crate) stream: u32,
    pub(crate) time: u64,
    pub(crate) crc: u32,
}

impl Header {
    /// The header of `payload`; `None` where the payload is too long.
    pub(crate) fn of(
        form: Form,
        payload: &[u8],
        spans: u64,
        stream: u32,
        time: u64,
    ) -> Option<Self> {
        if payload.len() > LONGEST_PAYLOAD {
            return None;
        }
        let (len, spans) = (u32::try_from(payload.len()).ok()?, u32::try_from(spans).ok()?);
        Some(Self { form, len, spans, stream, time, crc: crc32fast::hash(payload) })
    }

    pub(crate) fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let form = match self.form {
            Form::Protobuf => 1,
            Form::Json => 2,
        };
        let fields: [&[u8]; 7] = [
            &[MAGIC[0], MAGIC[1], MAGIC[2], form],
            &self.len.to_le_bytes(),
            &self.spans.to_le_bytes(),
            &self.stream.to_le_bytes(),
            &self.time.to_le_bytes(),
            &self.crc.to_le_bytes(),
            &[],
        ];
        let all = fields.concat();
        bytes[..all.len()].copy_from_slice(&all);
        let crc = crc32fast::hash(&bytes[..HEADER - 4]);
        bytes[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` where the bytes are no intact header.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (bytes, _) = bytes.split_first_chunk::<HEADER>()?;
        let form = match bytes.strip_prefix(&MAGIC)?.first()? {
            1 => Form::Protobuf,
            2 => Form::Json,
            _ => return None,
        };
        let u32_at = |at: usize| {
            bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
        };
        let time = bytes.get(16..24).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes)?;
        if u32_at(28)? != crc32fast::hash(bytes.get(..28)?) {
            return None;
        }
        let header = Self {
            form,
            len: u32_at(4)?,
            spans: u32_at(8)?,
            stream: u32_at(12)?,
            time,
            crc: u32_at(24)?,
        };
        (header.len as usize <= LONGEST_PAYLOAD).then_some(header)
    }

    /// Whether this is the payload that was written.
    pub(crate) fn fits(&self, payload: &[u8]) -> bool {
        payload.len() == self.len as usize && crc32fast::hash(payload) == self.crc
    }

    /// The length of the whole record.
    pub(crate) fn record_len(&self) -> u64 {
        HEADER as u64 + u64::from(self.len)
    }
}

/// A record that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) header: Header,
    /// Where it lies; may reach past the end where the last write was cut off.
    pub(crate) range: Range<usize>,
    /// Whether the payload is whole.
    pub(crate) intact: bool,
}

/// All records with intact headers from `start` on. Whatever lies between them is skipped.
pub(crate) fn scan(bytes: &[u8], start: usize) -> impl Iterator<Item = Found> + '_ {
    let mut at = start;
    std::iter::from_fn(move || {
        let (position, header) = find(bytes, at)?;
        let range = position..position + header.record_len() as usize;
        let payload = bytes.get(position + HEADER..range.end).unwrap_or_default();
        let intact = header.fits(payload);
        at = range.end;
        Some(Found { header, range, intact })
    })
}

/// The first intact header at `from` or behind it.
pub(crate) fn find(bytes: &[u8], from: usize) -> Option<(usize, Header)> {
    let mut at = from;
    loop {
        let rest = bytes.get(at..)?;
        if let Some(header) = Header::parse(rest) {
            return Some((at, header));
        }
        // The next place where one may begin.
        let next = rest.get(1..)?.windows(MAGIC.len()).position(|window| window == MAGIC)?;
        at += 1 + next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(payload: &[u8], stream: u32) -> Vec<u8> {
        let header = Header::of(Form::Protobuf, payload, 3, stream, 7).unwrap();
        [&header.to_bytes()[..], payload].concat()
    }

    #[test]
    fn a_damaged_byte_costs_the_record_that_it_lies_in() {
        let payloads: [&[u8]; 3] = [b"one", b"SWR two", b"three"];
        let mut whole = Vec::new();
        let ends: Vec<usize> = payloads
            .iter()
            .map(|payload| {
                whole.extend(record(payload, 1));
                whole.len()
            })
            .collect();
        assert_eq!(scan(&whole, 0).filter(|found| found.intact).count(), 3);
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 0x41;
            let intact: Vec<usize> = scan(&damaged, 0)
                .filter(|found| found.intact)
                .map(|found| found.range.end)
                .collect();
            let hit = ends.iter().position(|end| position < *end).unwrap();
            let expected: Vec<usize> =
                ends.iter().enumerate().filter(|(at, _)| *at != hit).map(|(_, end)| *end).collect();
            assert_eq!(intact, expected, "byte {position}");
        }
    }

    #[test]
    fn a_payload_that_is_too_long_is_no_record() {
        let payload = vec![0; LONGEST_PAYLOAD + 1];
        assert_eq!(Header::of(Form::Json, &payload, 1, 1, 1), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_scanned_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(scan(&bytes, 0).count() <= bytes.len() / HEADER);
        }

        #[test]
        fn a_cut_log_keeps_the_records_before_the_cut(lengths in proptest::collection::vec(0usize..60, 1..8), cut in any::<prop::sample::Index>()) {
            let mut whole = Vec::new();
            let mut ends = Vec::new();
            for length in lengths {
                whole.extend(record(&vec![b'x'; length], 2));
                ends.push(whole.len());
            }
            let cut = cut.index(whole.len());
            let intact = scan(&whole[..cut], 0).filter(|found| found.intact).count();
            prop_assert_eq!(intact, ends.iter().filter(|end| **end <= cut).count());
        }
    }
}
