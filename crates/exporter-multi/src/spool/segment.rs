//! The layout of a segment, and what recovery makes of one. Pure.
//!
//! A segment is a file `<number, 16 hex digits>.seg`: `SWSEG001`, the number, then
//! [records](super::record).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::record::scan;

/// The length of a segment's head.
pub(crate) const HEAD: u64 = 16;
const MAGIC: &[u8; 8] = b"SWSEG001";

/// What is known of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The end of the last whole record.
    pub(crate) len: u64,
    /// When the newest record was written, nanoseconds since the Unix epoch.
    pub(crate) newest: u64,
    /// Spans by stream.
    pub(crate) spans: BTreeMap<u32, u64>,
    /// How old the newest record was at some point of monotonic time. The wall clock has a say
    /// only when a log is taken over: a jump of it must not make a living log old.
    pub(crate) aged: Option<(Instant, Duration)>,
}

impl Segment {
    /// Whether the newest record is older than `limit`.
    pub(crate) fn is_older(&self, limit: Duration, now: Instant) -> bool {
        self.aged
            .is_some_and(|(at, age)| age.saturating_add(now.saturating_duration_since(at)) > limit)
    }

    pub(crate) fn spans_of(&self, stream: u32) -> u64 {
        self.spans.get(&stream).copied().unwrap_or(0)
    }
}

/// The first bytes of a segment.
pub(crate) fn head(number: u64) -> [u8; HEAD as usize] {
    let mut head = [0; HEAD as usize];
    let (magic, rest) = head.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    rest.copy_from_slice(&number.to_le_bytes());
    head
}

pub(crate) fn name(number: u64) -> String {
    format!("{number:016x}.seg")
}

/// The number in a segment's name.
pub(crate) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let plain = digits.len() == 16
        && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    plain.then(|| u64::from_str_radix(digits, 16).ok())?
}

/// A segment as it was found.
pub(crate) struct Recovered {
    pub(crate) segment: Segment,
    /// The end of each record, its stream and its spans.
    records: Vec<(u64, u32, u64)>,
}

impl Recovered {
    /// Reads a segment. `None` where there is nothing of one. A bad record is skipped, and counted
    /// by the reader. The `last` segment of a log may end inside a record, where the process was
    /// stopped in the middle of a write: that one was never accepted.
    pub(crate) fn read(bytes: &[u8], number: u64, last: bool) -> Option<Self> {
        let mut segment = Segment { len: HEAD, ..Segment::default() };
        let mut records = Vec::new();
        for found in scan(bytes, HEAD as usize) {
            if found.range.end > bytes.len() && last {
                break;
            }
            let (stream, spans) = (found.header.stream, u64::from(found.header.spans));
            let end = found.range.end.min(bytes.len()) as u64;
            segment.len = end;
            segment.newest = segment.newest.max(found.header.time);
            *segment.spans.entry(stream).or_default() += spans;
            records.push((end, stream, spans));
        }
        // A file that ends inside its head was being made when the process ended.
        let is_begun = bytes.len() < HEAD as usize;
        if records.is_empty() && !is_begun && !bytes.starts_with(&head(number)) {
            return None;
        }
        Some(Self { segment, records })
    }

    /// Spans of a stream in records that end at `offset` or before it.
    pub(crate) fn spans_before(&self, stream: u32, offset: u64) -> u64 {
        let before = self.records.iter().filter(|(end, of, _)| *end <= offset && *of == stream);
        before.map(|(_, _, spans)| spans).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Header;
    use super::*;
    use crate::lane::Form;

    fn segment(records: usize) -> Vec<u8> {
        let mut bytes = head(5).to_vec();
        for number in 0..records {
            let payload = vec![number as u8; 20];
            let header = Header::of(Form::Protobuf, &payload, 2, 7, number as u64).unwrap();
            bytes.extend(header.to_bytes());
            bytes.extend(payload);
        }
        bytes
    }

    #[test]
    fn the_last_segment_ends_where_its_last_write_was_cut() {
        let mut bytes = segment(4);
        let second = HEAD as usize + 52;
        bytes[second + 40] ^= 1;
        bytes.truncate(bytes.len() - 3);
        let last = Recovered::read(&bytes, 5, true).unwrap();
        assert_eq!((last.segment.len, last.segment.spans_of(7)), (HEAD + 3 * 52, 6));
        assert_eq!(last.segment.newest, 2);
        let inner = Recovered::read(&bytes, 5, false).unwrap();
        assert_eq!((inner.segment.len, inner.segment.spans_of(7)), (bytes.len() as u64, 8));
        assert_eq!(inner.spans_before(7, second as u64), 2);
    }

    #[test]
    fn a_damaged_head_costs_no_record() {
        let mut bytes = segment(2);
        bytes[3] ^= 1;
        assert_eq!(Recovered::read(&bytes, 5, true).unwrap().segment.spans_of(7), 4);
    }

    #[test]
    fn what_is_no_segment_is_none() {
        assert!(Recovered::read(b"", 5, true).is_some(), "a process ended when it made it");
        assert!(Recovered::read(&segment(0), 6, true).is_none());
        assert!(Recovered::read(&segment(0), 5, true).is_some());
        assert_eq!(number(&name(0x1f)), Some(0x1f));
        assert_eq!(
            (number("1f.seg"), number("+00000000000001f.seg"), number("lock")),
            (None, None, None)
        );
    }
}
