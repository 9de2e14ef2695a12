//! The handle of a running pipeline: flush, shutdown, reports.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use opentelemetry_sdk::trace::SdkTracerProvider;

use super::core::Core;
use crate::capture::Capture;
use crate::clock::Deadline;
use crate::ledger::{BackendReport, FlushReport, Ledger, ShutdownReport};
use crate::sync::lock;

/// How much longer than its deadline a further shutdown waits for the first one's report: with the
/// same deadline, the first one needs a moment to count what is left.
const GRACE: Duration = Duration::from_millis(150);

/// A running pipeline. Clones are handles to the same one; dropping them does not stop it.
#[derive(Clone)]
pub struct Pipeline {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    /// Keeps what the tracer provider refers to alive, also without any layer.
    _capture: Arc<Capture>,
    provider: SdkTracerProvider,
    worker: Mutex<Option<JoinHandle<()>>>,
    stop: Mutex<Stop>,
    stopped: Condvar,
}

/// How far the one real shutdown is.
enum Stop {
    NotYet,
    UnderWay,
    Done(ShutdownReport),
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("core", &self.inner.core).finish_non_exhaustive()
    }
}

impl Pipeline {
    pub(crate) fn new(
        core: Arc<Core>,
        capture: Arc<Capture>,
        provider: SdkTracerProvider,
        worker: JoinHandle<()>,
    ) -> Self {
        let (worker, stop) = (Mutex::new(Some(worker)), Mutex::new(Stop::NotYet));
        let stopped = Condvar::new();
        Self { inner: Arc::new(Inner { core, _capture: capture, provider, worker, stop, stopped }) }
    }

    /// Hands everything that has ended to the backends and has them deliver it, by the deadline.
    /// Blocks the calling thread until then at the longest. Traces that the tail rules have not
    /// decided stay undecided.
    pub fn flush(&self, deadline: Deadline) -> FlushReport {
        let core = &self.inner.core;
        let handed_over = core.signal.flush(deadline);
        for hook in &core.hooks {
            self.run_hook(|| hook.flush(deadline));
        }
        let backends = self.each_sink(|sink| sink.flush(deadline));
        let undecided = core.counts().undecided;
        let timed_out = !handed_over || deadline.has_passed();
        FlushReport { backends, undecided, timed_out }
    }

    /// Decides on what is undecided, delivers what can be delivered by the deadline, counts the
    /// rest as dropped, and stops the pipeline. Further calls, from any thread, get the report of
    /// the first one; while that is still under way well past their own deadline, the state of then.
    pub fn shutdown(&self, deadline: Deadline) -> ShutdownReport {
        let core = &self.inner.core;
        let state = lock(&self.inner.stop);
        let under_way = |state: &mut Stop| matches!(state, Stop::UnderWay);
        let mut state = self
            .inner
            .stopped
            .wait_timeout_while(state, deadline.remaining() + GRACE, under_way)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        match &*state {
            Stop::Done(report) => return report.clone(),
            Stop::UnderWay => {
                drop(state);
                return ShutdownReport { backends: core.ledger.reports(), timed_out: true };
            }
            Stop::NotYet => *state = Stop::UnderWay,
        }
        drop(state);
        let finished = core.signal.stop(deadline);
        // The worker does it first; where it hangs, no thread may wait for room any longer.
        core.handoff.stop();
        for hook in &core.hooks {
            self.run_hook(|| hook.shutdown(deadline));
        }
        let backends = self.each_sink(|sink| sink.shutdown(deadline));
        if finished && let Some(worker) = lock(&self.inner.worker).take() {
            // It has said that it is done; a panic in it has been counted.
            drop(worker.join());
        }
        let timed_out = !finished || deadline.has_passed();
        let done = ShutdownReport { backends, timed_out };
        *lock(&self.inner.stop) = Stop::Done(done.clone());
        self.inner.stopped.notify_all();
        done
    }

    /// A tracer provider of the OpenTelemetry API whose spans enter this pipeline. Shutting it
    /// down stops spans of the API only.
    ///
    /// Its spans are sampled, measured, masked and delivered like those of `tracing`. What the SDK
    /// does not allow there: the random flag on roots, limits on the length of values before they
    /// are copied, hooks at the start.
    pub fn tracer_provider(&self) -> SdkTracerProvider {
        self.inner.provider.clone()
    }

    /// Where everything is counted.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.inner.core.ledger
    }

    fn each_sink(
        &self,
        act: impl Fn(&dyn crate::SpanSink) -> Vec<BackendReport>,
    ) -> Vec<BackendReport> {
        let core = &self.inner.core;
        core.sinks
            .iter()
            .flat_map(|sink| core.guarded(|| act(sink.as_ref())).unwrap_or_default())
            .collect()
    }

    fn run_hook(&self, act: impl FnOnce() -> Result<(), crate::BoxError>) {
        if let Some(Err(error)) = self.inner.core.guarded(act) {
            tracing::warn!(target: "spanweave::pipeline", %error, "a span hook failed");
        }
    }
}
