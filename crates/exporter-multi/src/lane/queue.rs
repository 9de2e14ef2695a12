//! The queue between the pipeline's worker and a lane.
//!
//! It is bounded in bytes: what does not fit is dropped, the newest first, and counted. An entry
//! stays at the front, and counts, until every one of its spans is settled, so whoever waits for
//! an entry waits for its delivery. All accounting with the ledger happens here, under the lock:
//! a span is settled once, whatever a shutdown and a late answer do at the same time.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spanweave_core::clock::{self, Deadline};
use spanweave_core::ledger::{BackendLedger, DropReason};
use spanweave_core::sync::lock;
use tokio::sync::Notify;

use super::notice::Notice;

/// What became of spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    Dropped(DropReason),
}

/// An entry at the front, as the lane sees it.
#[derive(Debug)]
pub(crate) struct Front<T> {
    pub(crate) number: u64,
    pub(crate) item: T,
}

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Wakes lanes that block and callers that wait.
    changed: Condvar,
    /// Wakes lanes that are futures.
    woken: Notify,
    account: Arc<BackendLedger>,
    capacity: usize,
    notice: Mutex<Notice>,
}

struct State<T> {
    entries: VecDeque<Entry<T>>,
    /// Invariant: the sum of the entries' bytes.
    bytes: usize,
    /// The number of the next entry.
    next: u64,
    /// Until when somebody waits for deliveries, and how often somebody began to.
    urgent_until: Option<Deadline>,
    urges: u64,
    /// Set by shutdown: nothing is taken any more, and at this time the lane ends.
    stop: Option<Deadline>,
    /// The backend forbids requests until then.
    forbidden_until: Option<Instant>,
    /// Since when the entry at the front has been with the lane.
    busy_since: Option<Instant>,
    stuck: bool,
    finished: bool,
}

struct Entry<T> {
    number: u64,
    item: T,
    /// Spans that are not settled yet; never zero.
    spans: u64,
    bytes: usize,
}

impl<T: Clone> Queue<T> {
    pub(crate) fn new(account: Arc<BackendLedger>, capacity: usize) -> Self {
        Self {
            state: Mutex::new(State {
                entries: VecDeque::new(),
                bytes: 0,
                next: 0,
                urgent_until: None,
                urges: 0,
                stop: None,
                forbidden_until: None,
                busy_since: None,
                stuck: false,
                finished: false,
            }),
            changed: Condvar::new(),
            woken: Notify::new(),
            notice: Mutex::new(Notice::default()),
            account,
            capacity,
        }
    }

    pub(crate) fn account(&self) -> &Arc<BackendLedger> {
        &self.account
    }

    // ---- the worker's side

    /// Takes an item, or drops and counts it. A single item that is larger than the whole
    /// capacity is taken by an empty queue.
    pub(crate) fn push(&self, item: T, spans: u64, bytes: usize) {
        if spans == 0 {
            return;
        }
        let mut state = lock(&self.state);
        self.account.accept(spans);
        if state.stop.is_some() || state.finished {
            self.account.drop_spans(DropReason::AfterShutdown, spans);
            return;
        }
        if !state.entries.is_empty() && state.bytes.saturating_add(bytes) > self.capacity {
            self.account.drop_spans(DropReason::BackendQueueFull, spans);
            drop(state);
            self.warn("its queue is full: new spans are dropped");
            return;
        }
        let number = state.next;
        state.next += 1;
        state.bytes += bytes;
        state.entries.push_back(Entry { number, item, spans, bytes });
        self.wake(state);
    }

    /// Counts spans that cannot even be queued.
    pub(crate) fn refuse(&self, reason: DropReason, spans: u64) {
        if spans > 0 {
            self.account.accept(spans);
            self.account.drop_spans(reason, spans);
        }
    }

    /// Marks the lane stuck if it has been busy with one entry for longer than `limit`.
    pub(crate) fn check_stuck(&self, limit: Duration) {
        let mut state = lock(&self.state);
        let Some(since) = state.busy_since else { return };
        if !state.stuck && clock::instant().saturating_duration_since(since) > limit {
            state.stuck = true;
            drop(state);
            let reason = format!("it has not returned within {limit:?}");
            self.account.fail(&reason);
            self.warn(&reason);
        }
    }

    // ---- the callers of flush and shutdown

    /// Asks for delivery by `deadline`. Returns the mark to [wait](Self::wait) for.
    pub(crate) fn urge(&self, deadline: Deadline) -> u64 {
        let mut state = lock(&self.state);
        state.urgent_until = state.urgent_until.max(Some(deadline));
        state.urges += 1;
        let mark = state.next;
        self.wake(state);
        mark
    }

    /// Takes nothing any more; the lane ends when all is delivered, at `deadline` at the latest.
    pub(crate) fn stop(&self, deadline: Deadline) -> u64 {
        let mut state = lock(&self.state);
        if state.stop.is_none() {
            state.stop = Some(deadline);
        }
        drop(state);
        self.urge(deadline)
    }

    /// Waits until all entries before `mark` are settled. `false` if that is not so at the
    /// deadline, or certainly will not be.
    pub(crate) fn wait(&self, mark: u64, deadline: Deadline) -> bool {
        let mut state = lock(&self.state);
        loop {
            if state.entries.front().is_none_or(|entry| entry.number >= mark) {
                return true;
            }
            let forbidden = state.forbidden_until.is_some_and(|until| until > deadline.instant());
            if state.finished || forbidden || deadline.has_passed() {
                return false;
            }
            state = self.wait_changed(state, Some(deadline));
        }
    }

    /// Counts all that is left as dropped.
    pub(crate) fn abandon(&self, reason: DropReason) {
        let mut state = lock(&self.state);
        let entries = std::mem::take(&mut state.entries);
        for entry in &entries {
            self.account.drop_spans(reason, entry.spans);
        }
        state.bytes = 0;
        state.busy_since = None;
        self.wake(state);
        // Only now, without the lock: letting go of records takes locks of its own.
        drop(entries);
    }

    /// Waits for the end of the lane's thread. `false` if the deadline came first.
    pub(crate) fn wait_finished(&self, deadline: Deadline) -> bool {
        let mut state = lock(&self.state);
        while !state.finished {
            if deadline.has_passed() {
                return false;
            }
            state = self.wait_changed(state, Some(deadline));
        }
        true
    }

    // ---- the lane's side

    /// The next entry; waits for one. `None`: the lane is to end.
    pub(crate) fn front_blocking(&self) -> Option<Front<T>> {
        let mut state = lock(&self.state);
        loop {
            match self.next(&mut state) {
                Next::Front(front) => return Some(front),
                Next::End => return None,
                Next::Wait => state = self.wait_changed(state, None),
            }
        }
    }

    /// As [`front_blocking`](Self::front_blocking), for lanes that are futures.
    pub(crate) async fn front(&self) -> Option<Front<T>> {
        loop {
            let next = self.next(&mut lock(&self.state));
            match next {
                Next::Front(front) => return Some(front),
                Next::End => return None,
                // A wake-up between the look and the wait is kept by `Notify`.
                Next::Wait => self.woken.notified().await,
            }
        }
    }

    fn next(&self, state: &mut State<T>) -> Next<T> {
        if state.stop.is_some_and(|stop| stop.has_passed()) {
            return Next::End;
        }
        match state.entries.front() {
            Some(entry) => {
                let front = Front { number: entry.number, item: entry.item.clone() };
                state.busy_since = Some(clock::instant());
                Next::Front(front)
            }
            None if state.stop.is_some() => Next::End,
            None => Next::Wait,
        }
    }

    /// Settles `spans` spans of entry `number`. Does nothing if the entry has been abandoned.
    pub(crate) fn settle(&self, number: u64, fate: Fate, spans: u64) {
        let mut state = lock(&self.state);
        let Some(entry) = state.entries.front_mut().filter(|entry| entry.number == number) else {
            return;
        };
        let spans = spans.min(entry.spans);
        match fate {
            // Even if none of them was taken: the backend works.
            Fate::Delivered => self.account.deliver(spans),
            Fate::Dropped(reason) => self.account.drop_spans(reason, spans),
        }
        entry.spans -= spans;
        if entry.spans == 0 {
            let settled = state.entries.pop_front();
            state.bytes -= settled.as_ref().map_or(0, |entry| entry.bytes);
            state.busy_since = None;
            state.stuck = false;
            self.wake(state);
            drop(settled);
        }
    }

    /// Settles whatever is left of the entry at the front. `false` if there is none.
    pub(crate) fn settle_front(&self, fate: Fate) -> bool {
        let front = lock(&self.state).entries.front().map(|entry| entry.number);
        if let Some(number) = front {
            self.settle(number, fate, u64::MAX);
        }
        front.is_some()
    }

    /// Whether nobody waits for entry `number` any more.
    pub(crate) fn is_abandoned(&self, number: u64) -> bool {
        let state = lock(&self.state);
        state.stop.is_some_and(|stop| stop.has_passed())
            || state.entries.front().is_none_or(|entry| entry.number != number)
    }

    /// Returns when entry `number` has been abandoned.
    pub(crate) async fn abandoned(&self, number: u64) {
        while !self.is_abandoned(number) {
            self.woken.notified().await;
        }
    }

    /// How long an attempt may take: `timeout`, or less if the lane has to end before.
    pub(crate) fn attempt_time(&self, timeout: Duration) -> Duration {
        let stop = lock(&self.state).stop;
        stop.map_or(timeout, |stop| timeout.min(stop.remaining()))
    }

    /// How often somebody has begun to wait for deliveries; see [`pause`](Self::pause).
    pub(crate) fn urges(&self) -> u64 {
        lock(&self.state).urges
    }

    /// Waits before the next attempt: for `wait`, but no longer than until somebody begins to
    /// wait for deliveries, and in short steps while somebody does. If the backend itself asked
    /// for the wait (`forbidden`) only a shutdown's deadline shortens it.
    pub(crate) async fn pause(&self, wait: Duration, forbidden: bool, seen: &mut u64) {
        let start = clock::instant();
        let Some(end) = start.checked_add(wait) else { return };
        if forbidden {
            let mut state = lock(&self.state);
            state.forbidden_until = Some(end);
            // Who waits for deliveries by a deadline before that need not wait.
            self.wake(state);
        }
        loop {
            let mut until = end;
            {
                let state = lock(&self.state);
                if let Some(stop) = state.stop {
                    until = until.min(stop.instant());
                }
                if !forbidden {
                    if state.urges != *seen {
                        *seen = state.urges;
                        break;
                    }
                    if let Some(urgent) = state.urgent_until.filter(|urgent| !urgent.has_passed()) {
                        let left = urgent.instant().saturating_duration_since(start);
                        until = until.min(start + (left / 2).max(SHORTEST_STEP));
                    }
                }
                if state.entries.is_empty() {
                    break;
                }
            }
            let wait = tokio::time::timeout_at(until.into(), self.woken.notified());
            if wait.await.is_err() {
                break;
            }
        }
        if forbidden {
            lock(&self.state).forbidden_until = None;
        }
    }

    /// The lane has ended: what is left is dropped and counted, and nothing is taken any more.
    pub(crate) fn finish(&self) {
        self.abandon(DropReason::Shutdown);
        let mut state = lock(&self.state);
        state.finished = true;
        self.wake(state);
    }

    /// Tells the log that the backend fails; at most once a minute.
    pub(crate) fn warn(&self, reason: &str) {
        if lock(&self.notice).failing(clock::instant()) {
            let (backend, pending) = (self.account.name(), self.account.pending());
            tracing::warn!(target: crate::LOG_TARGET, backend, pending, "export fails: {reason}");
        }
    }

    /// Tells the log that the backend works again, if it was told that it did not.
    pub(crate) fn recovered(&self) {
        if lock(&self.notice).working(clock::instant()) {
            let backend = self.account.name();
            tracing::info!(target: crate::LOG_TARGET, backend, "export works again");
        }
    }

    // ----

    fn wake(&self, state: std::sync::MutexGuard<'_, State<T>>) {
        drop(state);
        self.changed.notify_all();
        self.woken.notify_one();
    }

    fn wait_changed<'a>(
        &self,
        state: std::sync::MutexGuard<'a, State<T>>,
        deadline: Option<Deadline>,
    ) -> std::sync::MutexGuard<'a, State<T>> {
        match deadline {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let waited = self.changed.wait_timeout(state, deadline.remaining());
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}

/// While somebody waits, attempts are at least this far apart.
const SHORTEST_STEP: Duration = Duration::from_millis(20);

enum Next<T> {
    Front(Front<T>),
    End,
    Wait,
}
