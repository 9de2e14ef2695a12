//! A series and its identity.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use opentelemetry::trace::SpanKind;
use spanweave_core::span::StatusCode;

use super::exemplar::ExemplarSlots;
use crate::names;

/// What is counted for itself. The duration histogram and the counter of spans are views of the
/// same series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Metric {
    /// Values: operation, then the configured labels.
    Spans,
    /// Values: operation, class of the error.
    Errors,
    /// Values: calling service, operation.
    Requests,
}

impl Metric {
    pub(crate) const ALL: [Self; 3] = [Self::Spans, Self::Errors, Self::Requests];
}

/// The identity of a series. Kind and status are zero where they are not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) metric: Metric,
    pub(crate) kind: u8,
    pub(crate) status: u8,
    pub(crate) values: Box<[Arc<str>]>,
}

impl Key {
    /// What the series limit counts: the project's own names have no label for the kind.
    pub(crate) fn without_kind(&self) -> Self {
        Self { kind: 0, ..self.clone() }
    }

    /// The key of the series that takes what this one cannot.
    pub(crate) fn overflow(&self) -> Self {
        let other: Arc<str> = names::OTHER.into();
        let empty: Arc<str> = "".into();
        let values = (0..self.values.len())
            .map(|at| match self.metric {
                // A label without a value is a label that is not there.
                Metric::Spans if at > 0 => empty.clone(),
                _ => other.clone(),
            })
            .collect();
        Self { values, ..self.clone() }
    }
}

/// A series that at least one span has made.
#[derive(Debug)]
pub(crate) struct Series {
    /// Never used twice, never 0.
    pub(crate) id: u32,
    pub(crate) key: Key,
    /// What threads have counted that are gone or could not use a block of their own. For spans
    /// the buckets (not cumulative) and the sum of nanoseconds, otherwise one counter.
    pub(crate) base: Box<[AtomicU64]>,
    pub(crate) exemplars: Mutex<ExemplarSlots>,
    /// The series that this one's counts belong to since it has expired.
    pub(crate) heir: OnceLock<Arc<Series>>,
    /// The count at the last scrape that saw a change, and when that was (monotonic nanoseconds).
    pub(crate) seen: Mutex<(u64, u64)>,
}

impl Series {
    pub(crate) fn new(id: u32, key: Key, cells: usize, exemplars: usize, now: u64) -> Self {
        Self {
            id,
            key,
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

    /// Adds cells that nobody writes any more.
    pub(crate) fn fold(&self, cells: &[AtomicU64]) {
        for (base, cell) in self.base.iter().zip(cells) {
            base.fetch_add(cell.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

pub(crate) fn zeroes<C: FromIterator<AtomicU64>>(cells: usize) -> C {
    (0..cells).map(|_| AtomicU64::new(0)).collect()
}

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

#[inline]
pub(crate) fn status_code(status: StatusCode) -> u8 {
    match status {
        StatusCode::Unset => 0,
        StatusCode::Ok => 1,
        StatusCode::Error => 2,
    }
}

pub(crate) fn status_name(code: u8) -> &'static str {
    match code {
        0 => StatusCode::Unset.as_str(),
        1 => StatusCode::Ok.as_str(),
        _ => StatusCode::Error.as_str(),
    }
}
