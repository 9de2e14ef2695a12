use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::Serialize;

use crate::model::{SpanId, StoredSpan, TraceId};

/// One trace as a forest. Spans are addressed by index, ordered by start.
///
/// Invariants: never empty; every span is reached exactly once from [`tops`](Self::tops) over
/// [`children`](Self::children); children are ordered by start, then the longer first, then by id.
#[derive(Debug, Clone)]
pub struct Trace {
    id: TraceId,
    spans: Vec<Arc<StoredSpan>>,
    parent: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
    roots: Vec<usize>,
    orphans: Vec<usize>,
}

impl Trace {
    /// The tree of these spans; `None` where there are none. Spans of another trace than the first one's
    /// and repeated span ids are left out.
    ///
    /// A span whose parent is not here is an orphan. Where parents go in a circle, the span of the circle
    /// that started first becomes an orphan.
    #[must_use]
    pub fn new(spans: impl IntoIterator<Item = Arc<StoredSpan>>) -> Option<Self> {
        let mut spans: Vec<_> = spans.into_iter().collect();
        let id = spans.first()?.trace_id;
        spans.retain(|span| span.trace_id == id);
        spans.sort_by_key(|span| (span.start_ns, Reverse(span.end_ns), span.span_id));
        let mut by_id = HashMap::with_capacity(spans.len());
        let mut unique: Vec<Arc<StoredSpan>> = Vec::with_capacity(spans.len());
        for span in spans {
            by_id.entry(span.span_id).or_insert_with(|| {
                unique.push(span);
                unique.len() - 1
            });
        }
        let mut trace = Self {
            id,
            parent: vec![None; unique.len()],
            children: vec![Vec::new(); unique.len()],
            roots: Vec::new(),
            orphans: Vec::new(),
            spans: unique,
        };
        trace.connect(&by_id);
        trace.cut_circles();
        Some(trace)
    }

    /// One trace for each trace id, in the order in which they first appear.
    #[must_use]
    pub fn group(spans: impl IntoIterator<Item = Arc<StoredSpan>>) -> Vec<Self> {
        let mut order = Vec::new();
        let mut groups: HashMap<TraceId, Vec<Arc<StoredSpan>>> = HashMap::new();
        for span in spans {
            groups
                .entry(span.trace_id)
                .or_insert_with_key(|id| {
                    order.push(*id);
                    Vec::new()
                })
                .push(span);
        }
        order.iter().filter_map(|id| Self::new(groups.remove(id)?)).collect()
    }

    /// The trace id.
    #[must_use]
    pub fn id(&self) -> TraceId {
        self.id
    }

    /// The spans by start; indices of the other methods point here.
    #[must_use]
    pub fn spans(&self) -> &[Arc<StoredSpan>] {
        &self.spans
    }

    /// Number of spans, at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// The index of a span.
    #[must_use]
    pub fn find(&self, id: SpanId) -> Option<usize> {
        self.spans.iter().position(|span| span.span_id == id)
    }

    /// The parent, where it is here; also `None` for an index out of range.
    #[must_use]
    pub fn parent(&self, index: usize) -> Option<usize> {
        self.parent.get(index).copied().flatten()
    }

    /// The children by start; none for an index out of range.
    #[must_use]
    pub fn children(&self, index: usize) -> &[usize] {
        self.children.get(index).map_or(&[], Vec::as_slice)
    }

    /// Spans without a parent.
    #[must_use]
    pub fn roots(&self) -> &[usize] {
        &self.roots
    }

    /// Spans whose parent has not been received, or not yet.
    #[must_use]
    pub fn orphans(&self) -> &[usize] {
        &self.orphans
    }

    /// Roots and orphans by start.
    #[must_use]
    pub fn tops(&self) -> Vec<usize> {
        let mut tops = [self.roots.as_slice(), self.orphans.as_slice()].concat();
        tops.sort_unstable();
        tops
    }

    /// The span that stands for the trace: the longest root, or the longest orphan where no root is here;
    /// of equals the one that started first.
    #[must_use]
    pub fn main_root(&self) -> usize {
        let candidates = if self.roots.is_empty() { &self.orphans } else { &self.roots };
        candidates
            .iter()
            .copied()
            .max_by_key(|&index| (self.spans[index].duration_ns(), Reverse(index)))
            .unwrap_or(0)
    }

    /// All spans depth first with their depth, tops at 0.
    #[must_use]
    pub fn walk(&self) -> Vec<(usize, usize)> {
        let mut walked = Vec::with_capacity(self.spans.len());
        let mut stack: Vec<_> = self.tops().into_iter().rev().map(|top| (top, 0)).collect();
        while let Some((index, depth)) = stack.pop() {
            walked.push((index, depth));
            stack.extend(self.children[index].iter().rev().map(|&child| (child, depth + 1)));
        }
        walked
    }

    /// The first start.
    #[must_use]
    pub fn start_ns(&self) -> u64 {
        self.spans.first().map_or(0, |span| span.start_ns)
    }

    /// From the first start to the last end.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        let end = self.spans.iter().map(|span| span.end_ns).max().unwrap_or(0);
        end.saturating_sub(self.start_ns())
    }

    /// Number of spans with status Error.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.spans.iter().filter(|span| span.is_error()).count()
    }

    /// The services, by name.
    #[must_use]
    pub fn services(&self) -> Vec<&str> {
        let names: BTreeSet<_> = self.spans.iter().map(|span| span.service.as_str()).collect();
        names.into_iter().collect()
    }

    /// What a list of traces shows of it.
    #[must_use]
    pub fn summary(&self) -> TraceSummary {
        let root = &self.spans[self.main_root()];
        TraceSummary {
            trace_id: self.id,
            service: root.service.clone(),
            operation: root.name.clone(),
            start_ns: self.start_ns(),
            duration_ns: self.duration_ns(),
            spans: self.spans.len(),
            errors: self.errors(),
            services: self.services().into_iter().map(str::to_owned).collect(),
            complete: self.orphans.is_empty() && !self.roots.is_empty(),
        }
    }

    fn connect(&mut self, by_id: &HashMap<SpanId, usize>) {
        for (index, span) in self.spans.iter().enumerate() {
            match span.parent {
                None => self.roots.push(index),
                Some(parent) => match by_id.get(&parent) {
                    Some(&parent) => {
                        self.parent[index] = Some(parent);
                        self.children[parent].push(index);
                    }
                    None => self.orphans.push(index),
                },
            }
        }
    }

    /// What no top leads to hangs on a circle: each circle is cut in front of its first span.
    fn cut_circles(&mut self) {
        let mut reached = vec![false; self.spans.len()];
        let mut stack = self.tops();
        for start in 0..self.spans.len() {
            self.reach(&mut stack, &mut reached);
            if reached[start] {
                continue;
            }
            let top = self.first_of_circle(start);
            if let Some(parent) = self.parent[top].take() {
                self.children[parent].retain(|&child| child != top);
            }
            self.orphans.push(top);
            stack.push(top);
        }
        self.reach(&mut stack, &mut reached);
        self.orphans.sort_unstable();
    }

    fn reach(&self, stack: &mut Vec<usize>, reached: &mut [bool]) {
        while let Some(index) = stack.pop() {
            reached[index] = true;
            stack.extend(&self.children[index]);
        }
    }

    /// The smallest index on the circle that the parents of `start` run into.
    fn first_of_circle(&self, start: usize) -> usize {
        let mut seen = BTreeSet::new();
        let mut at = start;
        while seen.insert(at) {
            match self.parent[at] {
                Some(parent) => at = parent,
                None => return at,
            }
        }
        let entry = at;
        let mut first = entry;
        while let Some(parent) = self.parent[at].filter(|&parent| parent != entry) {
            first = first.min(parent);
            at = parent;
        }
        first
    }
}

/// A trace in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TraceSummary {
    /// The trace.
    pub trace_id: TraceId,
    /// The service of its [main root](Trace::main_root).
    pub service: String,
    /// The operation of its main root.
    pub operation: String,
    /// The first start, nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// From the first start to the last end.
    pub duration_ns: u64,
    /// Number of spans.
    pub spans: usize,
    /// Number of spans with status Error.
    pub errors: usize,
    /// The services, by name.
    pub services: Vec<String>,
    /// Whether the root and every parent is here.
    pub complete: bool,
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::sample::{span, span_id};

    pub(crate) fn trace(spans: impl IntoIterator<Item = StoredSpan>) -> Trace {
        Trace::new(spans.into_iter().map(Arc::new)).expect("spans")
    }

    /// Any forest, circles and missing parents included: (parent, start, length) of span 1, 2, ….
    pub(crate) fn any_trace() -> impl Strategy<Value = Trace> {
        proptest::collection::vec((0u64..14, 0u64..60, 0u64..60), 1..12).prop_map(|spans| {
            trace(
                spans
                    .into_iter()
                    .zip(1..)
                    .map(|((parent, start, length), id)| span(id, parent, start, start + length)),
            )
        })
    }

    fn ids(trace: &Trace, indices: &[usize]) -> Vec<SpanId> {
        indices.iter().map(|&index| trace.spans()[index].span_id).collect()
    }

    #[test]
    fn children_stand_in_the_order_of_their_start() {
        let trace = trace([span(3, 1, 5, 6), span(2, 1, 1, 4), span(1, 0, 0, 9), span(4, 2, 2, 3)]);
        let root = trace.main_root();
        assert_eq!(ids(&trace, trace.roots()), [span_id(1)]);
        assert_eq!(ids(&trace, trace.children(root)), [span_id(2), span_id(3)]);
        let walked: Vec<_> = trace
            .walk()
            .into_iter()
            .map(|(index, depth)| (trace.spans()[index].span_id, depth))
            .collect();
        assert_eq!(walked, [(span_id(1), 0), (span_id(2), 1), (span_id(4), 2), (span_id(3), 1)]);
    }

    #[test]
    fn a_span_without_its_parent_is_an_orphan() {
        let trace = trace([span(1, 0, 0, 9), span(3, 2, 1, 2)]);
        assert_eq!(ids(&trace, trace.orphans()), [span_id(3)]);
        assert!(!trace.summary().complete);
    }

    #[test]
    fn a_circle_is_cut_at_its_first_span_and_its_descendants_keep_their_parent() {
        // 2 → 3 → 2 is a circle; 4 hangs on it and started first; 5 is its own parent.
        let trace = trace([span(4, 3, 0, 1), span(2, 3, 1, 5), span(3, 2, 2, 4), span(5, 5, 6, 7)]);
        assert_eq!(ids(&trace, trace.orphans()), [span_id(2), span_id(5)]);
        let four = trace.find(span_id(4)).unwrap();
        assert_eq!(trace.parent(four), trace.find(span_id(3)));
    }

    #[test]
    fn a_long_chain_does_not_need_the_stack() {
        let trace = trace((1..=100_000).map(|id| span(id, id - 1, id, 200_000 - id)));
        assert_eq!(trace.walk().last().unwrap().1, 99_999);
        let path = super::super::critical_path(&trace);
        let total: u64 = path.segments.iter().map(|segment| segment.duration_ns).sum();
        assert_eq!(total, path.duration_ns);
    }

    proptest! {
        #[test]
        fn every_span_is_reached_exactly_once(trace in any_trace()) {
            let mut walked: Vec<_> = trace.walk().into_iter().map(|(index, _)| index).collect();
            walked.sort_unstable();
            prop_assert_eq!(walked, (0..trace.len()).collect::<Vec<_>>());
            for index in 0..trace.len() {
                for &child in trace.children(index) {
                    prop_assert_eq!(trace.parent(child), Some(index));
                }
            }
        }
    }
}
