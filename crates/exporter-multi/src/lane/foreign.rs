//! The lane of an exporter that others have written.
//!
//! The exporter is made, used and dropped on the lane's own thread, inside an *entered*
//! multi-thread runtime with one worker: exporters that look for a runtime find one that stays,
//! and since nothing is polled by a runtime's `block_on`, blocking ones may block. Futures are
//! polled by [`block_on`] up to a deadline; one that is not ready by then is dropped. A call that
//! does not return at all is marked stuck; its lane's queue fills and then drops, and nobody
//! else waits for it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use spanweave_core::MaskedBatch;
use spanweave_core::clock::Deadline;
use spanweave_core::ledger::DropReason;

use super::queue::{Fate, Queue};

/// Makes an exporter, on the lane's thread.
pub(crate) type MakeExporter = Box<dyn FnOnce() -> Box<dyn Exporter> + Send>;

/// A [`SpanExporter`] of any type.
pub(crate) trait Exporter {
    /// `None`: not ready by the deadline.
    fn export(&self, spans: Vec<SpanData>, deadline: Deadline) -> Option<OTelSdkResult>;
    fn shutdown(&self, timeout: Duration) -> OTelSdkResult;
    fn set_resource(&mut self, resource: &Resource);
}

impl<E: SpanExporter> Exporter for E {
    fn export(&self, spans: Vec<SpanData>, deadline: Deadline) -> Option<OTelSdkResult> {
        block_on(SpanExporter::export(self, spans), deadline)
    }

    fn shutdown(&self, timeout: Duration) -> OTelSdkResult {
        self.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        SpanExporter::set_resource(self, resource);
    }
}

pub(crate) fn make_exporter<E: SpanExporter + 'static>(
    make: impl FnOnce() -> E + Send + 'static,
) -> MakeExporter {
    Box::new(move || Box::new(make()))
}

/// What the thread of a foreign lane owns.
pub(crate) struct ForeignLane {
    make: Option<MakeExporter>,
    timeout: Duration,
    resource: Arc<Resource>,
}

impl ForeignLane {
    pub(crate) fn new(make: MakeExporter, timeout: Duration, resource: Arc<Resource>) -> Self {
        Self { make: Some(make), timeout, resource }
    }

    /// Runs the lane to its end. Called once; panics of the exporter are caught inside.
    pub(crate) fn run(&mut self, queue: &Arc<Queue<Arc<MaskedBatch>>>) {
        let Some(make) = self.make.take() else { return };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .thread_name("spanweave-foreign")
            .on_thread_start(|| {
                // For the whole life of the thread, so the guard is never dropped.
                std::mem::forget(opentelemetry::Context::enter_telemetry_suppressed_scope());
            })
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return fail_all(queue, &format!("cannot start its runtime: {error}")),
        };
        {
            let _entered = runtime.enter();
            match guarded(make) {
                Some(exporter) => self.export_all(exporter, queue),
                None => fail_all(queue, "it panicked when it was made"),
            }
        }
        runtime.shutdown_background();
    }

    fn export_all(&mut self, mut exporter: Box<dyn Exporter>, queue: &Queue<Arc<MaskedBatch>>) {
        let account = queue.account();
        let mut known: Option<Arc<Resource>> = None;
        if guarded(|| exporter.set_resource(&self.resource)).is_some() {
            known = Some(self.resource.clone());
        }
        while let Some(front) = queue.front_blocking() {
            let batch = front.item;
            let count = batch.len() as u64;
            account.begin_request(count);
            let deadline = Deadline::after(queue.attempt_time(self.timeout));
            let result = guarded(|| {
                if !known.as_ref().is_some_and(|known| Arc::ptr_eq(known, batch.resource())) {
                    known = Some(batch.resource().clone());
                    exporter.set_resource(batch.resource());
                }
                let spans = batch.spans().iter().map(|span| span.to_span_data()).collect();
                exporter.export(spans, deadline)
            });
            account.end_request(count);
            let (fate, reason) = match result {
                Some(Some(Ok(()))) => (Fate::Delivered, None),
                // Exporters have retries of their own; what they give back is final.
                Some(Some(Err(error))) => (
                    Fate::Dropped(DropReason::Refused),
                    Some(format!("it failed: {}", kind(&error))),
                ),
                Some(None) if queue.is_abandoned(front.number) => continue,
                Some(None) => {
                    let reason = format!("it was not ready within {:?}", self.timeout);
                    (Fate::Dropped(DropReason::Refused), Some(reason))
                }
                None => (Fate::Dropped(DropReason::Panicked), Some("it panicked".to_owned())),
            };
            match reason {
                None => queue.recovered(),
                Some(reason) => {
                    account.fail(&reason);
                    queue.warn(&reason);
                }
            }
            queue.settle(front.number, fate, count);
        }
        let left = queue.attempt_time(self.timeout);
        if let Some(Err(error)) = guarded(|| exporter.shutdown(left)) {
            account.fail(format!("its shutdown failed: {}", kind(&error)));
        }
        // Its destructor may panic, too.
        guarded(move || drop(exporter));
    }
}

/// What an SDK error says, without the free text, which may hold anything.
fn kind(error: &opentelemetry_sdk::error::OTelSdkError) -> &'static str {
    use opentelemetry_sdk::error::OTelSdkError;
    match error {
        OTelSdkError::AlreadyShutdown => "it has been shut down",
        OTelSdkError::Timeout(_) => "timeout",
        OTelSdkError::InternalFailure(_) => "internal failure",
    }
}

fn fail_all(queue: &Queue<Arc<MaskedBatch>>, reason: &str) {
    while queue.front_blocking().is_some() {
        queue.account().fail(reason);
        queue.warn(reason);
        queue.settle_taken(Fate::Dropped(DropReason::Panicked));
    }
}

/// `None` if `call` panicked.
fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).ok()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future on this thread; no runtime is involved. `None`: not ready by the deadline.
fn block_on<F: Future>(future: F, deadline: Deadline) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        if deadline.has_passed() {
            return None;
        }
        thread::park_timeout(deadline.remaining());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_that_wakes_from_another_thread_is_finished() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let other = thread::spawn(move || sender.send(7));
        let value = block_on(receiver, Deadline::after(Duration::from_secs(5)));
        assert_eq!(value, Some(Ok(7)));
        assert_eq!(other.join().ok(), Some(Ok(())));
    }

    #[test]
    fn a_future_that_is_never_ready_is_given_up_at_the_deadline() {
        let deadline = Deadline::after(Duration::from_millis(20));
        assert_eq!(block_on(std::future::pending::<()>(), deadline), None);
    }
}
