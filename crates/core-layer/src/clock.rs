//! The one file that reads a clock.
//!
//! Spans take their times from a monotonic counter (the processor's time stamp counter where it
//! is usable) and are mapped to wall time by an anchor. Start and end of a span use the same
//! mapping, so no duration is ever negative, whatever happens to the wall clock. The anchor is
//! renewed by the worker, so spans follow a corrected wall clock within [`ANCHOR_LIFE`].
#![allow(clippy::disallowed_methods)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long an anchor between monotonic and wall time serves.
pub const ANCHOR_LIFE: Duration = Duration::from_secs(1);

/// Monotonic nanoseconds, from 30 days at the first use in this process.
pub type MonotonicNanos = u64;

/// Where monotonic time begins, so that the start of what has been under way for long
/// can be told as well.
const EPOCH: MonotonicNanos = 30 * 24 * 3600 * 1_000_000_000;

struct Source {
    clock: quanta::Clock,
    start: u64,
    /// Wall nanoseconds minus monotonic nanoseconds; wraps harmlessly.
    offset: AtomicU64,
}

fn source() -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let clock = quanta::Clock::new();
        let start = clock.raw();
        Source { offset: AtomicU64::new(wall_nanos().wrapping_sub(EPOCH)), clock, start }
    })
}

fn wall_nanos() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Monotonic nanoseconds now.
#[inline]
pub fn now() -> MonotonicNanos {
    let source = source();
    EPOCH + source.clock.delta_as_nanos(source.start, source.clock.raw())
}

/// Renews the mapping between monotonic and wall time.
pub fn renew_anchor() {
    let offset = wall_nanos().wrapping_sub(now());
    source().offset.store(offset, Ordering::Relaxed);
}

/// The current offset from monotonic to wall nanoseconds; add it (wrapping) to a
/// [`MonotonicNanos`] to get nanoseconds since the Unix epoch.
pub fn wall_offset() -> u64 {
    source().offset.load(Ordering::Relaxed)
}

/// Nanoseconds since the Unix epoch, now.
pub fn unix_nanos() -> u64 {
    now().wrapping_add(wall_offset())
}

/// The wall clock now.
pub fn system_time() -> SystemTime {
    SystemTime::now()
}

/// The monotonic clock of the standard library, for deadlines and timers.
pub fn instant() -> Instant {
    Instant::now()
}

/// A point in time by which something has to be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline `duration` from now. Durations past what the clock can express count as a year.
    pub fn after(duration: Duration) -> Self {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let now = instant();
        Self(now.checked_add(duration.min(YEAR)).unwrap_or(now))
    }

    /// A deadline at `at`.
    pub fn at(at: Instant) -> Self {
        Self(at)
    }

    /// The time that is left; zero when it is over.
    pub fn remaining(&self) -> Duration {
        self.0.saturating_duration_since(instant())
    }

    /// Whether no time is left.
    pub fn has_passed(&self) -> bool {
        self.remaining().is_zero()
    }

    /// The deadline as an [`Instant`].
    pub fn instant(&self) -> Instant {
        self.0
    }

    /// The earlier of two deadlines.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        self.min(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_never_goes_back_and_maps_to_wall_time() {
        let first = now();
        let second = now();
        assert!(second >= first);
        renew_anchor();
        assert!(unix_nanos().abs_diff(wall_nanos()) < 1_000_000_000);
    }

    #[test]
    fn a_deadline_of_any_length_is_expressible() {
        assert!(!Deadline::after(Duration::MAX).has_passed());
        assert!(Deadline::after(Duration::ZERO).has_passed());
    }
}
