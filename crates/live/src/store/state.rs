use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use crate::model::{SpanId, StoredSpan, TraceId};

/// How much a [`TraceStore`](super::TraceStore) keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Spans; 100 000 by default.
    pub spans: usize,
    /// Bytes of spans, as [`StoredSpan::size_bytes`] estimates them; 256 MiB by default.
    pub bytes: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { spans: 100_000, bytes: 256 << 20 }
    }
}

/// What became of the spans received: `received = stored + duplicates + evicted_spans + refused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct StoreCounts {
    /// Spans that came in.
    pub received: u64,
    /// Spans that are here now.
    pub stored: u64,
    /// Spans whose trace id and span id were here already; the first one stays.
    pub duplicates: u64,
    /// Traces that went to make room.
    pub evicted_traces: u64,
    /// Spans of those.
    pub evicted_spans: u64,
    /// Spans that did not fit although no other trace was left to go.
    pub refused: u64,
}

/// One consistent state of a store.
#[derive(Debug, Clone, Copy)]
pub struct View<'a>(&'a State);

impl<'a> View<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        Self(state)
    }

    /// Number of spans stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.spans
    }

    /// Whether no span is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.spans == 0
    }

    /// Number of traces stored.
    #[must_use]
    pub fn trace_count(&self) -> usize {
        self.0.order.len()
    }

    /// What came in and what became of it.
    #[must_use]
    pub fn counts(&self) -> StoreCounts {
        StoreCounts { stored: self.0.spans as u64, ..self.0.counts }
    }

    /// The spans of each trace, oldest trace first.
    pub fn traces(&self) -> impl Iterator<Item = &'a [Arc<StoredSpan>]> + use<'a> {
        let state = self.0;
        state.order.iter().filter_map(|id| state.traces.get(id)).map(|entry| entry.spans.as_slice())
    }

    /// All spans: oldest trace first, within a trace in the order received.
    pub fn spans(&self) -> impl Iterator<Item = &'a Arc<StoredSpan>> + use<'a> {
        self.traces().flatten()
    }

    /// The spans of this name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &'a Arc<StoredSpan>> {
        self.spans().filter(move |span| span.name == name)
    }

    /// The spans of this service.
    pub fn of_service(&self, service: &str) -> impl Iterator<Item = &'a Arc<StoredSpan>> {
        self.spans().filter(move |span| span.service == service)
    }

    /// The spans of one trace in the order received; none where it is unknown.
    #[must_use]
    pub fn trace(&self, id: TraceId) -> &'a [Arc<StoredSpan>] {
        self.0.traces.get(&id).map_or(&[], |entry| &entry.spans)
    }
}

/// Invariants: `order` holds the keys of `traces`, each once, oldest first; `spans` and `bytes` are the
/// sums over `traces`; no trace is empty.
#[derive(Debug)]
pub(super) struct State {
    limits: StoreLimits,
    traces: HashMap<TraceId, Entry>,
    order: VecDeque<TraceId>,
    spans: usize,
    bytes: usize,
    counts: StoreCounts,
}

#[derive(Debug, Default)]
struct Entry {
    spans: Vec<Arc<StoredSpan>>,
    ids: HashSet<SpanId>,
    bytes: usize,
}

impl State {
    pub(super) fn new(limits: StoreLimits) -> Self {
        Self {
            limits,
            traces: HashMap::new(),
            order: VecDeque::new(),
            spans: 0,
            bytes: 0,
            counts: StoreCounts::default(),
        }
    }

    pub(super) fn add(&mut self, span: StoredSpan) {
        self.counts.received += 1;
        let id = span.trace_id;
        if self.traces.get(&id).is_some_and(|entry| entry.ids.contains(&span.span_id)) {
            self.counts.duplicates += 1;
            return;
        }
        let bytes = span.size_bytes();
        while !self.fits(bytes) {
            if !self.evict_oldest_but(id) {
                self.counts.refused += 1;
                return;
            }
        }
        let entry = self.traces.entry(id).or_insert_with(|| {
            self.order.push_back(id);
            Entry::default()
        });
        entry.ids.insert(span.span_id);
        entry.spans.push(Arc::new(span));
        entry.bytes += bytes;
        self.spans += 1;
        self.bytes += bytes;
    }

    pub(super) fn clear(&mut self) {
        self.counts.evicted_traces += self.traces.len() as u64;
        self.counts.evicted_spans += self.spans as u64;
        self.traces.clear();
        self.order.clear();
        self.spans = 0;
        self.bytes = 0;
    }

    fn fits(&self, bytes: usize) -> bool {
        self.spans < self.limits.spans && self.bytes.saturating_add(bytes) <= self.limits.bytes
    }

    fn evict_oldest_but(&mut self, keep: TraceId) -> bool {
        // The trace to keep is at most one place from the front that has to be passed.
        let Some(position) = self.order.iter().position(|id| *id != keep) else {
            return false;
        };
        let Some(entry) = self.order.remove(position).and_then(|id| self.traces.remove(&id)) else {
            return false;
        };
        self.spans -= entry.spans.len();
        self.bytes -= entry.bytes;
        self.counts.evicted_traces += 1;
        self.counts.evicted_spans += entry.spans.len() as u64;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::sample::{span, trace_id};

    fn limited(spans: usize) -> State {
        State::new(StoreLimits { spans, ..StoreLimits::default() })
    }

    #[test]
    fn a_span_sent_twice_is_counted_and_stored_once() {
        let mut state = limited(10);
        state.add(span(1, 0, 0, 1));
        state.add(span(1, 0, 0, 2));
        state.add(span(1, 0, 0, 1).in_trace(2));
        let view = View::of(&state);
        assert_eq!(view.len(), 2);
        assert_eq!(view.counts().duplicates, 1);
        assert_eq!(view.trace(trace_id(1))[0].duration_ns(), 1_000_000);
    }

    #[test]
    fn the_oldest_trace_goes_whole() {
        let mut state = limited(3);
        for (id, trace) in [(1, 1), (2, 1), (3, 2), (4, 3)] {
            state.add(span(id, 0, 0, 1).in_trace(trace));
        }
        let view = View::of(&state);
        assert!(view.trace(trace_id(1)).is_empty());
        assert_eq!(view.len(), 2);
        assert_eq!((view.counts().evicted_traces, view.counts().evicted_spans), (1, 2));
    }

    #[test]
    fn a_trace_does_not_push_out_its_own_spans() {
        let mut state = limited(2);
        for id in 1..=3 {
            state.add(span(id, 0, 0, 1));
        }
        assert_eq!(View::of(&state).counts().refused, 1);
        assert_eq!(View::of(&state).len(), 2);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut state = State::new(StoreLimits { spans: 100, bytes: 10_000 });
        for trace in 1..=20 {
            state.add(span(1, 0, 0, 1).with("text", &"x".repeat(3000)).in_trace(trace));
        }
        assert!(state.bytes <= 10_000);
        assert!(View::of(&state).len() >= 2);
        state.add(span(1, 0, 0, 1).with("text", &"x".repeat(20_000)).in_trace(99));
        assert_eq!(View::of(&state).counts().refused, 1);
    }

    proptest! {
        #[test]
        fn every_span_received_is_accounted_for(
            adds in proptest::collection::vec((1u64..6, 1u64..9), 0..80),
            limit in 0usize..12,
        ) {
            let mut state = limited(limit);
            for (trace, id) in adds {
                state.add(span(id, 0, 0, 1).in_trace(trace));
            }
            let view = View::of(&state);
            let counts = view.counts();
            prop_assert_eq!(
                counts.received,
                counts.stored + counts.duplicates + counts.evicted_spans + counts.refused
            );
            prop_assert!(view.len() <= limit);
            prop_assert_eq!(view.spans().count(), view.len());
            prop_assert_eq!(state.order.len(), state.traces.len());
            prop_assert_eq!(state.traces.values().map(|entry| entry.bytes).sum::<usize>(), state.bytes);
        }
    }
}
