//! A series and its identity.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use opentelemetry::trace::SpanKind;
use spanweave_core::span::StatusCode;

use super::buckets::Buckets;
use super::exemplar::ExemplarSlots;
use super::metric::SpanMetric;
use crate::names;

/// The identity of a series. Kind and status are zero where they are not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) metric: SpanMetric,
    pub(crate) kind: u8,
    pub(crate) status: u8,
    /// Own values of the metric (see [`SpanMetric::own_values`]), then those of attributes:
    ///
    /// | metric | own values |
    /// |---|---|
    /// | `Spans` | operation |
    /// | `Errors` | operation, class of the error |
    /// | `Requests` | calling service, operation |
    /// | `Calls` | called service, operation |
    pub(crate) values: Box<[Arc<str>]>,
}

impl Key {
    /// What the series limit counts: the project's own names have no label for the kind, and only
    /// spans have one for the status.
    pub(crate) fn label_set(&self) -> Self {
        let status = if self.metric == SpanMetric::Spans { self.status } else { 0 };
        Self { kind: 0, status, ..self.clone() }
    }

    /// The key of the series that takes what this one cannot. A label without a value is a label
    /// that is not there.
    pub(crate) fn overflow(&self) -> Self {
        let (other, empty): (Arc<str>, Arc<str>) = (names::OTHER.into(), "".into());
        let others = self.metric.own_values().max(1);
        let value = |at| if at < others { other.clone() } else { empty.clone() };
        Self { values: (0..self.values.len()).map(value).collect(), ..self.clone() }
    }
}

/// A series that at least one span has made.
#[derive(Debug)]
pub(crate) struct Series {
    /// Never used twice, never 0.
    pub(crate) id: u32,
    pub(crate) key: Key,
    /// The bounds of a histogram.
    pub(crate) buckets: Option<Arc<Buckets>>,
    /// What threads have counted that are gone or could not use a block of their own. For a
    /// histogram the buckets (not cumulative) and the sum of nanoseconds, otherwise one count.
    pub(crate) base: Box<[AtomicU64]>,
    pub(crate) exemplars: Mutex<ExemplarSlots>,
    /// The series that this one's counts belong to since it has expired.
    pub(crate) heir: OnceLock<Arc<Series>>,
    /// The count at the last scrape that saw a change, and when that was (monotonic nanoseconds).
    pub(crate) seen: Mutex<(u64, u64)>,
}

impl Series {
    pub(crate) fn new(id: u32, key: Key, buckets: Option<Arc<Buckets>>, now: u64) -> Self {
        let (cells, exemplars) = buckets.as_ref().map_or((1, 1), |b| (b.len() + 1, b.len()));
        Self {
            id,
            key,
            buckets,
            base: zeroes(cells),
            exemplars: Mutex::new(ExemplarSlots::new(exemplars)),
            heir: OnceLock::new(),
            seen: Mutex::new((0, now)),
        }
    }

    /// Where counts of this series are shown.
    pub(crate) fn shown_as(self: &Arc<Self>) -> &Arc<Series> {
        self.heir.get().unwrap_or(self)
    }

    /// The bucket that a duration falls into; the only cell, where there are no buckets.
    pub(crate) fn bucket(&self, nanos: u64) -> usize {
        self.buckets.as_ref().map_or(0, |buckets| buckets.index(nanos))
    }

    /// The cell that takes what `other` has counted in its cell `at`. Where the bounds differ it
    /// is the bucket that holds the other one's upper bound.
    pub(crate) fn cell_of(&self, other: &Self, at: usize) -> usize {
        match (&self.buckets, &other.buckets) {
            (Some(own), Some(others)) if !Arc::ptr_eq(own, others) => {
                if at >= others.len() {
                    own.len()
                } else {
                    own.index_of_bucket(others, at)
                }
            }
            _ => at,
        }
    }

    /// Adds cells of `other` that nobody writes any more.
    pub(crate) fn fold(&self, other: &Self, cells: &[AtomicU64]) {
        for (at, cell) in cells.iter().enumerate() {
            if let Some(base) = self.base.get(self.cell_of(other, at)) {
                base.fetch_add(cell.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }
}

pub(crate) fn zeroes<C: FromIterator<AtomicU64>>(cells: usize) -> C {
    (0..cells).map(|_| AtomicU64::new(0)).collect()
}

/// The kind of a call to a database, which is a client span like others.
pub(crate) const DATABASE_CALL: u8 = 5;

#[inline]
pub(crate) fn kind_code(kind: &SpanKind) -> u8 {
    match kind {
        SpanKind::Internal => 0,
        SpanKind::Server => 1,
        SpanKind::Client => 2,
        SpanKind::Producer => 3,
        SpanKind::Consumer => 4,
    }
}

/// The kind as span metrics of the OpenTelemetry Collector have it.
pub(crate) fn kind_name(code: u8) -> &'static str {
    match code {
        1 => "SPAN_KIND_SERVER",
        2 => "SPAN_KIND_CLIENT",
        3 => "SPAN_KIND_PRODUCER",
        4 => "SPAN_KIND_CONSUMER",
        _ => "SPAN_KIND_INTERNAL",
    }
}

/// The type of a connection as service graphs of Tempo have it: empty for a plain request.
pub(crate) fn connection_type(code: u8) -> &'static str {
    match code {
        3 | 4 => "messaging_system",
        DATABASE_CALL => "database",
        _ => "",
    }
}

/// The status code of a span that failed.
pub(crate) const FAILED: u8 = 2;

#[inline]
pub(crate) fn status_code(status: StatusCode) -> u8 {
    match status {
        StatusCode::Unset => 0,
        StatusCode::Ok => 1,
        StatusCode::Error => FAILED,
    }
}

pub(crate) fn status_name(code: u8) -> &'static str {
    match code {
        0 => StatusCode::Unset.as_str(),
        1 => StatusCode::Ok.as_str(),
        _ => StatusCode::Error.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(buckets: Buckets) -> Series {
        let key = Key {
            metric: SpanMetric::Spans,
            kind: 0,
            status: 0,
            values: [Arc::from("work")].into(),
        };
        Series::new(1, key, Some(Arc::new(buckets)), 0)
    }

    #[test]
    fn counts_move_to_other_bounds_without_loss() {
        let old = series(Buckets::new([0.003, 0.1, 60.0]).unwrap_or_default());
        let heir = series(Buckets::default());
        // 3 ms go below 5 ms, 100 ms have the same bound, 60 s and more are above all bounds.
        for (cell, count) in old.base.iter().zip([1, 2, 3, 4, 500]) {
            cell.store(count, Ordering::Relaxed);
        }
        heir.fold(&old, &old.base);
        let cells: Vec<u64> = heir.base.iter().map(|c| c.load(Ordering::Relaxed)).collect();
        assert_eq!(cells, [0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 7, 500]);
    }
}
