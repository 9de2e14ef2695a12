use super::tree::Trace;

/// Time of each span, in nanoseconds, in which none of its children ran: its duration minus the union of
/// their intervals, clipped to its own. In the order of [`Trace::spans`].
///
/// A child that goes on after its parent takes nothing from the parent beyond the parent's end.
#[must_use]
pub fn self_times(trace: &Trace) -> Vec<u64> {
    (0..trace.len()).map(|index| self_time(trace, index)).collect()
}

fn self_time(trace: &Trace, index: usize) -> u64 {
    let span = &trace.spans()[index];
    let mut covered = 0;
    // Everything before `reach` has been looked at; children come by start.
    let mut reach = span.start_ns;
    for &child in trace.children(index) {
        let child = &trace.spans()[child];
        let (start, end) = (child.start_ns.max(reach), child.end_ns.min(span.end_ns));
        if end > start {
            covered += end - start;
            reach = end;
        }
    }
    span.duration_ns() - covered
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tree::tests::{any_trace, trace};
    use super::*;
    use crate::model::sample::{MS, span};

    #[test]
    fn overlapping_children_count_once_and_are_clipped() {
        // Root 10..30; children 8..12, 11..15, 20..22, 21..21, 28..40: covered 10..15, 20..22, 28..30.
        let trace = trace([
            span(1, 0, 10, 30),
            span(2, 1, 8, 12),
            span(3, 1, 11, 15),
            span(4, 1, 20, 22),
            span(5, 1, 21, 21),
            span(6, 1, 28, 40),
        ]);
        let times = self_times(&trace);
        assert_eq!(times[trace.main_root()], (20 - 5 - 2 - 2) * MS);
    }

    #[test]
    fn a_clock_that_ran_backwards_gives_zero() {
        let trace = trace([span(1, 0, 5, 3), span(2, 1, 1, 9)]);
        let times = self_times(&trace);
        assert_eq!(times[trace.main_root()], 0);
    }

    proptest! {
        #[test]
        fn self_time_is_what_no_child_covers(trace in any_trace()) {
            let times = self_times(&trace);
            for (index, span) in trace.spans().iter().enumerate() {
                // Counted millisecond by millisecond.
                let uncovered = (span.start_ns..span.end_ns)
                    .step_by(MS as usize)
                    .filter(|at| !trace.children(index).iter().any(|&child| {
                        let child = &trace.spans()[child];
                        (child.start_ns..child.end_ns).contains(at)
                    }))
                    .count() as u64;
                prop_assert_eq!(times[index], uncovered * MS);
            }
        }
    }
}
