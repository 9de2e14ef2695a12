//! The queue between the pipeline's worker and a lane.
//!
//! It is bounded in bytes: what does not fit is dropped, the newest first, and counted. An entry
//! stays in the queue, and counts, until every one of its spans is settled, so whoever waits for
//! an entry waits for its delivery. The lane may have several entries at a time. Behind the queue
//! of a durable backend stands a [`Backlog`] on disk; the queue then holds what the disk did not
//! take, which goes first, and what the lane has taken from the backlog. All accounting with the ledger happens here, under the lock:
//! a span is settled once, whatever a shutdown and a late answer do at the same time.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spanweave_core::clock::{self, Deadline};
use spanweave_core::ledger::{BackendLedger, DropReason};
use spanweave_core::sync::lock;
use tokio::sync::Notify;

use super::notice::Notice;
use crate::spool::{Position, Ticket};

/// What became of spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    Dropped(DropReason),
}

/// An entry, as the lane sees it.
#[derive(Debug)]
pub(crate) struct Front<T> {
    pub(crate) number: u64,
    pub(crate) item: T,
}

/// What a lane delivers that is not held in memory.
pub(crate) trait Backlog<T>: Send + Sync {
    /// The next item, with its spans and what settles it; or only what this process has added.
    fn take(&self, own_only: bool) -> Option<(T, u64, Ticket)>;
    /// The item is done with.
    fn settle(&self, ticket: Ticket);
    /// The place behind everything that was added up to now.
    fn end(&self) -> Position;
    /// Whether everything up to there is settled.
    fn has_settled(&self, position: Position) -> bool;
    /// Does what time brings: limits, cursors, what others have left.
    fn tick(&self);
}

/// Everything that a queue and its backlog held at some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    number: u64,
    position: Position,
}

/// A backlog has more than what is pushed: what dead processes leave. So it is looked at from
/// time to time.
const BACKLOG_INTERVAL: Duration = Duration::from_millis(500);

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Wakes lanes that block and callers that wait.
    changed: Condvar,
    /// Wakes lanes that are futures.
    woken: Notify,
    account: Arc<BackendLedger>,
    capacity: usize,
    backlog: Option<Box<dyn Backlog<T>>>,
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
    /// Since when an entry has been with the lane.
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
    /// The lane has it.
    taken: bool,
    /// It lies in the backlog, too.
    ticket: Option<Ticket>,
}

impl<T: Clone> Queue<T> {
    pub(crate) fn new(account: Arc<BackendLedger>, capacity: usize) -> Self {
        Self::with_backlog(account, capacity, None)
    }

    pub(crate) fn with_backlog(
        account: Arc<BackendLedger>,
        capacity: usize,
        backlog: Option<Box<dyn Backlog<T>>>,
    ) -> Self {
        Self {
            backlog,
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
        if spans > 0 && self.announce(spans) {
            self.hold(item, spans, bytes);
        }
    }

    /// Counts spans as accepted; [`hold`](Self::hold) or [`added`](Self::added) follows. `false`:
    /// they came after the shutdown, and are counted as dropped.
    pub(crate) fn announce(&self, spans: u64) -> bool {
        let state = lock(&self.state);
        self.account.accept(spans);
        let open = state.stop.is_none() && !state.finished;
        if !open {
            self.account.drop_spans(DropReason::AfterShutdown, spans);
        }
        open
    }

    /// Something was added to the backlog.
    pub(crate) fn added(&self) {
        self.wake(lock(&self.state));
    }

    /// Takes an item whose spans are counted as accepted, or drops it.
    pub(crate) fn hold(&self, item: T, spans: u64, bytes: usize) {
        let mut state = lock(&self.state);
        if state.finished {
            self.account.drop_spans(DropReason::AfterShutdown, spans);
            return;
        }
        if state.bytes > 0 && state.bytes.saturating_add(bytes) > self.capacity {
            self.account.drop_spans(DropReason::BackendQueueFull, spans);
            drop(state);
            self.warn("its queue is full: new spans are dropped");
            return;
        }
        let number = state.next;
        state.next += 1;
        state.bytes += bytes;
        state.entries.push_back(Entry { number, item, spans, bytes, taken: false, ticket: None });
        self.wake(state);
    }

    /// Counts spans that cannot even be queued.
    pub(crate) fn refuse(&self, reason: DropReason, spans: u64) {
        if spans > 0 {
            self.account.accept(spans);
            self.account.drop_spans(reason, spans);
        }
    }

    /// Counts spans that are not meant for the backend.
    pub(crate) fn sample_out(&self, spans: u64) {
        self.account.accept(spans);
        self.account.sample_out(spans);
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
    pub(crate) fn urge(&self, deadline: Deadline) -> Mark {
        let mut state = lock(&self.state);
        state.urgent_until = state.urgent_until.max(Some(deadline));
        state.urges += 1;
        let position = self.backlog.as_ref().map_or(Position::default(), |backlog| backlog.end());
        let mark = Mark { number: state.next, position };
        self.wake(state);
        mark
    }

    /// Takes nothing any more; the lane ends when all is delivered, at `deadline` at the latest.
    pub(crate) fn stop(&self, deadline: Deadline) -> Mark {
        let mut state = lock(&self.state);
        if state.stop.is_none() {
            state.stop = Some(deadline);
        }
        drop(state);
        self.urge(deadline)
    }

    /// Waits until everything before `mark` is settled. `false` if that is not so at the
    /// deadline, or certainly will not be.
    pub(crate) fn wait(&self, mark: Mark, deadline: Deadline) -> bool {
        let mut state = lock(&self.state);
        loop {
            let mut held = state.entries.iter().filter(|entry| entry.ticket.is_none());
            let settled =
                self.backlog.as_ref().is_none_or(|backlog| backlog.has_settled(mark.position));
            if settled && held.all(|entry| entry.number >= mark.number) {
                return true;
            }
            let now = clock::instant();
            let forbidden =
                state.forbidden_until.is_some_and(|until| until > now.max(deadline.instant()));
            if state.finished || forbidden || deadline.has_passed() {
                return false;
            }
            state = self.wait_changed(state, Some(deadline));
        }
    }

    /// Counts all that is left in memory as dropped. What lies in the backlog stays there.
    pub(crate) fn abandon(&self, reason: DropReason) {
        let mut state = lock(&self.state);
        let entries = std::mem::take(&mut state.entries);
        for entry in entries.iter().filter(|entry| entry.ticket.is_none()) {
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

    /// The next entry, if there is one.
    pub(crate) fn front_now(&self) -> Option<Front<T>> {
        match self.next(&mut lock(&self.state)) {
            Next::Front(front) => Some(front),
            Next::End | Next::Wait => None,
        }
    }

    /// As [`front_blocking`](Self::front_blocking), for lanes that are futures and may take
    /// several entries.
    pub(crate) async fn front(&self) -> Option<Front<T>> {
        loop {
            // Made before the look, so that no wake-up in between is missed.
            let woken = self.woken.notified();
            let next = self.next(&mut lock(&self.state));
            match next {
                Next::Front(front) => return Some(front),
                Next::End => return None,
                Next::Wait if self.backlog.is_none() => woken.await,
                Next::Wait => {
                    // What was skipped in the backlog may be what somebody waits for.
                    self.changed.notify_all();
                    // Either way it is looked again.
                    tokio::time::timeout(BACKLOG_INTERVAL, woken).await.ok();
                }
            }
        }
    }

    /// Looks after the backlog once, after a while; never returns where there is none. For lanes
    /// that do not ask for entries because their backend fails.
    pub(crate) async fn tick(&self) {
        match &self.backlog {
            None => std::future::pending().await,
            Some(backlog) => {
                tokio::time::sleep(BACKLOG_INTERVAL).await;
                backlog.tick();
            }
        }
    }

    fn next(&self, state: &mut State<T>) -> Next<T> {
        if state.stop.is_some_and(|stop| stop.has_passed()) {
            return Next::End;
        }
        if let Some(entry) = state.entries.iter_mut().find(|entry| !entry.taken) {
            entry.taken = true;
            let front = Front { number: entry.number, item: entry.item.clone() };
            state.busy_since = Some(clock::instant());
            return Next::Front(front);
        }
        let taken = self.backlog.as_ref().and_then(|backlog| backlog.take(state.stop.is_some()));
        if let Some((item, spans, ticket)) = taken {
            let number = state.next;
            state.next += 1;
            let (front, ticket) = (Front { number, item: item.clone() }, Some(ticket));
            state.entries.push_back(Entry { number, item, spans, bytes: 0, taken: true, ticket });
            state.busy_since = Some(clock::instant());
            return Next::Front(front);
        }
        match state.stop {
            Some(_) if state.entries.is_empty() => Next::End,
            _ => Next::Wait,
        }
    }

    /// Settles `spans` spans of entry `number`. Does nothing if the entry has been abandoned.
    pub(crate) fn settle(&self, number: u64, fate: Fate, spans: u64) {
        let mut state = lock(&self.state);
        let Ok(at) = state.entries.binary_search_by_key(&number, |entry| entry.number) else {
            return;
        };
        let Some(entry) = state.entries.get_mut(at) else { return };
        let spans = spans.min(entry.spans);
        match fate {
            // Even if none of them was taken: the backend works.
            Fate::Delivered => self.account.deliver(spans),
            Fate::Dropped(reason) => self.account.drop_spans(reason, spans),
        }
        entry.spans -= spans;
        if entry.spans == 0 {
            let settled = state.entries.remove(at);
            state.bytes -= settled.as_ref().map_or(0, |entry| entry.bytes);
            state.busy_since = None;
            state.stuck = false;
            let ticket = settled.as_ref().and_then(|entry| entry.ticket);
            if let (Some(ticket), Some(backlog)) = (ticket, &self.backlog) {
                backlog.settle(ticket);
            }
            self.wake(state);
            drop(settled);
        }
    }

    /// Settles whatever is left of the entries that the lane has. `false` if there are none.
    pub(crate) fn settle_taken(&self, fate: Fate) -> bool {
        let taken: Vec<u64> = {
            let state = lock(&self.state);
            state.entries.iter().filter(|entry| entry.taken).map(|entry| entry.number).collect()
        };
        for number in &taken {
            self.settle(*number, fate, u64::MAX);
        }
        !taken.is_empty()
    }

    /// Whether nobody waits for entry `number` any more.
    pub(crate) fn is_abandoned(&self, number: u64) -> bool {
        let state = lock(&self.state);
        state.stop.is_some_and(|stop| stop.has_passed())
            || state.entries.binary_search_by_key(&number, |entry| entry.number).is_err()
    }

    /// Returns when entry `number` has been abandoned.
    pub(crate) async fn abandoned(&self, number: u64) {
        loop {
            let woken = self.woken.notified();
            if self.is_abandoned(number) {
                return;
            }
            woken.await;
        }
    }

    /// Returns when no backend's wish forbids requests any more, or entry `number` is abandoned.
    pub(crate) async fn allowed(&self, number: u64) {
        loop {
            let woken = self.woken.notified();
            let (until, stop) = {
                let state = lock(&self.state);
                (state.forbidden_until, state.stop.map(|stop| stop.instant()))
            };
            match until.filter(|until| *until > clock::instant()) {
                Some(until) if !self.is_abandoned(number) => {
                    let until = stop.map_or(until, |stop| until.min(stop));
                    // Either way it is looked again.
                    tokio::time::timeout_at(until.into(), woken).await.ok();
                }
                _ => return,
            }
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

    /// The backend forbids requests for so long.
    pub(crate) fn forbid(&self, time: Duration) {
        let Some(end) = clock::instant().checked_add(time) else { return };
        let mut state = lock(&self.state);
        state.forbidden_until = state.forbidden_until.max(Some(end));
        // Who waits for deliveries by a deadline before that need not wait.
        self.wake(state);
    }

    /// Waits before the next attempt: for `wait`, but no longer than until somebody begins to
    /// wait for deliveries, and in short steps while somebody does. If the backend itself asked
    /// for the wait (`forbidden`) only a shutdown's deadline shortens it.
    pub(crate) async fn pause(&self, number: u64, wait: Duration, forbidden: bool, seen: &mut u64) {
        let start = clock::instant();
        let Some(end) = start.checked_add(wait) else { return };
        loop {
            let woken = self.woken.notified();
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
                if state.entries.binary_search_by_key(&number, |entry| entry.number).is_err() {
                    break;
                }
            }
            if tokio::time::timeout_at(until.into(), woken).await.is_err() {
                break;
            }
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
        self.woken.notify_waiters();
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

/// The accounting of any queue.
pub(crate) trait Count {
    /// See [`Queue::refuse`].
    fn refuse(&self, reason: DropReason, spans: u64);
    /// See [`Queue::sample_out`].
    fn sample_out(&self, spans: u64);
}

impl<T: Clone> Count for Queue<T> {
    fn refuse(&self, reason: DropReason, spans: u64) {
        Queue::refuse(self, reason, spans);
    }

    fn sample_out(&self, spans: u64) {
        Queue::sample_out(self, spans);
    }
}

/// While somebody waits, attempts are at least this far apart.
const SHORTEST_STEP: Duration = Duration::from_millis(20);

enum Next<T> {
    Front(Front<T>),
    End,
    Wait,
}

#[cfg(test)]
mod tests {
    use super::*;
    use spanweave_core::ledger::Ledger;

    fn queue(capacity: usize) -> Queue<u8> {
        Queue::new(Ledger::new().open("test", "test"), capacity)
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    fn front(queue: &Queue<u8>) -> Option<(u64, u8)> {
        queue.front_blocking().map(|front| (front.number, front.item))
    }

    #[test]
    fn an_entry_stays_in_the_queue_until_all_its_spans_are_settled() {
        let queue = queue(100);
        queue.push(7, 3, 10);
        let mark = queue.urge(soon());
        queue.push(8, 1, 10);
        assert_eq!(front(&queue), Some((0, 7)));
        queue.settle(0, Fate::Delivered, 2);
        assert!(!queue.wait(mark, Deadline::after(Duration::ZERO)));
        queue.settle(0, Fate::Dropped(DropReason::Rejected), 1);
        assert!(queue.wait(mark, Deadline::after(Duration::ZERO)));
        assert_eq!(front(&queue), Some((1, 8)));
        let account = queue.account();
        assert_eq!((account.delivered(), account.dropped().total(), account.pending()), (2, 1, 1));
    }

    #[test]
    fn no_span_is_settled_twice() {
        let queue = queue(100);
        queue.push(7, 3, 10);
        queue.push(8, 1, 10);
        for _ in 0..2 {
            queue.settle(0, Fate::Delivered, 3);
        }
        assert_eq!((queue.account().delivered(), queue.account().pending()), (3, 1));
        queue.abandon(DropReason::Shutdown);
        queue.settle(1, Fate::Delivered, 1);
        assert_eq!((queue.account().delivered(), queue.account().dropped().total()), (3, 1));
    }

    #[test]
    fn settled_entries_make_room() {
        let queue = queue(25);
        for item in 0..4 {
            queue.push(item, 1, 10);
        }
        assert_eq!(queue.account().dropped().get(DropReason::BackendQueueFull), 2);
        queue.settle(0, Fate::Delivered, 1);
        queue.push(9, 1, 10);
        queue.settle(1, Fate::Delivered, 1);
        assert_eq!(front(&queue), Some((2, 9)));
        queue.settle(2, Fate::Delivered, 1);
        queue.push(10, 1, 1000);
        assert_eq!(front(&queue), Some((3, 10)), "an empty queue takes an entry of any size");
    }

    #[test]
    fn a_flush_waits_for_what_was_there_and_not_for_what_comes_later() {
        let queue = queue(100);
        queue.push(7, 1, 10);
        let mark = queue.urge(soon());
        queue.push(8, 1, 10);
        assert!(!queue.wait(mark, Deadline::after(Duration::from_millis(5))));
        queue.settle(0, Fate::Delivered, 1);
        assert!(queue.wait(mark, soon()));
    }

    #[test]
    fn a_stopped_queue_gives_out_what_it_has_and_takes_nothing() {
        let queue = queue(100);
        queue.push(7, 1, 10);
        queue.stop(soon());
        queue.push(8, 1, 10);
        assert_eq!(front(&queue), Some((0, 7)));
        queue.settle(0, Fate::Delivered, 1);
        assert_eq!(front(&queue), None);
        assert_eq!(queue.account().dropped().get(DropReason::AfterShutdown), 1);
    }

    #[test]
    fn after_its_deadline_a_stopped_queue_gives_out_nothing() {
        let queue = queue(100);
        queue.push(7, 1, 10);
        queue.stop(Deadline::after(Duration::ZERO));
        assert_eq!(front(&queue), None);
        queue.finish();
        assert_eq!(queue.account().dropped().get(DropReason::Shutdown), 1);
        assert!(queue.wait_finished(soon()));
    }
}
