use serde::Serialize;

use super::tree::Trace;
use crate::model::SpanId;

/// The chain of work that a trace's duration consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CriticalPath {
    /// The span that it covers, from its start to its end: [`Trace::main_root`].
    pub root: SpanId,
    /// That span's duration; the durations of the segments add up to it.
    pub duration_ns: u64,
    /// In the order of time, without gap or overlap, none empty. A span comes once for each stretch in
    /// which the path is in itself and not in a child.
    pub segments: Vec<Segment>,
}

/// A stretch of a [`CriticalPath`]: to make the trace faster, make this faster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// The span's service.
    pub service: String,
    /// The span's name.
    pub operation: String,
    /// The span.
    pub span_id: SpanId,
    /// From the root's start.
    pub offset_ns: u64,
    /// What the span itself contributes here.
    pub duration_ns: u64,
}

/// The critical path of a trace's [main root](Trace::main_root).
///
/// Walks backwards from the root's end: the child that finished last was waited for, so the path goes
/// through it, and from its start on backwards to the child that had finished last by then. What no child
/// covers is the span's own. Children are clipped to their parent, so work that goes on after its parent's
/// end (or that a clock skew puts there) is not on the path.
#[must_use]
pub fn critical_path(trace: &Trace) -> CriticalPath {
    let root = trace.main_root();
    let origin = trace.spans()[root].start_ns;
    let mut segments: Vec<Segment> = stretches(trace, root)
        .into_iter()
        .map(|stretch| {
            let span = &trace.spans()[stretch.index];
            Segment {
                service: span.service.clone(),
                operation: span.name.clone(),
                span_id: span.span_id,
                offset_ns: stretch.from - origin,
                duration_ns: stretch.to - stretch.from,
            }
        })
        .collect();
    segments.reverse();
    CriticalPath {
        root: trace.spans()[root].span_id,
        duration_ns: trace.spans()[root].duration_ns(),
        segments,
    }
}

/// `from < to`, in absolute nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    index: usize,
    from: u64,
    to: u64,
}

enum Step {
    /// The span's own work.
    Own(Stretch),
    /// A span still to be taken apart.
    Whole(Stretch),
}

/// The path from the end to the start.
fn stretches(trace: &Trace, root: usize) -> Vec<Stretch> {
    let span = &trace.spans()[root];
    let mut path = Vec::new();
    let mut stack = Vec::new();
    if span.start_ns < span.end_ns {
        stack.push(Step::Whole(Stretch { index: root, from: span.start_ns, to: span.end_ns }));
    }
    while let Some(step) = stack.pop() {
        match step {
            Step::Own(stretch) => path.push(stretch),
            Step::Whole(stretch) => {
                let at = stack.len();
                take_apart(trace, stretch, &mut stack);
                // Steps come from the end backwards, and the last one pushed is the first one popped.
                stack[at..].reverse();
            }
        }
    }
    path
}

fn take_apart(trace: &Trace, whole: Stretch, steps: &mut Vec<Step>) {
    let mut children: Vec<Stretch> = trace
        .children(whole.index)
        .iter()
        .map(|&index| {
            let child = &trace.spans()[index];
            Stretch { index, from: child.start_ns.max(whole.from), to: child.end_ns.min(whole.to) }
        })
        .filter(|child| child.from < child.to)
        .collect();
    // The last to finish first; of those the one that started first, which leaves the shortest rest.
    children.sort_by_key(|child| (std::cmp::Reverse(child.to), child.from));

    let mut cursor = whole.to;
    for child in children {
        if child.to > cursor {
            continue;
        }
        if child.to < cursor {
            steps.push(Step::Own(Stretch { index: whole.index, from: child.to, to: cursor }));
        }
        cursor = child.from;
        steps.push(Step::Whole(child));
    }
    if whole.from < cursor {
        steps.push(Step::Own(Stretch { index: whole.index, from: whole.from, to: cursor }));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tree::tests::{any_trace, trace};
    use super::*;
    use crate::model::sample::{MS, span, span_id};

    fn path_of(trace: &Trace) -> Vec<(u64, u64, u64)> {
        critical_path(trace)
            .segments
            .iter()
            .map(|segment| {
                let id = u64::from_be_bytes(*segment.span_id.as_bytes());
                (id, segment.offset_ns / MS, segment.duration_ns / MS)
            })
            .collect()
    }

    #[test]
    fn the_path_goes_through_the_children_that_finished_last() {
        // Root 0..100. A 10..40 and B 20..60 overlap, C 70..90 has a child D 75..90.
        // Backwards: root 90..100, D 75..90, C 70..75, root 60..70, B 20..60, root 0..20 (A ended later
        // than B's start, so B did not wait for it).
        let trace = trace([
            span(1, 0, 0, 100),
            span(2, 1, 10, 40),
            span(3, 1, 20, 60),
            span(4, 1, 70, 90),
            span(5, 4, 75, 90),
        ]);
        assert_eq!(
            path_of(&trace),
            [(1, 0, 20), (3, 20, 40), (1, 60, 10), (4, 70, 5), (5, 75, 15), (1, 90, 10)]
        );
    }

    #[test]
    fn of_sequential_children_all_are_on_the_path() {
        let trace = trace([span(1, 0, 0, 30), span(2, 1, 0, 10), span(3, 1, 10, 30)]);
        assert_eq!(path_of(&trace), [(2, 0, 10), (3, 10, 20)]);
    }

    #[test]
    fn a_child_that_outlives_its_parent_is_clipped() {
        let trace =
            trace([span(1, 0, 0, 10), span(2, 1, 5, 50), span(3, 2, 8, 40), span(4, 1, 20, 30)]);
        assert_eq!(path_of(&trace), [(1, 0, 5), (2, 5, 3), (3, 8, 2)]);
        assert_eq!(critical_path(&trace).root, span_id(1));
    }

    #[test]
    fn a_root_without_duration_has_an_empty_path() {
        let trace = trace([span(1, 0, 5, 5), span(2, 1, 5, 5)]);
        assert_eq!(path_of(&trace), []);
    }

    proptest! {
        #[test]
        fn the_segments_tile_the_root(trace in any_trace()) {
            let path = critical_path(&trace);
            let mut at = 0;
            for segment in &path.segments {
                prop_assert!(segment.duration_ns > 0);
                prop_assert_eq!(segment.offset_ns, at);
                at += segment.duration_ns;
                let span = &trace.spans()[trace.find(segment.span_id).unwrap()];
                let start = trace.spans()[trace.main_root()].start_ns + segment.offset_ns;
                prop_assert!(span.start_ns <= start && start + segment.duration_ns <= span.end_ns);
            }
            prop_assert_eq!(at, path.duration_ns);
        }
    }
}
