//! Open spans by the id that the subscriber gave them.
//!
//! A direct-mapped table of locks: an id has one slot, and what does not fit there goes to a map.
//! Ids of open spans are unique; an id that is used again after its span has closed is told apart
//! by the random span id where it matters (see `ActiveSpan`).

use std::collections::HashMap;
use std::sync::Mutex;

use crate::span::{RawSpan, SpanRecord};
use crate::sync::lock;

/// Number of slots; a power of two. More open spans than this are found through the maps.
const SLOTS: usize = 4096;
/// Number of maps, so that many open spans do not meet at one lock.
const SHARDS: usize = 64;

/// Aligned to a cache line, so that threads do not share one.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot(Mutex<Entry>);

#[derive(Debug, Default)]
struct Entry {
    /// 0 while the slot is free; ids of `tracing` are never 0.
    id: u64,
    span: Option<RawSpan>,
    /// Ids of this slot that are in the map instead.
    overflowed: u32,
}

#[derive(Debug)]
pub(crate) struct SpanTable {
    slots: Box<[Slot]>,
    overflow: Box<[Mutex<HashMap<u64, RawSpan>>]>,
}

impl SpanTable {
    pub(crate) fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
            overflow: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    fn place(id: u64) -> usize {
        // The registry keeps the place of a span in the low bits of its id and the number of its
        // reuse in the high ones: places that are used again meet the same, warm slot. The rest
        // is Fibonacci hashing.
        let id = id & 0xFFFF_FFFF;
        (id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - SLOTS.trailing_zeros())) as usize
    }

    /// Adds a span. One that is there under the same id comes back.
    pub(crate) fn insert(&self, id: u64, span: RawSpan) -> Option<RawSpan> {
        let place = Self::place(id);
        let mut entry = lock(&self.slots[place].0);
        if entry.span.is_none() || entry.id == id {
            entry.id = id;
            return entry.span.replace(span);
        }
        let replaced = lock(&self.overflow[place % SHARDS]).insert(id, span);
        if replaced.is_none() {
            entry.overflowed += 1;
        }
        replaced
    }

    /// Looks at a span. No foreign code may run in `look`.
    pub(crate) fn with<R>(&self, id: u64, look: impl FnOnce(&mut SpanRecord) -> R) -> Option<R> {
        let place = Self::place(id);
        let mut entry = lock(&self.slots[place].0);
        if entry.id == id {
            return entry.span.as_mut().map(|span| look(span));
        }
        if entry.overflowed == 0 {
            return None;
        }
        let mut overflow = lock(&self.overflow[place % SHARDS]);
        drop(entry);
        overflow.get_mut(&id).map(|span| look(span))
    }

    /// Takes a span out.
    pub(crate) fn remove(&self, id: u64) -> Option<RawSpan> {
        let place = Self::place(id);
        let mut entry = lock(&self.slots[place].0);
        if entry.id == id {
            entry.id = 0;
            return entry.span.take();
        }
        if entry.overflowed == 0 {
            return None;
        }
        let removed = lock(&self.overflow[place % SHARDS]).remove(&id);
        if removed.is_some() {
            entry.overflowed -= 1;
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_found_whether_they_fit_the_table_or_not() {
        let table = SpanTable::new();
        let count = 3 * SLOTS as u64;
        for id in 1..=count {
            let mut record = RawSpan::default();
            record.head.thread_id = id;
            assert!(table.insert(id, record).is_none());
        }
        for id in 1..=count {
            assert_eq!(table.with(id, |span| span.head.thread_id), Some(id));
        }
        for id in (1..=count).rev() {
            assert_eq!(table.remove(id).map(|span| span.head.thread_id), Some(id));
            assert!(table.with(id, |_| ()).is_none());
        }
        assert!(table.overflow.iter().all(|map| lock(map).is_empty()));
    }
}
