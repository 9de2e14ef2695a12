//! Counts of each thread, in blocks that only it writes.
//!
//! A thread's shard lists its blocks for the scrape. The list's lock is taken by the owner when it
//! meets a series for the first time, and by the scrape; adding to a block takes none. When the
//! thread ends, or a series has expired, the blocks are folded into the series' base under the
//! lock that the scrape holds, so that no scrape sees a count twice or not at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use spanweave_core::sync::lock;

use crate::model::{Series, zeroes};
use crate::series_table::ById;

/// Cells of one series that one thread writes.
pub(crate) type Cells = Arc<[AtomicU64]>;

/// Adds to a cell of the calling thread's own. Only the owner writes, so nothing is lost between
/// the load and the store.
#[inline]
pub(crate) fn add(cell: &AtomicU64, count: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

/// The blocks of one thread.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    blocks: Mutex<ById<(Arc<Series>, Cells)>>,
}

impl Shard {
    /// The block of a series, made if it is not there.
    pub(crate) fn cells(&self, series: &Arc<Series>) -> Cells {
        let mut blocks = lock(&self.blocks);
        let make = || (series.clone(), zeroes(series.base.len()));
        blocks.entry(series.id).or_insert_with(make).1.clone()
    }
}

/// The shards of all threads that live.
#[derive(Debug, Default)]
pub(crate) struct Shards {
    live: Mutex<Vec<Arc<Shard>>>,
}

impl Shards {
    /// A shard for the calling thread.
    pub(crate) fn open(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard::default());
        lock(&self.live).push(shard.clone());
        shard
    }

    /// The owner is gone: its counts move to the series' bases.
    pub(crate) fn close(&self, shard: &Arc<Shard>) {
        let mut live = lock(&self.live);
        if let Some(at) = live.iter().position(|other| Arc::ptr_eq(other, shard)) {
            live.swap_remove(at);
            for (series, cells) in lock(&shard.blocks).drain().map(|(_, block)| block) {
                series.shown_as().fold(&series, &cells);
            }
        }
    }

    /// Called by the owner: the counts of expired series move to those that took their place.
    pub(crate) fn settle(&self, shard: &Shard) {
        let _live = lock(&self.live);
        lock(&shard.blocks).retain(|_, (series, cells)| {
            let expired = series.heir.get();
            if let Some(heir) = expired {
                heir.fold(series, cells);
            }
            expired.is_none()
        });
    }

    /// A series expires: what it has counted belongs to `heir` from now on.
    pub(crate) fn retire(&self, series: &Series, heir: &Arc<Series>) {
        let _live = lock(&self.live);
        if series.heir.set(heir.clone()).is_ok() {
            heir.fold(series, &series.base);
        }
    }

    /// Shows the bases of `all` and every block, while nothing can be folded.
    pub(crate) fn visit<'a>(
        &self,
        all: impl Iterator<Item = &'a Arc<Series>>,
        mut look: impl FnMut(&Arc<Series>, &[AtomicU64]),
    ) {
        let live = lock(&self.live);
        for series in all {
            look(series, &series.base);
        }
        for shard in live.iter() {
            for (series, cells) in lock(&shard.blocks).values() {
                look(series, cells);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.live).len()
    }
}
