//! The ledger as families.
//!
//! For each backend, at rest, the sum over these is `spanweave_spans_ended_total`:
//! `otel_sdk_exporter_span_exported_total` (with and without `error_type`),
//! `otel_sdk_processor_span_processed_total` with `error_type`,
//! `spanweave_backend_sampled_out_spans_total` and `spanweave_backend_pending_spans`.

use std::sync::Mutex;

use spanweave_core::ledger::{BackendLedger, DropCounters, DropReason, Ledger, PipelineCounts};
use spanweave_core::propagation::malformed_headers;
use spanweave_core::sync::lock;

use crate::model::{Family, FamilyKind, Label, Point};
use crate::names::{self, Described};

/// What the last scrape said, for figures that are differences of counters: those are read one
/// after the other and could go back by a few spans between two scrapes.
#[derive(Debug, Default)]
pub(crate) struct LedgerState {
    processed: Mutex<u64>,
}

/// The ledger's families; none if no pipeline writes to it.
pub(crate) fn ledger_families(ledger: &Ledger, state: &LedgerState) -> Vec<Family> {
    let counts = ledger.pipeline();
    let backends = ledger.backends();
    if counts == PipelineCounts::default() && backends.is_empty() {
        return Vec::new();
    }
    let mut families = pipeline(ledger, counts, state);
    let backend = |described, kind, value: &dyn Fn(&BackendLedger) -> u64| {
        let points = backends.iter().map(|b| Point::integer(component(b), value(b))).collect();
        Family::new(described, kind, points)
    };
    let reports: Vec<_> =
        backends.iter().map(|backend| (backend, ledger.report(backend))).collect();
    let reported = |described, kind, value: fn(&spanweave_core::ledger::BackendReport) -> u64| {
        let points = reports.iter().map(|(b, report)| Point::integer(component(b), value(report)));
        Family::new(described, kind, points.collect())
    };
    let exported = backends.iter().flat_map(|backend| {
        let delivered = Point::integer(component(backend), backend.delivered());
        std::iter::once(delivered).chain(by_reason(backend.dropped(), component(backend)))
    });
    families.extend([
        backend(names::IN_FLIGHT, FamilyKind::Gauge, &|backend| backend.in_flight()),
        Family::new(names::EXPORTED, FamilyKind::Counter, exported.collect()),
        reported(names::BACKEND_SAMPLED_OUT, FamilyKind::Counter, |report| report.sampled_out),
        reported(names::BACKEND_PENDING, FamilyKind::Gauge, |report| report.pending),
        reported(names::BACKEND_UP, FamilyKind::Gauge, |report| {
            u64::from(report.down_since.is_none())
        }),
        backend(names::BACKEND_REQUESTS, FamilyKind::Counter, &|backend| backend.requests().0),
        backend(names::BACKEND_REQUESTS_FAILED, FamilyKind::Counter, &|backend| {
            backend.requests().1
        }),
    ]);
    families
}

fn pipeline(ledger: &Ledger, counts: PipelineCounts, state: &LedgerState) -> Vec<Family> {
    let one = |described: Described, kind, value| {
        Family::new(described, kind, vec![Point::integer(Vec::new(), value)])
    };
    let gone = ledger.dropped().total() + counts.sampled_out + counts.pending;
    let processed = {
        let mut last = lock(&state.processed);
        *last = (*last).max(counts.ended.saturating_sub(gone));
        *last
    };
    let mut by_outcome = vec![Point::integer(Vec::new(), processed)];
    by_outcome.extend(by_reason(ledger.dropped(), Vec::new()));
    vec![
        one(names::SPANS_STARTED, FamilyKind::Counter, counts.started),
        one(names::SPANS_LIVE, FamilyKind::Gauge, counts.started.saturating_sub(counts.ended)),
        one(names::ENDED, FamilyKind::Counter, counts.ended),
        one(names::SAMPLED_OUT, FamilyKind::Counter, counts.sampled_out),
        one(names::QUEUE_SIZE, FamilyKind::Gauge, counts.pending),
        one(names::QUEUE_CAPACITY, FamilyKind::Gauge, counts.capacity),
        Family::new(names::PROCESSED, FamilyKind::Counter, by_outcome),
        one(names::CALLBACK_PANICS, FamilyKind::Counter, counts.callback_panics),
        one(names::ORPHAN_EVENTS, FamilyKind::Counter, counts.orphan_events),
        one(names::MALFORMED_HEADERS, FamilyKind::Counter, malformed_headers()),
    ]
}

/// A point for each reason for which spans were dropped.
fn by_reason(dropped: &DropCounters, labels: Vec<Label>) -> impl Iterator<Item = Point> {
    DropReason::ALL.into_iter().filter_map(move |reason| {
        let count = dropped.get(reason);
        let mut labels = labels.clone();
        labels.push((names::ERROR_TYPE.into(), reason.as_str().into()));
        (count > 0).then(|| Point::integer(labels, count))
    })
}

fn component(backend: &BackendLedger) -> Vec<Label> {
    vec![
        (names::COMPONENT_TYPE.into(), backend.kind().into()),
        (names::COMPONENT_NAME.into(), crate::label::harmless(backend.name()).into()),
    ]
}
