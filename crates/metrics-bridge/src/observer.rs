//! The hot path: a span end becomes two additions.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use opentelemetry::trace::{SpanId, TraceId};
use spanweave_core::masking::Masker;
use spanweave_core::span::StatusCode;
use spanweave_core::sync::lock;
use spanweave_core::{Measurement, SpanStart, clock};

use crate::ended::{Ended, attribute, is_call, is_request};
use crate::measured::{Measured, NO_SERIES};
use crate::model::{Buckets, Exemplar, Key, kind_code, status_code};
use crate::schema::Schema;
use crate::series_table::{ByHash, SeriesTable};
use crate::shard::{Cells, Shard, Shards, add};

mod keys;

use keys::{Keys, NameHash};

/// Callsites above this number are looked up by name, which bounds the table of each thread.
const MAX_CALLSITES: usize = 16_384;

/// A thread remembers so many series before it forgets them all and asks the shared table again.
const MAX_NAMES: usize = 4_096;

const STATUSES: usize = 3;

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Distinguishes recorders in the threads' caches.
    instance: u64,
    keys: Keys,
    table: SeriesTable,
    shards: Shards,
}

/// What a thread keeps for one recorder.
#[derive(Debug)]
struct Local {
    instance: u64,
    recorder: Weak<Recorder>,
    /// The table's epoch that the caches belong to.
    epoch: u64,
    shard: Arc<Shard>,
    /// By callsite and status, for spans that bear their callsite's name.
    callsites: Vec<Option<CallsiteSlot>>,
    /// By keyed hash of the raw values, for all others.
    named: ByHash<Slot>,
}

/// Where a thread counts for one series.
#[derive(Clone, Debug)]
struct Slot {
    id: u32,
    /// The bounds of a histogram.
    buckets: Option<Arc<Buckets>>,
    cells: Cells,
}

/// Where a thread counts the spans of a callsite that end with one status.
#[derive(Clone, Debug)]
struct CallsiteSlot {
    kind: u8,
    name: NameHash,
    slot: Slot,
}

/// What is added to a series.
#[derive(Clone, Copy, Debug)]
enum Amount {
    /// To a histogram, in nanoseconds.
    Duration(u64),
    One,
    MinusOne,
}

/// Somewhere to count: a thread's own blocks, or what all threads share.
trait Counting {
    /// Adds to the series for a hash of raw values, and returns its identifier. `key` makes its
    /// identity if it is not known.
    fn count(
        &mut self,
        recorder: &Recorder,
        hash: u64,
        key: impl FnOnce() -> Key,
        amount: Amount,
    ) -> u32;
}

/// For threads without blocks of their own.
struct Shared;

impl Amount {
    /// The cell that is counted in, how much it grows (wrapping), and how much the sum grows.
    #[inline]
    fn of(self, buckets: Option<&Arc<Buckets>>) -> (usize, u64, Option<u64>) {
        match self {
            Self::Duration(nanos) => (buckets.map_or(0, |b| b.index(nanos)), 1, Some(nanos)),
            Self::One => (0, 1, None),
            Self::MinusOne => (0, u64::MAX, None),
        }
    }
}

impl Slot {
    #[inline]
    fn add(&self, amount: Amount) {
        let (at, count, sum) = amount.of(self.buckets.as_ref());
        if let Some(cell) = self.cells.get(at) {
            add(cell, count);
        }
        if let (Some(sum), Some(cell)) = (sum, self.cells.last()) {
            add(cell, sum);
        }
    }
}

impl Counting for Local {
    #[inline]
    fn count(
        &mut self,
        recorder: &Recorder,
        hash: u64,
        key: impl FnOnce() -> Key,
        amount: Amount,
    ) -> u32 {
        self.with_slot(recorder, hash, key, |slot| {
            slot.add(amount);
            slot.id
        })
    }
}

impl Counting for Shared {
    fn count(
        &mut self,
        recorder: &Recorder,
        hash: u64,
        key: impl FnOnce() -> Key,
        amount: Amount,
    ) -> u32 {
        recorder.table.update(hash, key, clock::now(), |series| {
            let (at, count, sum) = amount.of(series.buckets.as_ref());
            if let Some(cell) = series.base.get(at) {
                cell.fetch_add(count, Ordering::Relaxed);
            }
            if let (Some(sum), Some(cell)) = (sum, series.base.last()) {
                cell.fetch_add(sum, Ordering::Relaxed);
            }
        })
    }
}

impl Local {
    /// Uses the thread's slot for a hash; only the first time it is looked up for all threads.
    #[inline]
    fn with_slot<T>(
        &mut self,
        recorder: &Recorder,
        hash: u64,
        key: impl FnOnce() -> Key,
        count: impl FnOnce(&Slot) -> T,
    ) -> T {
        if let Some(slot) = self.named.get(&hash) {
            return count(slot);
        }
        let series = recorder.table.resolve(hash, key, clock::now());
        let cells = self.shard.cells(&series);
        let slot = Slot { id: series.id, buckets: series.buckets.clone(), cells };
        if self.named.len() >= MAX_NAMES {
            self.named.clear();
        }
        count(self.named.entry(hash).or_insert(slot))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(recorder) = self.recorder.upgrade() {
            recorder.shards.close(&self.shard);
        }
    }
}

thread_local! {
    /// One entry for each recorder that the thread has met; nearly always one.
    static LOCALS: RefCell<Vec<Local>> = const { RefCell::new(Vec::new()) };
}

impl Recorder {
    pub(crate) fn new(masker: Arc<Masker>, schema: Arc<Schema>, series_limit: usize) -> Self {
        static INSTANCES: AtomicU64 = AtomicU64::new(0);
        Self {
            instance: INSTANCES.fetch_add(1, Ordering::Relaxed),
            keys: Keys::new(masker, schema.clone()),
            table: SeriesTable::new(series_limit, schema),
            shards: Shards::default(),
        }
    }

    pub(crate) fn table(&self) -> &SeriesTable {
        &self.table
    }

    pub(crate) fn shards(&self) -> &Shards {
        &self.shards
    }

    /// Counts a request as active. Its span is flagged, so that it is no longer at its end.
    #[inline]
    pub(crate) fn started(self: &Arc<Self>, span: &SpanStart<'_>) {
        if !self.keys.is_active(span) {
            return;
        }
        span.flag();
        let attribute = |key: &str| span.attribute(key);
        let hash = self.keys.active_hash(&attribute);
        let key = || self.keys.active_key(&attribute);
        let own = self.with_local(|local| local.count(self, hash, key, Amount::One));
        if own.is_none() {
            Shared.count(self, hash, key, Amount::One);
        }
    }

    /// Counts a span.
    #[inline]
    pub(crate) fn ended(self: &Arc<Self>, span: &impl Ended) -> Measurement {
        match self.with_local(|local| self.measure(local, span)) {
            Some(measured) => measured.pack(),
            None => self.measure_shared(span).pack(),
        }
    }

    /// The span of a measurement went to the backends.
    pub(crate) fn kept(
        &self,
        measurement: Measurement,
        trace_id: TraceId,
        span_id: SpanId,
        at: u64,
    ) {
        let measured = Measured::unpack(measurement);
        let exemplar = Exemplar { trace_id, span_id, value: measured.nanos, at };
        for id in measured.ids() {
            self.table.with_id(id, |series| {
                lock(&series.exemplars).offer(series.bucket(exemplar.value), exemplar);
            });
        }
    }

    /// Uses what the thread has of its own. `None` if it is ending, or if masking or a map of the
    /// application has made a span itself.
    #[inline]
    fn with_local<T>(self: &Arc<Self>, count: impl FnOnce(&mut Local) -> T) -> Option<T> {
        let own = LOCALS.try_with(|locals| {
            let mut locals = locals.try_borrow_mut().ok()?;
            if locals.first().is_none_or(|local| local.instance != self.instance) {
                self.bring_forward(&mut locals);
            }
            let local = locals.first_mut()?;
            if local.epoch != self.table.epoch() {
                self.settle(local);
            }
            Some(count(local))
        });
        own.ok().flatten()
    }

    /// Makes the thread's entry for this recorder the first one.
    #[cold]
    fn bring_forward(self: &Arc<Self>, locals: &mut Vec<Local>) {
        if let Some(at) = locals.iter().position(|local| local.instance == self.instance) {
            locals.swap(0, at);
            return;
        }
        locals.retain(|local| local.recorder.strong_count() > 0);
        let local = Local {
            instance: self.instance,
            recorder: Arc::downgrade(self),
            epoch: self.table.epoch(),
            shard: self.shards.open(),
            callsites: Vec::new(),
            named: ByHash::default(),
        };
        locals.insert(0, local);
    }

    #[inline]
    fn measure(&self, local: &mut Local, span: &impl Ended) -> Measured {
        let position = self.callsite_position(span);
        let (id, name) = match position.and_then(|at| local.callsites.get(at)) {
            Some(Some(cached)) if cached.kind == kind_code(span.kind()) => {
                cached.slot.add(Amount::Duration(span.duration_nanos()));
                (cached.slot.id, cached.name)
            }
            _ => self.measure_named(local, span, position),
        };
        self.measure_more(local, span, id, name)
    }

    /// The place in the cache by callsite, for a span that needs no look-up by name.
    #[inline]
    fn callsite_position(&self, span: &impl Ended) -> Option<usize> {
        span.static_name()?;
        let callsite = usize::try_from(span.callsite()?).ok()?;
        (callsite < MAX_CALLSITES && self.keys.has_plain_spans())
            .then(|| callsite * STATUSES + usize::from(status_code(span.status())))
    }

    fn measure_named(
        &self,
        local: &mut Local,
        span: &impl Ended,
        position: Option<usize>,
    ) -> (u32, NameHash) {
        let name = self.keys.hash(span.name());
        let hash = self.keys.span_hash(span, name);
        let (id, cacheable) = local.with_slot(
            self,
            hash,
            || self.keys.span_key(span),
            |slot| {
                slot.add(Amount::Duration(span.duration_nanos()));
                (slot.id, position.map(|position| (position, slot.clone())))
            },
        );
        if let Some((position, slot)) = cacheable {
            if local.callsites.len() <= position {
                local.callsites.resize(position + 1, None);
            }
            let kind = kind_code(span.kind());
            local.callsites[position] = Some(CallsiteSlot { kind, name, slot });
        }
        (id, name)
    }

    #[cold]
    fn measure_shared(&self, span: &impl Ended) -> Measured {
        let name = self.keys.hash(span.name());
        let hash = self.keys.span_hash(span, name);
        let amount = Amount::Duration(span.duration_nanos());
        let id = Shared.count(self, hash, || self.keys.span_key(span), amount);
        self.measure_more(&mut Shared, span, id, name)
    }

    /// All that is counted of a span besides the span itself.
    #[inline]
    fn measure_more(
        &self,
        to: &mut impl Counting,
        span: &impl Ended,
        id: u32,
        name: NameHash,
    ) -> Measured {
        let (keys, nanos) = (&self.keys, span.duration_nanos());
        let took = Amount::Duration(nanos);
        let error = match span.status() {
            StatusCode::Error => {
                let hash = keys.error_hash(span, name);
                to.count(self, hash, || keys.error_key(span), Amount::One)
            }
            StatusCode::Unset | StatusCode::Ok => NO_SERIES,
        };
        let edge = if is_request(span) {
            to.count(self, keys.request_hash(span, name), || keys.request_key(span), took)
        } else if is_call(span) {
            to.count(self, keys.call_hash(span, name), || keys.call_key(span), took)
        } else {
            NO_SERIES
        };
        let convention = keys.convention(span).map_or(NO_SERIES, |metric| {
            let hash = keys.convention_hash(metric, span);
            to.count(self, hash, || keys.convention_key(metric, span), took)
        });
        if span.is_flagged() {
            let attribute = |key: &str| attribute(span, key);
            let hash = keys.active_hash(&attribute);
            to.count(self, hash, || keys.active_key(&attribute), Amount::MinusOne);
        }
        Measured { span: id, error, edge, convention, nanos }
    }

    /// Series have expired: forgets all that is cached, and moves what was counted into them.
    #[cold]
    fn settle(&self, local: &mut Local) {
        local.epoch = self.table.epoch();
        local.callsites.clear();
        local.named.clear();
        self.shards.settle(&local.shard);
    }
}

#[cfg(test)]
mod tests;
