//! How the worker is woken, flushed and stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::clock::Deadline;
use crate::sync::lock;

#[derive(Debug, Default)]
struct State {
    wake: bool,
    flush_wanted: u64,
    flush_done: u64,
    stop: bool,
    stopped: bool,
}

/// What the worker has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// The number of the last flush that was asked for, if it is not done yet.
    pub(crate) flush: Option<u64>,
    pub(crate) stop: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Signal {
    /// The worker waits. Whoever finds it at work need not wake it: it sweeps again before long.
    waits: AtomicBool,
    state: Mutex<State>,
    to_worker: Condvar,
    to_callers: Condvar,
}

impl Signal {
    pub(crate) fn wake(&self) {
        if !self.waits.swap(false, Ordering::Relaxed) {
            return;
        }
        lock(&self.state).wake = true;
        self.to_worker.notify_one();
    }

    /// Waits for work, at most `idle`.
    pub(crate) fn next(&self, idle: Duration) -> Work {
        let mut state = lock(&self.state);
        let nothing = |state: &mut State| {
            !state.wake && !state.stop && state.flush_wanted == state.flush_done
        };
        if nothing(&mut state) {
            self.waits.store(true, Ordering::Relaxed);
            state = match self.to_worker.wait_timeout_while(state, idle, nothing) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        self.waits.store(false, Ordering::Relaxed);
        state.wake = false;
        let flush = (state.flush_wanted != state.flush_done).then_some(state.flush_wanted);
        Work { flush, stop: state.stop }
    }

    pub(crate) fn flushed(&self, number: u64) {
        lock(&self.state).flush_done = number;
        self.to_callers.notify_all();
    }

    pub(crate) fn stopped(&self) {
        let mut state = lock(&self.state);
        state.stopped = true;
        state.flush_done = state.flush_wanted;
        drop(state);
        self.to_callers.notify_all();
    }

    /// Asks the worker to hand everything to the backends. False if the deadline came first.
    pub(crate) fn flush(&self, deadline: Deadline) -> bool {
        let mut state = lock(&self.state);
        if state.stopped {
            return true;
        }
        state.flush_wanted += 1;
        let number = state.flush_wanted;
        drop(state);
        self.to_worker.notify_one();
        self.wait(deadline, |state| state.flush_done >= number || state.stopped)
    }

    /// Asks the worker to finish. False if the deadline came first.
    pub(crate) fn stop(&self, deadline: Deadline) -> bool {
        lock(&self.state).stop = true;
        self.to_worker.notify_one();
        self.wait(deadline, |state| state.stopped)
    }

    fn wait(&self, deadline: Deadline, done: impl Fn(&State) -> bool) -> bool {
        let state = lock(&self.state);
        let waited =
            self.to_callers.wait_timeout_while(state, deadline.remaining(), |state| !done(state));
        match waited {
            Ok((state, _)) => done(&state),
            Err(poisoned) => done(&poisoned.into_inner().0),
        }
    }
}
