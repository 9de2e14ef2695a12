//! When a batch is complete. Pure: time is passed in.

use std::time::Duration;

use super::config::BatchConfig;
use crate::clock::MonotonicNanos;

/// The most items for which room is made at once.
const RESERVED: usize = 4096;

/// Collects items until there are enough of them or the oldest has waited long enough.
#[derive(Debug)]
pub(crate) struct Batcher<T> {
    items: Vec<T>,
    /// When the oldest item came. Invariant: `Some` exactly while `items` is not empty.
    since: Option<MonotonicNanos>,
    delay: u64,
    max: usize,
}

impl<T> Batcher<T> {
    pub(crate) fn new(config: BatchConfig) -> Self {
        let delay = u64::try_from(config.delay.as_nanos()).unwrap_or(u64::MAX);
        Self { items: Vec::new(), since: None, delay, max: config.max_spans.max(1) }
    }

    /// Adds an item; the batch, if it is complete now.
    pub(crate) fn push(&mut self, now: MonotonicNanos, item: T) -> Option<Vec<T>> {
        if self.items.is_empty() {
            self.items.reserve_exact(self.max.min(RESERVED));
        }
        self.items.push(item);
        self.since.get_or_insert(now);
        (self.items.len() >= self.max).then(|| self.take()).flatten()
    }

    /// The batch, if its oldest item has waited long enough.
    pub(crate) fn due(&mut self, now: MonotonicNanos) -> Option<Vec<T>> {
        let since = self.since?;
        (now.saturating_sub(since) >= self.delay).then(|| self.take()).flatten()
    }

    /// What is there, if anything is.
    pub(crate) fn take(&mut self) -> Option<Vec<T>> {
        self.since.take()?;
        Some(std::mem::take(&mut self.items))
    }

    /// The number of items that wait.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The time until a batch is due.
    pub(crate) fn wait(&self, now: MonotonicNanos) -> Option<Duration> {
        let due = self.since?.saturating_add(self.delay);
        Some(Duration::from_nanos(due.saturating_sub(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batcher() -> Batcher<u8> {
        Batcher::new(BatchConfig { delay: Duration::from_nanos(10), max_spans: 3 })
    }

    #[test]
    fn a_batch_is_complete_when_it_is_full() {
        let mut batcher = batcher();
        assert_eq!(batcher.push(0, 1), None);
        assert_eq!(batcher.push(0, 2), None);
        assert_eq!(batcher.push(0, 3), Some(vec![1, 2, 3]));
        assert_eq!(batcher.take(), None);
    }

    #[test]
    fn a_batch_is_complete_when_its_oldest_item_has_waited() {
        let mut batcher = batcher();
        assert_eq!(batcher.push(5, 1), None);
        assert_eq!(batcher.push(14, 2), None);
        assert_eq!(batcher.due(14), None);
        assert_eq!(batcher.wait(14), Some(Duration::from_nanos(1)));
        assert_eq!(batcher.due(15), Some(vec![1, 2]));
        assert_eq!(batcher.wait(15), None);
    }
}
