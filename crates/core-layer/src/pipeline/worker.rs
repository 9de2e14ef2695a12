//! The worker: one thread that takes finished spans through masking, the tail decision and
//! batching to the sinks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry::trace::{SpanId, TraceId};

use super::batcher::Batcher;
use super::config::BatchConfig;
use super::core::Core;
use crate::clock::{self, MonotonicNanos};
use crate::ledger::DropReason;
use crate::sampling::{Decided, TailBuffer, TailSpan, without_threshold};
use crate::span::{Chunk, Extras, MaskedBatch, MaskedSpan, RawSpan, SpanRecord, StatusCode};

/// Between two sweeps while spans come in.
const BUSY_SWEEP: Duration = Duration::from_millis(5);
/// Between two sweeps while nothing comes in; nothing waits for the worker longer than 100 ms.
const IDLE_SWEEP: Duration = Duration::from_millis(50);

/// Empty chunks that are kept for the next sweeps: what some busy threads fill between two.
const SPARE_CHUNKS: usize = 64;
/// Records that are taken from the pool at a time: about a batch.
const RECORDS_AT_A_TIME: usize = 256;

pub(crate) struct Worker {
    core: Arc<Core>,
    extras: Extras,
    tail: Option<TailBuffer<MaskedSpan>>,
    /// Local roots of the last sweep. A root decides its trace one sweep late: what ended before
    /// it on another thread may have come to an outbox that had been swept already.
    roots: Vec<MaskedSpan>,
    decided: Decided<MaskedSpan>,
    batcher: Batcher<MaskedSpan>,
    /// Chunks that were swept up, and empty ones to put in their place.
    full: Vec<Chunk>,
    spare_chunks: Vec<Chunk>,
    /// Records to be filled; the rest is in the pool.
    spare: Vec<RawSpan>,
    anchor_at: MonotonicNanos,
    /// Spans that have to be accounted for by the end of the cycle, less those that were before
    /// it: see [`Worker::count_lost`].
    at_start: u64,
}

impl Worker {
    pub(crate) fn new(core: Arc<Core>, batch: BatchConfig, extras: Extras) -> Self {
        let rules = core.sampler.tail_rules();
        let tail = (!rules.is_empty()).then(|| TailBuffer::new(rules));
        Self {
            extras,
            tail,
            roots: Vec::new(),
            decided: Decided::default(),
            batcher: Batcher::new(batch),
            full: Vec::new(),
            spare_chunks: Vec::new(),
            spare: Vec::new(),
            anchor_at: clock::now(),
            at_start: 0,
            core,
        }
    }

    /// Works until it is told to stop.
    pub(crate) fn run(mut self) {
        // Nothing that happens on this thread makes spans.
        let _suppressed = opentelemetry::Context::enter_telemetry_suppressed_scope();
        let mut busy = true;
        loop {
            let idle = if busy { BUSY_SWEEP } else { IDLE_SWEEP };
            let idle = self.batcher.wait(clock::now()).map_or(idle, |due| due.min(idle));
            let work = self.core.signal.next(idle);
            let all = work.flush.is_some() || work.stop;
            let cycle = catch_unwind(AssertUnwindSafe(|| self.cycle(all, work.stop)));
            busy = cycle.unwrap_or_else(|_| {
                self.core.totals.callback_panics.fetch_add(1, Ordering::Relaxed);
                self.count_lost();
                true
            });
            if let Some(number) = work.flush {
                self.core.signal.flushed(number);
            }
            if work.stop {
                self.core.signal.stopped();
                return;
            }
        }
    }

    /// One round; whether spans came in.
    fn cycle(&mut self, all: bool, stop: bool) -> bool {
        let now = clock::now();
        if now.saturating_sub(self.anchor_at) >= clock::ANCHOR_LIFE.as_nanos() as u64 {
            clock::renew_anchor();
            self.anchor_at = now;
        }
        self.extras.wall_offset = clock::wall_offset();
        let mut busy = self.sweep(now);
        if stop {
            // Behind the sweep, which lets in those who have waited for room.
            self.core.handoff.stop();
        }
        if stop || (all && self.tail.is_some()) {
            busy |= self.sweep(now);
        }
        if let Some(tail) = &mut self.tail {
            if stop {
                for root in self.roots.drain(..) {
                    tail.push(now, root, &mut self.decided);
                }
                tail.finish(&mut self.decided);
            } else {
                tail.tick(now, &mut self.decided);
            }
            self.settle(now);
        }
        let batch = if all { self.batcher.take() } else { self.batcher.due(now) };
        if let Some(batch) = batch {
            self.emit(batch);
        }
        busy
    }

    /// Takes what has ended; whether anything had.
    fn sweep(&mut self, now: MonotonicNanos) -> bool {
        let mut full = std::mem::take(&mut self.full);
        self.core.handoff.sweep(&mut self.spare_chunks, &mut full);
        let count: usize = full.iter().map(Chunk::len).sum();
        self.at_start = self.settled() + count as u64;
        let mut roots = std::mem::take(&mut self.roots);
        let (core, mut spare) = (self.core.clone(), std::mem::take(&mut self.spare));
        for mut chunk in full.drain(..) {
            let record = || {
                if spare.is_empty() {
                    core.pool.take(&mut spare, RECORDS_AT_A_TIME);
                }
                let mut record = spare.pop().unwrap_or_default();
                record.reset();
                record
            };
            chunk.drain(record, |raw| self.take(now, raw));
            if self.spare_chunks.len() < SPARE_CHUNKS {
                chunk.shrink();
                self.spare_chunks.push(chunk);
            }
        }
        for root in roots.drain(..) {
            self.decide(now, root);
        }
        self.spare = spare;
        self.full = full;
        count > 0
    }

    fn take(&mut self, now: MonotonicNanos, raw: RawSpan) {
        let is_recording = raw.head.recording;
        let span = MaskedSpan::new(raw, &self.core.masker, self.extras);
        if self.core.log_longer_than.is_some_and(|limit| span.duration_nanos() > limit) {
            self.log_slow(&span);
        }
        if !is_recording {
            self.sample_out([span]);
            return;
        }
        if self.tail.is_some() && TailSpan::is_local_root(&span) {
            self.roots.push(span);
        } else {
            self.decide(now, span);
        }
    }

    fn decide(&mut self, now: MonotonicNanos, span: MaskedSpan) {
        match &mut self.tail {
            None => self.keep(now, span),
            Some(tail) => {
                tail.push(now, span, &mut self.decided);
                self.settle(now);
            }
        }
    }

    /// Acts on what the tail has decided.
    fn settle(&mut self, now: MonotonicNanos) {
        let mut decided = std::mem::take(&mut self.decided);
        for mut kept in decided.kept.drain(..) {
            if kept.by_rule {
                erase_threshold(&mut kept.span);
            }
            self.keep(now, kept.span);
        }
        self.sample_out(decided.sampled_out.drain(..));
        self.decided = decided;
        if let Some(tail) = &self.tail {
            self.core.totals.undecided.store(tail.pending() as u64, Ordering::Relaxed);
        }
    }

    fn sample_out(&self, spans: impl IntoIterator<Item = MaskedSpan>) {
        let mut count = 0;
        let spans = spans.into_iter().inspect(|_| count += 1);
        self.core.pool.put(spans.map(MaskedSpan::into_raw));
        self.core.totals.sampled_out.fetch_add(count, Ordering::Relaxed);
    }

    fn keep(&mut self, now: MonotonicNanos, span: MaskedSpan) {
        let core = self.core.clone();
        for (observer, measurement) in core.observers.iter().zip(&span.measurements) {
            core.guarded(|| observer.kept(*measurement, span.trace_id(), span.span_id()));
        }
        for hook in &core.hooks {
            core.guarded(|| hook.on_end(&span));
        }
        if let Some(batch) = self.batcher.push(now, span) {
            self.emit(batch);
        }
    }

    fn emit(&self, spans: Vec<MaskedSpan>) {
        let count = spans.len() as u64;
        let batch =
            MaskedBatch::new(spans, self.core.resource.clone(), Arc::downgrade(&self.core.pool));
        let batch = Arc::new(batch);
        for sink in &self.core.sinks {
            self.core.guarded(|| sink.accept(batch.clone()));
        }
        self.core.totals.emitted.fetch_add(count, Ordering::Relaxed);
    }

    fn log_slow(&self, span: &MaskedSpan) {
        let log = || {
            tracing::warn!(
                target: "spanweave::slow",
                operation = span.name(),
                duration_ms = span.duration_nanos() as f64 / 1e6,
                trace_id = %span.trace_id(),
                span_id = %span.span_id(),
                error = span.status() == StatusCode::Error,
                "slow span"
            );
        };
        match self.core.dispatch.get().and_then(|dispatch| dispatch.upgrade()) {
            Some(dispatch) => {
                self.core.guarded(|| tracing::dispatcher::with_default(&dispatch, log));
            }
            None => {
                self.core.guarded(log);
            }
        }
    }

    /// Spans that this thread holds or has passed on.
    fn settled(&self) -> u64 {
        let totals = &self.core.totals;
        self.batcher.len() as u64
            + self.roots.len() as u64
            + self.tail.as_ref().map_or(0, TailBuffer::pending) as u64
            + totals.emitted.load(Ordering::Relaxed)
            + totals.sampled_out.load(Ordering::Relaxed)
    }

    /// After a panic of our own: what it took with it is counted, so that the ledger balances.
    fn count_lost(&mut self) {
        let lost = self.at_start.saturating_sub(self.settled());
        self.core.ledger.dropped().add(DropReason::Panicked, lost);
    }
}

/// A span that is kept against the head's decision has no known probability.
fn erase_threshold(span: &mut MaskedSpan) {
    let record = span.record_mut();
    if let Some(state) = record.head.trace_state.take() {
        record.head.trace_state = match without_threshold(&state) {
            Some(changed) => Some(Arc::new(changed)),
            None => Some(state),
        };
    }
}

impl TailSpan for MaskedSpan {
    fn trace_id(&self) -> TraceId {
        self.head.trace_id
    }

    fn local_root(&self) -> SpanId {
        self.head.local_root
    }

    fn is_local_root(&self) -> bool {
        SpanRecord::is_local_root(self)
    }

    fn head_sampled(&self) -> bool {
        self.head.head_sampled
    }

    fn is_error(&self) -> bool {
        self.head.status == StatusCode::Error
    }

    fn duration_nanos(&self) -> u64 {
        SpanRecord::duration_nanos(self)
    }

    fn name(&self) -> &str {
        SpanRecord::name(self)
    }
}
