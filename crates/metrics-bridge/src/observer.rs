//! The hot path: a span end becomes two additions.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use opentelemetry::trace::{SpanId, TraceId};
use spanweave_core::masking::Masker;
use spanweave_core::span::{AttributeValue, StatusCode};
use spanweave_core::sync::lock;
use spanweave_core::{Measurement, clock};

use crate::ended::{Ended, caller, error_type, is_request};
use crate::label;
use crate::model::{Buckets, Exemplar, Key, Metric, Series, kind_code, status_code};
use crate::series_table::{ByHash, SeriesTable};
use crate::shard::{Cells, Shard, Shards, add};

/// Callsites above this number are looked up by name, which bounds the table of each thread.
const MAX_CALLSITES: usize = 16_384;

/// A thread remembers so many names before it forgets them all and asks the shared table again.
const MAX_NAMES: usize = 1_024;

const STATUSES: usize = 3;

/// What tells the hashes of the three metrics apart. Kind and status are added to the first.
const SPANS: u64 = 0;
const ERRORS: u64 = 1 << 32;
const REQUESTS: u64 = 2 << 32;

/// What no series has as its identifier.
const NO_SERIES: u32 = 0;

/// The key by which a span's name is masked.
const NAME: &str = "name";

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Distinguishes recorders in the threads' caches.
    instance: u64,
    hasher: RandomState,
    masker: Arc<Masker>,
    buckets: Buckets,
    /// Attributes that are labels of the span metric.
    attributes: Vec<String>,
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
    cells: Cells,
}

/// Where a thread counts the spans of a callsite that end with one status.
#[derive(Clone, Debug)]
struct CallsiteSlot {
    kind: u8,
    name: NameHash,
    slot: Slot,
}

/// The keyed hash of a span's name.
type NameHash = u64;

impl Slot {
    #[inline]
    fn add_span(&self, bucket: usize, nanos: u64) {
        if let Some(cell) = self.cells.get(bucket) {
            add(cell, 1);
        }
        if let Some(sum) = self.cells.last() {
            add(sum, nanos);
        }
    }

    fn add_one(&self) {
        if let Some(cell) = self.cells.first() {
            add(cell, 1);
        }
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
    pub(crate) fn new(
        masker: Arc<Masker>,
        buckets: Buckets,
        attributes: Vec<String>,
        series_limit: usize,
    ) -> Self {
        static INSTANCES: AtomicU64 = AtomicU64::new(0);
        Self {
            instance: INSTANCES.fetch_add(1, Ordering::Relaxed),
            hasher: RandomState::new(),
            masker,
            table: SeriesTable::new(series_limit, buckets.len()),
            buckets,
            attributes,
            shards: Shards::default(),
        }
    }

    pub(crate) fn attributes(&self) -> &[String] {
        &self.attributes
    }

    pub(crate) fn table(&self) -> &SeriesTable {
        &self.table
    }

    pub(crate) fn shards(&self) -> &Shards {
        &self.shards
    }

    /// Counts a span.
    #[inline]
    pub(crate) fn ended(self: &Arc<Self>, span: &impl Ended) -> Measurement {
        let own = LOCALS.try_with(|locals| {
            let mut locals = locals.try_borrow_mut().ok()?;
            if locals.first().is_none_or(|local| local.instance != self.instance) {
                self.bring_forward(&mut locals);
            }
            Some(self.measure(locals.first_mut()?, span))
        });
        match own {
            Ok(Some(measurement)) => measurement,
            // The thread is ending, or masking has made a span itself.
            _ => self.measure_shared(span),
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
        let exemplar = Exemplar { trace_id, span_id, value: measurement.value, at };
        let (span, error) = unpack(measurement.series);
        self.table.with_id(span, |series| {
            lock(&series.exemplars).offer(self.buckets.index(exemplar.value), exemplar);
        });
        if error != NO_SERIES {
            self.table.with_id(error, |series| lock(&series.exemplars).offer(0, exemplar));
        }
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
    fn measure(&self, local: &mut Local, span: &impl Ended) -> Measurement {
        if local.epoch != self.table.epoch() {
            self.settle(local);
        }
        let kind = kind_code(span.kind());
        let status = span.status();
        let nanos = span.duration_nanos();
        let bucket = self.buckets.index(nanos);
        let position = self.callsite_position(span, status);
        let (id, name) = match position.and_then(|at| local.callsites.get(at)) {
            Some(Some(cached)) if cached.kind == kind => {
                cached.slot.add_span(bucket, nanos);
                (cached.slot.id, cached.name)
            }
            _ => self.measure_named(local, span, position, bucket),
        };
        let error = match status {
            StatusCode::Error => self.count_error(local, span, name),
            StatusCode::Unset | StatusCode::Ok => NO_SERIES,
        };
        if is_request(span) {
            self.count_request(local, span, name);
        }
        Measurement { series: pack(id, error), value: nanos }
    }

    /// The place in the cache by callsite, for a span that needs no look-up by name.
    #[inline]
    fn callsite_position(&self, span: &impl Ended, status: StatusCode) -> Option<usize> {
        span.static_name()?;
        let callsite = usize::try_from(span.callsite()?).ok()?;
        (callsite < MAX_CALLSITES && self.attributes.is_empty())
            .then(|| callsite * STATUSES + usize::from(status_code(status)))
    }

    fn measure_named(
        &self,
        local: &mut Local,
        span: &impl Ended,
        position: Option<usize>,
        bucket: usize,
    ) -> (u32, NameHash) {
        let (name, nanos) = (self.hash(span.name()), span.duration_nanos());
        let hash = self.span_hash(span, name);
        let (id, cacheable) = self.with_slot(
            local,
            hash,
            || self.span_key(span),
            |slot| {
                slot.add_span(bucket, nanos);
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

    fn count_error(&self, local: &mut Local, span: &impl Ended, name: NameHash) -> u32 {
        let hash = self.error_hash(span, name);
        self.with_slot(
            local,
            hash,
            || self.error_key(span),
            |slot| {
                slot.add_one();
                slot.id
            },
        )
    }

    fn count_request(&self, local: &mut Local, span: &impl Ended, name: NameHash) {
        let hash = self.request_hash(span, name);
        self.with_slot(local, hash, || self.request_key(span), Slot::add_one);
    }

    /// Uses the thread's slot for a hash; only the first time it is looked up for all threads.
    #[inline]
    fn with_slot<T>(
        &self,
        local: &mut Local,
        hash: u64,
        key: impl FnOnce() -> Key,
        count: impl FnOnce(&Slot) -> T,
    ) -> T {
        if let Some(slot) = local.named.get(&hash) {
            return count(slot);
        }
        let series = self.table.resolve(hash, key, clock::now());
        let slot = Slot { id: series.id, cells: local.shard.cells(&series) };
        if local.named.len() >= MAX_NAMES {
            local.named.clear();
        }
        count(local.named.entry(hash).or_insert(slot))
    }

    /// Series have expired: forgets all that is cached, and moves what was counted into them.
    #[cold]
    fn settle(&self, local: &mut Local) {
        local.epoch = self.table.epoch();
        local.callsites.clear();
        local.named.clear();
        self.shards.settle(&local.shard);
    }

    #[cold]
    fn measure_shared(&self, span: &impl Ended) -> Measurement {
        let now = clock::now();
        let nanos = span.duration_nanos();
        let one = |series: &Series| {
            if let Some(cell) = series.base.first() {
                cell.fetch_add(1, Ordering::Relaxed);
            }
        };
        let name = self.hash(span.name());
        let id = self.table.update(
            self.span_hash(span, name),
            || self.span_key(span),
            now,
            |series| {
                if let Some(cell) = series.base.get(self.buckets.index(nanos)) {
                    cell.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(sum) = series.base.last() {
                    sum.fetch_add(nanos, Ordering::Relaxed);
                }
            },
        );
        let error = match span.status() {
            StatusCode::Error => {
                self.table.update(self.error_hash(span, name), || self.error_key(span), now, one)
            }
            StatusCode::Unset | StatusCode::Ok => NO_SERIES,
        };
        if is_request(span) {
            self.table.update(self.request_hash(span, name), || self.request_key(span), now, one);
        }
        Measurement { series: pack(id, error), value: nanos }
    }

    /// The keyed hash of a raw text, as far as the text counts.
    fn hash(&self, text: &str) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(label::significant(text).as_bytes());
        hasher.finish()
    }

    /// The keyed hash of a label's raw value; `hash` is that of what stands before it.
    fn hash_value(&self, hash: u64, value: Option<AttributeValue<'_>>) -> u64 {
        let (kind, value) = match value {
            None => (0, 0),
            Some(AttributeValue::Bool(value)) => (1, u64::from(value)),
            Some(AttributeValue::I64(value)) => (2, value.cast_unsigned()),
            Some(AttributeValue::F64(value)) => (3, value.to_bits()),
            Some(AttributeValue::Str(value)) => (4, self.hash(value)),
            Some(value @ AttributeValue::Array(_)) => (5, self.hash(&value.to_string())),
        };
        mix(mix(hash, kind), value)
    }

    fn span_hash(&self, span: &impl Ended, name: NameHash) -> u64 {
        let kind_and_status = kind_code(span.kind()) << 2 | status_code(span.status());
        let hash = mix(name, SPANS + u64::from(kind_and_status));
        self.attributes.iter().fold(hash, |hash, key| self.hash_value(hash, span.attribute(key)))
    }

    fn span_key(&self, span: &impl Ended) -> Key {
        let labels = self.attributes.iter().map(|key| match span.attribute(key) {
            Some(AttributeValue::Str(value)) => self.label(key, value),
            Some(value) => self.label(key, &value.to_string()),
            None => "".into(),
        });
        Key {
            metric: Metric::Spans,
            kind: kind_code(span.kind()),
            status: status_code(span.status()),
            values: std::iter::once(self.label(NAME, span.name())).chain(labels).collect(),
        }
    }

    fn error_hash(&self, span: &impl Ended, name: NameHash) -> u64 {
        mix(mix(name, ERRORS), self.hash(error_type(span)))
    }

    fn error_key(&self, span: &impl Ended) -> Key {
        self.plain_key(Metric::Errors, [(NAME, span.name()), ("error.type", error_type(span))])
    }

    fn request_hash(&self, span: &impl Ended, name: NameHash) -> u64 {
        mix(mix(name, REQUESTS), self.hash(caller(span)))
    }

    fn request_key(&self, span: &impl Ended) -> Key {
        self.plain_key(Metric::Requests, [("service.name", caller(span)), (NAME, span.name())])
    }

    fn plain_key(&self, metric: Metric, values: [(&str, &str); 2]) -> Key {
        let values = values.map(|(key, value)| self.label(key, value));
        Key { metric, kind: 0, status: 0, values: values.into() }
    }

    fn label(&self, key: &str, raw: &str) -> Arc<str> {
        label::value(&self.masker, key, raw)
    }
}

/// Mixes a second number into a keyed hash.
#[inline]
fn mix(hash: u64, with: u64) -> u64 {
    // The golden ratio in 64 bits: odd, without a pattern.
    const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15;
    let product = u128::from(hash ^ with.rotate_left(32)) * FACTOR;
    (product ^ (product >> 64)) as u64
}

/// The series of the span below, of its error above.
fn pack(span: u32, error: u32) -> u64 {
    u64::from(span) | u64::from(error) << 32
}

fn unpack(series: u64) -> (u32, u32) {
    ((series & u64::from(u32::MAX)) as u32, (series >> 32) as u32)
}

#[cfg(test)]
mod tests;
