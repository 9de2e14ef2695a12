//! A lane a backend: its own queue, its own thread, its own retries and its own account.
//!
//! Lanes share nothing but immutable bytes, so none can delay another one. A panic in a lane
//! costs the entry that it was working on. Everything on a lane's thread runs in a context that
//! suppresses telemetry: nothing that a lane does makes spans.

mod notice;
mod queue;

mod rotation;

mod console;
mod file;
mod foreign;
mod jaeger_file;
mod otlp;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use opentelemetry::Context;
use spanweave_core::clock::Deadline;
use spanweave_core::ledger::{BackendLedger, DropReason};
use spanweave_core::sync::lock;

pub(crate) use console::ConsoleLane;
pub(crate) use file::{FileLane, Keeping, Lines, LogFile};
pub(crate) use foreign::{ForeignLane, MakeExporter, make_exporter};
pub(crate) use jaeger_file::JaegerFileLane;
pub(crate) use notice::Notice;
pub(crate) use otlp::{Form, OtlpLane, Request};
pub(crate) use queue::{Backlog, Count, Fate, Mark, Queue};
pub use rotation::{Fsync, Rotation};

/// The near end of a lane.
pub(crate) struct Lane<T> {
    queue: Arc<Queue<T>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<T: Clone + Send + 'static> Lane<T> {
    /// Starts a lane's thread. `work` runs until the queue [ends](Queue::front_blocking); if it
    /// panics, what it has taken is lost and it is called again.
    pub(crate) fn start(
        queue: Arc<Queue<T>>,
        mut work: impl FnMut(&Arc<Queue<T>>) + Send + 'static,
    ) -> io::Result<Self> {
        let far = Finish(queue.clone());
        let name = format!("spanweave-{}", queue.account().name());
        let thread = thread::Builder::new().name(name).spawn(move || {
            let _suppressed = Context::enter_telemetry_suppressed_scope();
            let queue = &far.0;
            while catch_unwind(AssertUnwindSafe(|| work(queue))).is_err() {
                queue.account().fail("it panicked");
                queue.warn("it panicked; the batch is lost");
                if !queue.settle_taken(Fate::Dropped(DropReason::Panicked)) {
                    break;
                }
            }
            // Dropping foreign state may panic as well; the guard counts what is left.
            drop(work);
        })?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    pub(crate) fn queue(&self) -> &Queue<T> {
        &self.queue
    }
}

struct Finish<T: Clone>(Arc<Queue<T>>);

impl<T: Clone> Drop for Finish<T> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// What flush and shutdown need of any lane.
pub(crate) trait Control: Send + Sync {
    /// See [`Queue::urge`].
    fn urge(&self, deadline: Deadline) -> Mark;
    /// See [`Queue::stop`].
    fn stop(&self, deadline: Deadline) -> Mark;
    /// See [`Queue::wait`].
    fn wait(&self, mark: Mark, deadline: Deadline) -> bool;
    /// See [`Queue::abandon`].
    fn abandon(&self);
    /// Waits for the thread until `deadline`; one that has not ended by then is left alone.
    fn join(&self, deadline: Deadline);
    /// The account.
    fn account(&self) -> &Arc<BackendLedger>;
}

impl<T: Clone + Send + 'static> Control for Lane<T> {
    fn urge(&self, deadline: Deadline) -> Mark {
        self.queue.urge(deadline)
    }

    fn stop(&self, deadline: Deadline) -> Mark {
        self.queue.stop(deadline)
    }

    fn wait(&self, mark: Mark, deadline: Deadline) -> bool {
        self.queue.wait(mark, deadline)
    }

    fn abandon(&self) {
        self.queue.abandon(DropReason::Shutdown);
    }

    fn join(&self, deadline: Deadline) {
        if self.queue.wait_finished(deadline)
            && let Some(thread) = lock(&self.thread).take()
            // A lane that is dropped on its own thread cannot wait for itself.
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            self.queue.account().fail("its thread panicked at its end");
        }
    }

    fn account(&self) -> &Arc<BackendLedger> {
        self.queue.account()
    }
}
