use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::self_time::self_times;
use super::tree::Trace;
use crate::model::SpanKind;

/// One operation of one service over many traces. Times are nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperationStats {
    /// The service.
    pub service: String,
    /// The span name.
    pub operation: String,
    /// The spans' kind; a name used in two roles makes two operations.
    pub kind: SpanKind,
    /// Number of spans.
    pub count: u64,
    /// Of those with status Error.
    pub errors: u64,
    /// Sum of the durations.
    pub total_ns: u64,
    /// Sum of the [self times](super::self_times).
    pub self_ns: u64,
    /// Median duration; this and the others are exact, by nearest rank.
    pub p50_ns: u64,
    /// 95th percentile.
    pub p95_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// Statistics by service, operation and kind; the greatest total self time first.
#[must_use]
pub fn operations(traces: &[Trace]) -> Vec<OperationStats> {
    #[derive(Default)]
    struct Sums {
        durations: Vec<u64>,
        errors: u64,
        self_ns: u64,
    }
    let mut sums: HashMap<(&str, &str, SpanKind), Sums> = HashMap::new();
    for trace in traces {
        for (span, self_ns) in trace.spans().iter().zip(self_times(trace)) {
            let sums = sums.entry((&span.service, &span.name, span.kind)).or_default();
            sums.durations.push(span.duration_ns());
            sums.errors += u64::from(span.is_error());
            sums.self_ns = sums.self_ns.saturating_add(self_ns);
        }
    }
    let mut stats: Vec<_> = sums
        .into_iter()
        .map(|((service, operation, kind), mut sums)| {
            sums.durations.sort_unstable();
            OperationStats {
                service: service.to_owned(),
                operation: operation.to_owned(),
                kind,
                count: sums.durations.len() as u64,
                errors: sums.errors,
                total_ns: sums
                    .durations
                    .iter()
                    .fold(0, |total, duration| total.saturating_add(*duration)),
                self_ns: sums.self_ns,
                p50_ns: percentile(&sums.durations, 50),
                p95_ns: percentile(&sums.durations, 95),
                p99_ns: percentile(&sums.durations, 99),
                max_ns: sums.durations.last().copied().unwrap_or(0),
            }
        })
        .collect();
    stats.sort_by(|a, b| {
        b.self_ns.cmp(&a.self_ns).then_with(|| {
            (&a.service, &a.operation, a.kind).cmp(&(&b.service, &b.operation, b.kind))
        })
    });
    stats
}

/// Number of spans of each service, by name.
#[must_use]
pub fn spans_by_service(traces: &[Trace]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for span in traces.iter().flat_map(Trace::spans) {
        match counts.get_mut(&span.service) {
            Some(count) => *count += 1,
            None => {
                counts.insert(span.service.clone(), 1);
            }
        }
    }
    counts
}

/// Nearest rank: the smallest value with at least `percent` of the values at or below it; 0 of none.
pub(super) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::trace;
    use super::*;
    use crate::model::sample::{MS, span};

    #[test]
    fn percentiles_are_exact_by_nearest_rank() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&values, 50), 50);
        assert_eq!(percentile(&values, 95), 95);
        assert_eq!(percentile(&values, 99), 99);
        assert_eq!(percentile(&[7], 50), 7);
        assert_eq!(percentile(&[1, 9], 50), 1);
        assert_eq!(percentile(&[1, 9], 99), 9);
        assert_eq!(percentile(&[], 99), 0);
    }

    #[test]
    fn operations_are_sorted_by_the_time_that_they_spend_themselves() {
        let of = |span: crate::StoredSpan, name| span.of("users", name, SpanKind::Internal);
        let stats = operations(&[trace([
            of(span(1, 0, 0, 10), "handler"),
            of(span(2, 1, 1, 5), "query"),
            of(span(3, 1, 5, 9), "query").failed("no"),
            span(4, 0, 20, 21).of("users", "query", SpanKind::Client),
        ])]);
        assert_eq!(stats.len(), 3);
        assert_eq!((&*stats[0].operation, stats[0].count, stats[0].errors), ("query", 2, 1));
        assert_eq!((stats[0].self_ns, stats[0].p99_ns), (8 * MS, 4 * MS));
        assert_eq!((stats[1].total_ns, stats[1].self_ns), (10 * MS, 2 * MS));
        assert_eq!(stats[2].kind, SpanKind::Client);
    }

    #[test]
    fn spans_are_counted_by_service() {
        let counts = spans_by_service(&[trace([
            span(1, 0, 0, 1),
            span(2, 1, 0, 1).of("db", "q", SpanKind::Client),
            span(3, 1, 0, 1),
        ])]);
        assert_eq!(counts["shop"], 2);
        assert_eq!(counts["db"], 1);
    }
}
