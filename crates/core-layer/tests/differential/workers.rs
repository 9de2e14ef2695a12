//! Threads that do one thing after another, on command.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;
type Outcome = Result<(), Box<dyn Any + Send>>;

struct Worker {
    jobs: Option<Sender<Job>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

/// A few threads; only one of them, or the caller, does something at a time.
pub(crate) struct Workers(Mutex<Vec<Worker>>);

impl Workers {
    pub(crate) fn new(count: usize) -> Self {
        Self(Mutex::new((0..count).map(Worker::new).collect()))
    }

    /// Runs `job` on the worker of that number and waits for it. A panic is passed on.
    pub(crate) fn run(&self, worker: usize, job: impl FnOnce() + Send + 'static) {
        let outcome = {
            let workers = self.0.lock().unwrap();
            let worker = &workers[worker];
            worker.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
            worker.outcomes.recv().unwrap()
        };
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
    }
}

impl Worker {
    fn new(number: usize) -> Self {
        let (jobs, inbox) = channel::<Job>();
        let (outbox, outcomes) = channel();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                for job in inbox {
                    outbox.send(catch_unwind(AssertUnwindSafe(job))).unwrap();
                }
            })
            .unwrap();
        Self { jobs: Some(jobs), outcomes, thread: Some(thread) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
