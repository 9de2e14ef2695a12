//! Recycled span records.

use std::sync::Mutex;

use crate::span::RawSpan;
use crate::sync::lock;

/// Records that wait to be used again. Recycling saves the allocations of a span's buffers.
#[derive(Debug)]
pub(crate) struct RecordPool {
    free: Mutex<Vec<RawSpan>>,
    /// Records above this number are freed; it bounds what a burst leaves behind.
    capacity: usize,
}

impl RecordPool {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { free: Mutex::new(Vec::new()), capacity }
    }

    /// Gives records back.
    pub(crate) fn put(&self, records: impl Iterator<Item = RawSpan>) {
        let mut free = lock(&self.free);
        for record in records {
            if free.len() < self.capacity {
                free.push(record);
            }
        }
    }

    /// Moves up to `count` records to `into`.
    pub(crate) fn take(&self, into: &mut Vec<RawSpan>, count: usize) {
        let mut free = lock(&self.free);
        let keep = free.len().saturating_sub(count);
        into.extend(free.drain(keep..));
    }
}
