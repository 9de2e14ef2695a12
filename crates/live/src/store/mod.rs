//! The received spans: bounded, searchable, awaitable.
//!
//! Limits: spans and bytes ([`StoreLimits`]). When a span does not fit, the trace that was seen first goes,
//! whole; a trace never pushes out its own spans, so where only it is left the new span is refused.
//! Invariant: `received = stored + duplicates + evicted_spans + refused`.

mod state;

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::analysis::Trace;
use crate::model::{StoredSpan, TraceId};
use crate::sync::lock;

pub use state::{StoreCounts, StoreLimits, View};

use state::State;

/// A bounded store of spans in memory, shared by the receiver, the page and whoever asks.
#[derive(Debug)]
pub struct TraceStore {
    state: Mutex<State>,
    changed: Condvar,
}

impl TraceStore {
    /// An empty store.
    #[must_use]
    pub fn new(limits: StoreLimits) -> Self {
        Self { state: Mutex::new(State::new(limits)), changed: Condvar::new() }
    }

    /// Adds spans and wakes who waits.
    pub fn add(&self, spans: impl IntoIterator<Item = StoredSpan>) {
        let mut state = lock(&self.state);
        for span in spans {
            state.add(span);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Looks at one consistent state; the store is locked meanwhile, so `read` must not use the store
    /// but the [`View`] that it is given.
    pub fn read<T>(&self, read: impl FnOnce(&View<'_>) -> T) -> T {
        read(&View::of(&lock(&self.state)))
    }

    /// Blocks until `condition` holds or `timeout` has passed; says whether it holds. It is asked at once
    /// and after every message, under the lock (see [`read`](Self::read)).
    pub fn wait_for(
        &self,
        mut condition: impl FnMut(&View<'_>) -> bool,
        timeout: Duration,
    ) -> bool {
        let (_state, waited) = self
            .changed
            .wait_timeout_while(lock(&self.state), timeout, |state| !condition(&View::of(state)))
            .unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }

    /// Number of spans stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read(|view| view.len())
    }

    /// Whether no span is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What came in and what became of it.
    #[must_use]
    pub fn counts(&self) -> StoreCounts {
        self.read(|view| view.counts())
    }

    /// All spans: oldest trace first, within a trace in the order received.
    #[must_use]
    pub fn spans(&self) -> Vec<Arc<StoredSpan>> {
        self.read(|view| view.spans().cloned().collect())
    }

    /// The spans of this name, in the order of [`spans`](Self::spans).
    #[must_use]
    pub fn spans_named(&self, name: &str) -> Vec<Arc<StoredSpan>> {
        self.read(|view| view.named(name).cloned().collect())
    }

    /// The spans of this service, in the order of [`spans`](Self::spans).
    #[must_use]
    pub fn spans_of(&self, service: &str) -> Vec<Arc<StoredSpan>> {
        self.read(|view| view.of_service(service).cloned().collect())
    }

    /// One trace, as far as it was received.
    #[must_use]
    pub fn trace(&self, id: TraceId) -> Option<Trace> {
        let spans = self.read(|view| view.trace(id).to_vec());
        Trace::new(spans)
    }

    /// All traces, oldest first.
    #[must_use]
    pub fn traces(&self) -> Vec<Trace> {
        self.recent(usize::MAX)
    }

    /// The last `count` traces by first arrival, oldest first.
    #[must_use]
    pub fn recent(&self, count: usize) -> Vec<Trace> {
        // The trees are built after the lock is given back: receiving does not wait for them.
        let groups = self.read(|view| {
            view.traces()
                .skip(view.trace_count().saturating_sub(count))
                .map(<[_]>::to_vec)
                .collect::<Vec<_>>()
        });
        groups.into_iter().filter_map(Trace::new).collect()
    }

    /// Forgets all spans; the counts stay, what was stored counts as evicted.
    pub fn clear(&self) {
        lock(&self.state).clear();
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::{span, trace_id};

    #[test]
    fn a_waiting_reader_wakes_when_the_condition_holds() {
        let store = Arc::new(TraceStore::new(StoreLimits::default()));
        let writer = Arc::clone(&store);
        let thread = std::thread::spawn(move || {
            for id in 1..=3 {
                std::thread::sleep(Duration::from_millis(5));
                writer.add([span(id, 0, 0, 1)]);
            }
        });
        assert!(store.wait_for(|view| view.len() == 3, Duration::from_secs(10)));
        assert!(!store.wait_for(|view| view.len() == 4, Duration::from_millis(5)));
        thread.join().unwrap();
    }

    #[test]
    fn queries_find_by_trace_name_and_service() {
        let store = TraceStore::new(StoreLimits::default());
        store.add([span(1, 0, 0, 9), span(2, 1, 1, 2), span(3, 0, 0, 1).in_trace(2)]);
        assert_eq!(store.trace(trace_id(1)).unwrap().len(), 2);
        assert!(store.trace(trace_id(9)).is_none());
        assert_eq!(store.spans_named("op3")[0].trace_id, trace_id(2));
        assert_eq!(store.spans_of("shop").len(), 3);
        assert!(store.spans_of("bank").is_empty());
        assert_eq!(store.recent(1)[0].id(), trace_id(2));
        store.clear();
        assert!(store.is_empty());
        assert_eq!(store.counts().evicted_spans, 3);
    }
}
