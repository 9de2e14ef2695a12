//! What the application's threads, the worker and the handle share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use tracing_core::dispatcher::WeakDispatch;

use super::config::PipelineConfig;
use super::handoff::{Handoff, Outbox, Refused, Wake, bump};
use super::pool::RecordPool;
use super::signal::Signal;
use crate::ledger::{DropReason, Ledger, PipelineCounts};
use crate::masking::Masker;
use crate::ports::{
    EndingSpan, SpanEnd, SpanHook, SpanObserver, SpanSink, SpanStart, StartingSpan,
};
use crate::sampling::Sampler;
use crate::span::{SpanLimits, SpanRecord, StatusCode};

/// Records that are kept for reuse: what a busy process has in flight between two sweeps.
const POOLED_RECORDS: usize = 8 * 1024;

pub(crate) struct Core {
    pub(crate) handoff: Handoff,
    pub(crate) pool: Arc<RecordPool>,
    pub(crate) signal: Signal,
    pub(crate) resource: Arc<Resource>,
    pub(crate) limits: SpanLimits,
    pub(crate) sampler: Sampler,
    pub(crate) masker: Arc<Masker>,
    pub(crate) observers: Box<[Arc<dyn SpanObserver>]>,
    pub(crate) hooks: Box<[Arc<dyn SpanHook>]>,
    pub(crate) sinks: Box<[Arc<dyn SpanSink>]>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) log_longer_than: Option<u64>,
    /// The subscriber that the worker logs to, where the capture has been told of it.
    pub(crate) dispatch: OnceLock<WeakDispatch>,
    pub(crate) totals: Totals,
    #[cfg(feature = "bridge")]
    pub(crate) location: bool,
    #[cfg(feature = "bridge")]
    pub(crate) threads: bool,
    #[cfg(feature = "bridge")]
    pub(crate) busy_idle: bool,
}

/// What the worker and rare paths count.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Spans given to the sinks.
    pub(crate) emitted: AtomicU64,
    /// Spans that a tail decision (or the head's, seen by the worker) kept from the sinks.
    pub(crate) sampled_out: AtomicU64,
    pub(crate) undecided: AtomicU64,
    pub(crate) callback_panics: AtomicU64,
    pub(crate) orphan_events: AtomicU64,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn new(config: PipelineConfig) -> Self {
        let nanos = |limit: Duration| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Self {
            handoff: Handoff::new(config.queue),
            pool: Arc::new(RecordPool::new(POOLED_RECORDS)),
            signal: Signal::default(),
            resource: Arc::new(config.resource),
            limits: config.limits,
            sampler: config.sampler,
            masker: config.masker,
            observers: config.observers.into(),
            hooks: config.hooks.into(),
            sinks: config.sinks.into(),
            ledger: config.ledger,
            log_longer_than: config.log_spans_longer_than.map(nanos),
            dispatch: OnceLock::new(),
            totals: Totals::default(),
            #[cfg(feature = "bridge")]
            location: config.location,
            #[cfg(feature = "bridge")]
            threads: config.threads,
            #[cfg(feature = "bridge")]
            busy_idle: config.busy_idle,
        }
    }

    /// Runs foreign code; a panic in it is counted and goes no further.
    pub(crate) fn guarded<R>(&self, foreign: impl FnOnce() -> R) -> Option<R> {
        let result = catch_unwind(AssertUnwindSafe(foreign));
        if result.is_err() {
            self.totals.callback_panics.fetch_add(1, Ordering::Relaxed);
        }
        result.ok()
    }

    /// A span has started: hooks may add to it, observers count it.
    pub(crate) fn started(&self, record: &mut SpanRecord, is_recording: bool) {
        if is_recording {
            for hook in &self.hooks {
                let attribute_limit = self.limits.attributes;
                self.guarded(|| hook.on_start(&mut StartingSpan { record, attribute_limit }));
            }
        }
        for (number, observer) in self.observers.iter().enumerate() {
            let start = SpanStart::new(record);
            self.guarded(|| observer.started(&start));
            if start.is_flagged() {
                record.head.observer_flags |= flag_of(number);
            }
        }
    }

    /// A span has ended: hooks may change it, observers measure it.
    pub(crate) fn ending(&self, record: &mut SpanRecord, is_recording: bool) {
        if is_recording {
            for hook in &self.hooks {
                let attribute_limit = self.limits.attributes;
                self.guarded(|| hook.on_ending(&mut EndingSpan::new(record, attribute_limit)));
            }
        }
        if record.head.status == StatusCode::Error {
            // Behind the hooks, which may have had their say on the error.
            record.classify_error();
        }
        let mut measurements = std::mem::take(&mut record.measurements);
        for (number, observer) in self.observers.iter().enumerate() {
            let end = SpanEnd::with_flag(record, record.head.observer_flags & flag_of(number) != 0);
            let measurement = self.guarded(|| observer.ended(&end));
            measurements.push(measurement.unwrap_or_default());
        }
        record.measurements = measurements;
    }

    /// Takes a span that has ended, measured and all, on the thread that owns `outbox`. The record
    /// is empty afterwards.
    pub(crate) fn finish(&self, outbox: &Outbox, span: &mut SpanRecord) {
        bump(&outbox.counts.ended);
        let to_worker = span.head.recording
            || self.log_longer_than.is_some_and(|limit| span.duration_nanos() > limit);
        if !to_worker {
            bump(&outbox.counts.sampled_out);
            span.reset();
            return;
        }
        match self.handoff.push(outbox, span) {
            Ok(Wake::No) => {}
            Ok(Wake::Yes) => self.signal.wake(),
            Err(_) if !span.head.recording => {
                // It was to be logged only.
                bump(&outbox.counts.sampled_out);
                span.reset();
            }
            Err(refused) => {
                let reason = match refused {
                    Refused::Full => DropReason::QueueFull,
                    Refused::Stopped => DropReason::AfterShutdown,
                };
                self.ledger.dropped().add(reason, 1);
                self.signal.wake();
                span.reset();
            }
        }
    }

    /// An event that would have been a span had no parent.
    pub(crate) fn count_orphan_event(&self) {
        self.totals.orphan_events.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> PipelineCounts {
        // What leaves is read before what enters, so that a difference is never negative.
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let emitted = get(&self.totals.emitted);
        let sampled_by_worker = get(&self.totals.sampled_out);
        let dropped = self.ledger.dropped().total();
        let [started, ended, sampled_out] = self.handoff.counts();
        let sampled_out = sampled_out + sampled_by_worker;
        PipelineCounts {
            started,
            ended,
            sampled_out,
            pending: ended.saturating_sub(emitted + dropped + sampled_out),
            undecided: get(&self.totals.undecided),
            capacity: self.handoff.capacity().spans as u64,
            callback_panics: get(&self.totals.callback_panics),
            orphan_events: get(&self.totals.orphan_events),
        }
    }
}

/// The bit of an observer in `observer_flags`; none above the eighth.
fn flag_of(observer: usize) -> u8 {
    u32::try_from(observer).ok().and_then(|bit| 1_u8.checked_shl(bit)).unwrap_or_default()
}
