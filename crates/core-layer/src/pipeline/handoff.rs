//! The hand-off of finished spans from the application's threads to the worker.
//!
//! Each thread has an outbox of its own, so ending a span takes one lock that nobody else wants;
//! the worker swaps outboxes for empty ones some hundred times a second. Room is reserved from the
//! shared bound in blocks, so that the shared counters are touched once in many spans; a sweep
//! takes back what a thread has not used, so that idle threads hold no room:
//!
//! `spans waiting + credit held by threads = used_spans <= capacity`, likewise for bytes.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::config::{Overflow, Queue};
use crate::span::{Chunk, SpanRecord};
use crate::sync::lock;

/// Spans for which a thread reserves room at a time, if the queue is large enough.
const BLOCK_SPANS: usize = 16;
/// Bytes for which a thread reserves room at a time.
const BLOCK_BYTES: usize = 32 * 1024;
/// Full chunks of one thread at which the worker is woken: by then its spans begin to leave the
/// caches.
const MANY_CHUNKS: usize = 8;
/// How long a blocked thread waits before it looks again whether the pipeline still runs.
const BLOCK_RECHECK: Duration = Duration::from_millis(10);

/// Counters that only one thread writes, summed up by readers.
#[derive(Debug, Default)]
pub(crate) struct ThreadCounts {
    pub(crate) started: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) sampled_out: AtomicU64,
}

/// Adds to a counter that only the calling thread writes (or, for the shared outbox, under its
/// lock), without the cost of an atomic read-modify-write.
pub(crate) fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

#[derive(Debug, Default)]
struct Waiting {
    current: Chunk,
    full: Vec<Chunk>,
    /// Empty chunks that the worker has brought back.
    spare: Vec<Chunk>,
    bytes: usize,
    credit: Room,
}

/// Room in the hand-off.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    spans: usize,
    bytes: usize,
}

impl Waiting {
    /// Adds a span; whether many wait by now.
    fn push(&mut self, span: &mut SpanRecord, bytes: usize) -> bool {
        self.bytes += bytes;
        self.current.push(span);
        if !self.current.is_full() {
            return false;
        }
        let empty = self.spare.pop().unwrap_or_default();
        self.full.push(std::mem::replace(&mut self.current, empty));
        self.full.len().is_multiple_of(MANY_CHUNKS)
    }

    /// Moves what waits to `taken`, and leaves as many empty chunks. The room that is free now:
    /// that of the spans and what was reserved besides.
    fn take(&mut self, spare: &mut Vec<Chunk>, taken: &mut Vec<Chunk>) -> Room {
        let before = taken.len();
        taken.append(&mut self.full);
        while self.spare.len() < (taken.len() - before).min(MANY_CHUNKS)
            && let Some(empty) = spare.pop()
        {
            self.spare.push(empty);
        }
        if self.current.len() > 0 {
            let empty = self.spare.pop().or_else(|| spare.pop()).unwrap_or_default();
            taken.push(std::mem::replace(&mut self.current, empty));
        }
        let credit = std::mem::take(&mut self.credit);
        let spans = taken[before..].iter().map(Chunk::len).sum::<usize>();
        Room { spans: spans + credit.spans, bytes: std::mem::take(&mut self.bytes) + credit.bytes }
    }

    fn is_empty(&self) -> bool {
        self.full.is_empty() && self.current.len() == 0
    }
}

/// The finished spans of one thread.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    pub(crate) counts: ThreadCounts,
    /// The thread has ended; the worker removes the outbox once it is empty.
    closed: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Handoff {
    outboxes: Mutex<Vec<Arc<Outbox>>>,
    /// For threads that have no outbox of their own (any more).
    shared: Arc<Outbox>,
    /// Held while a thread uses `shared`, whose counters have several writers.
    shared_use: Mutex<()>,
    /// Counts of outboxes that are gone: started, ended, sampled out.
    retired: Mutex<[u64; 3]>,
    capacity: Queue,
    block: usize,
    used_spans: AtomicUsize,
    used_bytes: AtomicUsize,
    room: Condvar,
    room_lock: Mutex<()>,
    stopped: AtomicBool,
}

/// Why a span was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Stopped,
}

/// Whether the worker should be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    No,
    Yes,
}

impl Handoff {
    pub(crate) fn new(capacity: Queue) -> Self {
        let capacity = Queue { spans: capacity.spans.max(1), ..capacity };
        Self {
            outboxes: Mutex::new(Vec::new()),
            shared: Arc::new(Outbox::default()),
            shared_use: Mutex::new(()),
            retired: Mutex::new([0; 3]),
            block: (capacity.spans / 64).clamp(1, BLOCK_SPANS),
            capacity,
            used_spans: AtomicUsize::new(0),
            used_bytes: AtomicUsize::new(0),
            room: Condvar::new(),
            room_lock: Mutex::new(()),
            stopped: AtomicBool::new(false),
        }
    }

    pub(crate) fn capacity(&self) -> Queue {
        self.capacity
    }

    /// An outbox for the calling thread.
    pub(crate) fn open(&self) -> Arc<Outbox> {
        let outbox = Arc::new(Outbox::default());
        lock(&self.outboxes).push(outbox.clone());
        outbox
    }

    /// The calling thread ends: what it holds stays for the worker.
    pub(crate) fn close(&self, outbox: &Outbox) {
        let mut waiting = lock(&outbox.waiting);
        self.give_back(std::mem::take(&mut waiting.credit));
        let is_empty = waiting.is_empty();
        drop(waiting);
        outbox.closed.store(true, Ordering::Release);
        if is_empty && self.stopped.load(Ordering::Acquire) {
            // The worker may be gone and would not do it.
            self.forget(&[std::ptr::from_ref(outbox)]);
        }
    }

    /// Runs `use_it` on the outbox for threads that have none.
    pub(crate) fn with_shared<R>(&self, use_it: impl FnOnce(&Outbox) -> R) -> R {
        let _used = lock(&self.shared_use);
        use_it(&self.shared)
    }

    /// Hands over a span: `span` is empty afterwards, and its thread can use it again.
    pub(crate) fn push(&self, outbox: &Outbox, span: &mut SpanRecord) -> Result<Wake, Refused> {
        let bytes = span.approximate_bytes();
        let mut wake = Wake::No;
        let mut waiting = lock(&outbox.waiting);
        loop {
            // Asked under the lock, which the last sweep takes after the flag is set: nothing
            // comes in behind that sweep.
            if self.stopped.load(Ordering::Acquire) {
                return Err(Refused::Stopped);
            }
            if waiting.credit.spans > 0 && waiting.credit.bytes >= bytes {
                break;
            }
            match self.reserve(&mut waiting.credit, bytes) {
                Some(reserved) => wake = reserved,
                None if self.capacity.overflow == Overflow::DropNewest => {
                    return Err(Refused::Full);
                }
                // A span that is larger than the whole queue would wait for ever.
                None if bytes > self.capacity.bytes => return Err(Refused::Full),
                None => {
                    drop(waiting);
                    self.wait_for_room();
                    waiting = lock(&outbox.waiting);
                }
            }
        }
        waiting.credit.spans -= 1;
        waiting.credit.bytes -= bytes;
        if waiting.push(span, bytes) {
            wake = Wake::Yes;
        }
        Ok(wake)
    }

    /// Reserves room for at least one more span of `bytes`; `None` when there is none.
    fn reserve(&self, credit: &mut Room, bytes: usize) -> Option<Wake> {
        let spans = if credit.spans == 0 { self.block } else { 0 };
        let more = if credit.bytes < bytes {
            bytes.max(BLOCK_BYTES.min(self.capacity.bytes / 64))
        } else {
            0
        };
        let before_spans = self.used_spans.fetch_add(spans, Ordering::Relaxed);
        let before_bytes = self.used_bytes.fetch_add(more, Ordering::Relaxed);
        if before_spans + spans > self.capacity.spans || before_bytes + more > self.capacity.bytes {
            self.give_back(Room { spans, bytes: more });
            return None;
        }
        credit.spans += spans;
        credit.bytes += more;
        let crossed = |before: usize, added: usize, capacity: usize| {
            before < capacity / 2 && before + added >= capacity / 2
        };
        let wake = crossed(before_spans, spans, self.capacity.spans)
            || crossed(before_bytes, more, self.capacity.bytes);
        Some(if wake { Wake::Yes } else { Wake::No })
    }

    fn give_back(&self, room: Room) {
        self.used_spans.fetch_sub(room.spans, Ordering::Relaxed);
        self.used_bytes.fetch_sub(room.bytes, Ordering::Relaxed);
    }

    fn wait_for_room(&self) {
        let guard = lock(&self.room_lock);
        drop(self.room.wait_timeout(guard, BLOCK_RECHECK));
    }

    /// Takes everything that waits, chunk by chunk, and forgets outboxes of threads that have
    /// ended. `spare` holds empty chunks, which take the place of the full ones.
    pub(crate) fn sweep(&self, spare: &mut Vec<Chunk>, full: &mut Vec<Chunk>) {
        let mut freed = Room::default();
        let mut take = |outbox: &Outbox| {
            // Closed is read first: a span that came in before it is seen below.
            let closed = outbox.closed.load(Ordering::Acquire);
            let room = lock(&outbox.waiting).take(spare, full);
            freed.spans += room.spans;
            freed.bytes += room.bytes;
            closed
        };
        take(&self.shared);
        let outboxes: Vec<_> = lock(&self.outboxes).clone();
        let mut gone = Vec::new();
        for outbox in &outboxes {
            if take(outbox) {
                gone.push(Arc::as_ptr(outbox));
            }
        }
        if !gone.is_empty() {
            self.forget(&gone);
        }
        if freed.spans > 0 || freed.bytes > 0 {
            self.give_back(freed);
            if self.capacity.overflow == Overflow::Block {
                drop(lock(&self.room_lock));
                self.room.notify_all();
            }
        }
    }

    fn forget(&self, gone: &[*const Outbox]) {
        // Both locks, so that a reader of the sums sees a count in one place, never in none.
        let mut outboxes = lock(&self.outboxes);
        let mut retired = lock(&self.retired);
        outboxes.retain(|outbox| {
            let stays = !gone.contains(&Arc::as_ptr(outbox));
            if !stays {
                for (sum, count) in retired.iter_mut().zip(outbox.counts.values()) {
                    *sum += count;
                }
            }
            stays
        });
    }

    /// From now on spans come back as [`Refused::Stopped`].
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        drop(lock(&self.room_lock));
        self.room.notify_all();
    }

    /// Spans started, ended and sampled out on the application's threads.
    pub(crate) fn counts(&self) -> [u64; 3] {
        let outboxes = lock(&self.outboxes);
        let mut sums = *lock(&self.retired);
        for outbox in outboxes.iter().chain([&self.shared]) {
            for (sum, count) in sums.iter_mut().zip(outbox.counts.values()) {
                *sum += count;
            }
        }
        sums
    }
}

impl ThreadCounts {
    fn values(&self) -> [u64; 3] {
        // Read against the order in which they are written, so that no span seems to have ended
        // before it started.
        let sampled_out = self.sampled_out.load(Ordering::Relaxed);
        let ended = self.ended.load(Ordering::Relaxed);
        let started = self.started.load(Ordering::Relaxed);
        [started, ended, sampled_out]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(spans: usize, overflow: Overflow) -> Queue {
        Queue { spans, bytes: 1 << 20, overflow }
    }

    fn swept(handoff: &Handoff) -> usize {
        let mut full = Vec::new();
        handoff.sweep(&mut Vec::new(), &mut full);
        full.iter().map(Chunk::len).sum()
    }

    #[test]
    fn a_full_hand_off_gives_the_span_back_and_takes_more_after_a_sweep() {
        let handoff = Handoff::new(queue(2, Overflow::DropNewest));
        let outbox = handoff.open();
        for _ in 0..2 {
            assert!(handoff.push(&outbox, &mut SpanRecord::default()).is_ok());
        }
        let refused = handoff.push(&outbox, &mut SpanRecord::default());
        assert!(matches!(refused, Err(Refused::Full)));
        assert_eq!(swept(&handoff), 2);
        assert!(handoff.push(&outbox, &mut SpanRecord::default()).is_ok());
    }

    #[test]
    fn bytes_bound_the_hand_off_as_well_as_spans() {
        let capacity = Queue { spans: 1000, bytes: 64 * 1024, overflow: Overflow::DropNewest };
        let handoff = Handoff::new(capacity);
        let outbox = handoff.open();
        let big = || {
            let name_text = "x".repeat(30 * 1024);
            SpanRecord { name_text, ..SpanRecord::default() }
        };
        let taken = (0..10).filter(|_| handoff.push(&outbox, &mut big()).is_ok()).count();
        assert_eq!(taken, 2);
    }

    #[test]
    fn blocked_threads_lose_nothing() {
        let handoff = Handoff::new(queue(4, Overflow::Block));
        let mut count = 0;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let outbox = handoff.open();
                    for _ in 0..100 {
                        assert!(handoff.push(&outbox, &mut SpanRecord::default()).is_ok());
                    }
                    handoff.close(&outbox);
                });
            }
            while count < 400 {
                count += swept(&handoff);
                std::thread::yield_now();
            }
        });
        assert_eq!(count, 400);
        assert_eq!(handoff.used_spans.load(Ordering::Relaxed), 0);
        assert_eq!(handoff.used_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn counts_survive_the_thread_that_made_them() {
        let handoff = Handoff::new(queue(4, Overflow::DropNewest));
        let outbox = handoff.open();
        bump(&outbox.counts.started);
        bump(&outbox.counts.ended);
        handoff.close(&outbox);
        swept(&handoff);
        assert!(lock(&handoff.outboxes).is_empty());
        assert_eq!(handoff.counts(), [1, 1, 0]);
    }

    #[test]
    fn idle_threads_hold_no_room() {
        let handoff =
            Handoff::new(Queue { spans: 1024, bytes: 1 << 20, overflow: Overflow::DropNewest });
        let mut outboxes = Vec::new();
        // As many threads as would reserve all of it.
        for _ in 0..200 {
            let outbox = handoff.open();
            assert!(handoff.push(&outbox, &mut SpanRecord::default()).is_ok());
            outboxes.push(outbox);
            assert_eq!(swept(&handoff), 1);
        }
        assert_eq!(handoff.used_spans.load(Ordering::Relaxed), 0);
        assert_eq!(handoff.used_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn threads_that_end_after_the_stop_leave_nothing_behind() {
        let handoff = Handoff::new(queue(4, Overflow::DropNewest));
        handoff.stop();
        let outbox = handoff.open();
        bump(&outbox.counts.ended);
        let refused = handoff.push(&outbox, &mut SpanRecord::default());
        assert!(matches!(refused, Err(Refused::Stopped)));
        handoff.close(&outbox);
        assert!(lock(&handoff.outboxes).is_empty());
        assert_eq!(handoff.counts(), [0, 1, 0]);
    }
}
