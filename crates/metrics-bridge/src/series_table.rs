//! Which series there are: found by a keyed hash of raw values, limited, expired.
//!
//! Raw values are never kept: a hash leads to the series of the masked values. Different raw
//! values can lead to one series. Identifiers are never used twice, so a thread that still holds
//! an expired series counts into it harmlessly (see [`Shards`]).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use spanweave_core::sync::lock;

use crate::model::{Key, Series, SpanMetric};
use crate::schema::Schema;
use crate::shard::Shards;

/// So many hashes are remembered for each series that is allowed. Further ones are masked and
/// looked up each time a thread meets them anew.
const HASHES_PER_SERIES: usize = 8;

/// A hasher for keys that are keyed hashes already, or our own identifiers.
#[derive(Debug, Default)]
pub(crate) struct Prehashed(u64);

impl Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn write_u32(&mut self, value: u32) {
        // Spreads consecutive numbers over all bits: the golden ratio in 64 bits.
        self.0 = u64::from(value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A map by keyed hash.
pub(crate) type ByHash<V> = HashMap<u64, V, BuildHasherDefault<Prehashed>>;

/// A map by the identifier of a series.
pub(crate) type ById<V> = HashMap<u32, V, BuildHasherDefault<Prehashed>>;

/// Keeps what is locked often off the cache lines that every span end reads (two lines, since
/// processors fetch them in pairs): the worker takes the table's lock for each span that is kept.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// All series.
#[derive(Debug)]
pub(crate) struct SeriesTable {
    state: Apart<RwLock<State>>,
    /// Changes when series expire: caches of series from before are to be forgotten.
    epoch: AtomicU64,
    limit: usize,
    schema: Arc<Schema>,
}

#[derive(Debug, Default)]
struct State {
    by_hash: ByHash<Arc<Series>>,
    by_key: HashMap<Key, Arc<Series>>,
    by_id: ById<Arc<Series>>,
    /// Label sets under the limit, with the number of kinds of each.
    admitted: HashMap<Key, usize>,
    /// Label sets under the limit by metric.
    counts: [usize; SpanMetric::ALL.len()],
    last_id: u32,
}

/// What one series had counted at a scrape.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) series: Arc<Series>,
    pub(crate) cells: Box<[u64]>,
}

impl SeriesTable {
    pub(crate) fn new(limit: usize, schema: Arc<Schema>) -> Self {
        Self { state: Apart::default(), epoch: AtomicU64::new(0), limit, schema }
    }

    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The series for a hash of raw values; `key` makes its identity if it is not known.
    pub(crate) fn resolve(&self, hash: u64, key: impl FnOnce() -> Key, now: u64) -> Arc<Series> {
        if let Some(series) = self.read().by_hash.get(&hash) {
            return series.clone();
        }
        let key = key();
        {
            // Names without number must not make threads wait for each other.
            let state = self.read();
            if state.by_hash.len() >= self.hash_limit()
                && let Some(series) = state.existing(&key, self.limit)
            {
                return series.clone();
            }
        }
        self.find_or_make(&mut self.write(), hash, key, now)
    }

    /// Adds to the shared base of a series, for threads without blocks of their own.
    pub(crate) fn update(
        &self,
        hash: u64,
        key: impl FnOnce() -> Key,
        now: u64,
        add: impl FnOnce(&Series),
    ) -> u32 {
        {
            let state = self.read();
            if let Some(series) = state.by_hash.get(&hash) {
                // Under the lock, so that the series cannot expire meanwhile.
                add(series);
                return series.id;
            }
        }
        let key = key();
        let mut state = self.write();
        let series = self.find_or_make(&mut state, hash, key, now);
        add(&series);
        series.id
    }

    /// Shows the series with this identifier, unless it has expired.
    pub(crate) fn with_id(&self, id: u32, look: impl FnOnce(&Series)) {
        if let Some(series) = self.read().by_id.get(&id) {
            look(series);
        }
    }

    /// Label sets under the limit.
    pub(crate) fn count(&self, metric: SpanMetric) -> usize {
        self.read().counts[metric as usize]
    }

    /// What all series have counted. Updates go on meanwhile; new series wait.
    pub(crate) fn snapshot(&self, shards: &Shards) -> Vec<Row> {
        let state = self.read();
        let mut rows: Vec<Row> = state
            .by_id
            .values()
            .map(|series| Row { series: series.clone(), cells: vec![0; series.base.len()].into() })
            .collect();
        rows.sort_unstable_by_key(|row| row.series.id);
        let at: ById<usize> =
            rows.iter().enumerate().map(|(at, row)| (row.series.id, at)).collect();
        shards.visit(state.by_id.values(), |series, cells| {
            let shown = series.shown_as();
            let Some(row) = at.get(&shown.id).and_then(|at| rows.get_mut(*at)) else { return };
            for (at, cell) in cells.iter().enumerate() {
                if let Some(sum) = row.cells.get_mut(shown.cell_of(series, at)) {
                    *sum = sum.wrapping_add(cell.load(Ordering::Relaxed));
                }
            }
        });
        rows
    }

    /// Folds series into the overflow series that have not changed for `unused`. `rows` is a
    /// snapshot taken at `now`, in monotonic nanoseconds. Active requests stay: each is to be
    /// taken away from where it was added.
    pub(crate) fn expire(&self, rows: &[Row], unused: Duration, now: u64, shards: &Shards) {
        let unused = u64::try_from(unused.as_nanos()).unwrap_or(u64::MAX);
        let expired: Vec<&Row> = rows
            .iter()
            .filter(|row| row.series.key.metric != SpanMetric::ActiveRequests)
            .filter(|row| row.series.key != row.series.key.overflow())
            .filter(|row| {
                let total = row.count();
                let mut seen = lock(&row.series.seen);
                if seen.0 != total {
                    *seen = (total, now);
                }
                now.saturating_sub(seen.1) >= unused
            })
            .collect();
        if expired.is_empty() {
            return;
        }
        let mut state = self.write();
        for Row { series, .. } in expired {
            // Another scrape may have expired it just now.
            if state.by_id.remove(&series.id).is_none() {
                continue;
            }
            state.by_key.remove(&series.key);
            state.leave(&series.key);
            let heir = self.find_or_make_key(&mut state, series.key.overflow(), now);
            shards.retire(series, &heir);
        }
        // Also those that led to an overflow series: there is room now.
        state.by_hash.clear();
        self.epoch.fetch_add(1, Ordering::Release);
    }

    fn find_or_make(&self, state: &mut State, hash: u64, key: Key, now: u64) -> Arc<Series> {
        let known = state.by_key.get(&key).cloned();
        let series = known.unwrap_or_else(|| {
            let key = if state.admit(&key, self.limit) { key } else { key.overflow() };
            self.find_or_make_key(state, key, now)
        });
        if state.by_hash.len() < self.hash_limit() {
            state.by_hash.insert(hash, series.clone());
        }
        series
    }

    fn find_or_make_key(&self, state: &mut State, key: Key, now: u64) -> Arc<Series> {
        if let Some(series) = state.by_key.get(&key) {
            return series.clone();
        }
        // Four thousand million series would have to expire first; then the last one is shared.
        state.last_id = state.last_id.saturating_add(1);
        let buckets = self.schema.buckets(&key);
        let series = Arc::new(Series::new(state.last_id, key.clone(), buckets, now));
        state.by_id.insert(series.id, series.clone());
        state.by_key.insert(key, series.clone());
        series
    }

    fn hash_limit(&self) -> usize {
        self.limit.saturating_mul(HASHES_PER_SERIES * SpanMetric::ALL.len())
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The series that takes a key, as far as nothing has to be made for it.
    fn existing(&self, key: &Key, limit: usize) -> Option<&Arc<Series>> {
        self.by_key.get(key).or_else(|| {
            let is_full = self.counts[key.metric as usize] >= limit;
            let is_above = is_full && !self.admitted.contains_key(&key.label_set());
            is_above.then(|| self.by_key.get(&key.overflow())).flatten()
        })
    }

    /// Whether a series that is not there yet may be made under its own name.
    fn admit(&mut self, key: &Key, limit: usize) -> bool {
        if *key == key.overflow() {
            return true;
        }
        let count = &mut self.counts[key.metric as usize];
        if let Some(kinds) = self.admitted.get_mut(&key.label_set()) {
            *kinds += 1;
        } else if *count < limit {
            *count += 1;
            self.admitted.insert(key.label_set(), 1);
        } else {
            return false;
        }
        true
    }

    fn leave(&mut self, key: &Key) {
        let label_set = key.label_set();
        if let Some(kinds) = self.admitted.get_mut(&label_set) {
            *kinds -= 1;
            if *kinds == 0 {
                self.admitted.remove(&label_set);
                self.counts[key.metric as usize] -= 1;
            }
        }
    }
}

impl Row {
    /// How many spans the series has counted.
    pub(crate) fn count(&self) -> u64 {
        self.buckets().iter().sum()
    }

    /// The buckets of a histogram, not cumulative; of others their count.
    pub(crate) fn buckets(&self) -> &[u64] {
        match self.cells.split_last() {
            Some((_, buckets)) if self.series.buckets.is_some() => buckets,
            _ => &self.cells,
        }
    }

    /// The sum of a histogram, in nanoseconds.
    pub(crate) fn sum(&self) -> u64 {
        self.cells.last().copied().unwrap_or_default()
    }
}
