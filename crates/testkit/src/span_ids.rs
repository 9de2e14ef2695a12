use std::borrow::Borrow;
use std::collections::HashMap;

use spanweave_live::{SpanId, StoredSpan, TraceId};

/// Counts spans by identity: what was delivered at least once, and what more than once.
#[derive(Debug, Clone, Default)]
pub struct SpanIds {
    seen: HashMap<(TraceId, SpanId), usize>,
}

impl SpanIds {
    /// Number of different spans.
    #[must_use]
    pub fn unique(&self) -> usize {
        self.seen.len()
    }

    /// Number of spans, repetitions included.
    #[must_use]
    pub fn total(&self) -> usize {
        self.seen.values().sum()
    }

    /// Repetitions: total minus unique.
    #[must_use]
    pub fn duplicates(&self) -> usize {
        self.total() - self.unique()
    }

    /// Whether this span was seen.
    #[must_use]
    pub fn contains(&self, trace_id: TraceId, span_id: SpanId) -> bool {
        self.seen.contains_key(&(trace_id, span_id))
    }
}

impl<S: Borrow<StoredSpan>> Extend<S> for SpanIds {
    fn extend<I: IntoIterator<Item = S>>(&mut self, spans: I) {
        for span in spans {
            let span = span.borrow();
            *self.seen.entry((span.trace_id, span.span_id)).or_default() += 1;
        }
    }
}

impl<S: Borrow<StoredSpan>> FromIterator<S> for SpanIds {
    fn from_iter<I: IntoIterator<Item = S>>(spans: I) -> Self {
        let mut ids = Self::default();
        ids.extend(spans);
        ids
    }
}
