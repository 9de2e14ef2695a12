//! A backend in memory.

use std::sync::{Arc, Mutex, OnceLock};

use spanweave_core::clock::Deadline;
use spanweave_core::ledger::{BackendLedger, BackendReport, Ledger};
use spanweave_core::sync::lock;
use spanweave_core::{MaskedBatch, SpanSink};

use super::span::TestSpan;

/// Keeps every span. Its account is opened when the first batch or question comes, in a ledger of
/// its own: the pipeline's counters stay free of it.
#[derive(Default)]
pub(crate) struct Memory {
    spans: Mutex<Vec<TestSpan>>,
    account: OnceLock<(Ledger, Arc<BackendLedger>)>,
}

impl Memory {
    pub(crate) fn spans(&self) -> Vec<TestSpan> {
        lock(&self.spans).clone()
    }

    pub(crate) fn clear(&self) {
        lock(&self.spans).clear();
    }

    fn account(&self) -> &(Ledger, Arc<BackendLedger>) {
        self.account.get_or_init(|| {
            let ledger = Ledger::new();
            let backend = ledger.open("memory", "in_memory_span_exporter");
            (ledger, backend)
        })
    }

    fn report(&self) -> Vec<BackendReport> {
        let (ledger, backend) = self.account();
        vec![ledger.report(backend)]
    }
}

impl SpanSink for Memory {
    fn accept(&self, batch: Arc<MaskedBatch>) {
        let count = batch.len() as u64;
        let (_, backend) = self.account();
        backend.accept(count);
        lock(&self.spans).extend(batch.spans().iter().map(|span| TestSpan::new(span)));
        backend.deliver(count);
    }

    fn flush(&self, _: Deadline) -> Vec<BackendReport> {
        self.report()
    }

    fn shutdown(&self, _: Deadline) -> Vec<BackendReport> {
        self.report()
    }
}
