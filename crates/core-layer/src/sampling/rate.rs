//! A token bucket in one atomic.

use std::sync::atomic::{AtomicU64, Ordering};

/// Lets at most N events a second through, after bursts of at most max(1, N): within any t
/// seconds, at most N * t + max(1, N). Shared by threads; time is passed in, as nanoseconds of a
/// clock that does not go back.
///
/// The generic cell rate algorithm: instead of tokens and the time of the last refill it keeps the
/// one instant at which the bucket would be full again.
#[derive(Debug)]
pub struct RateLimiter {
    /// Nanoseconds that one event takes out of the bucket; 0 lets everything through.
    cost: u64,
    /// Nanoseconds that the bucket holds: at least `cost`. 0 with a positive `cost` lets nothing
    /// through.
    capacity: u64,
    full_at: AtomicU64,
}

impl RateLimiter {
    /// A limiter that starts with a full bucket. 0, negative and NaN let nothing through.
    pub fn new(per_second: f64) -> Self {
        const SECOND: f64 = 1e9;
        /// 146 years: no sum with an instant of a real clock overflows.
        const LONGEST: u64 = 1 << 62;
        let (cost, capacity) = if per_second > 0.0 {
            // Rounded up, so that the rate is never exceeded; the conversion saturates. A rate
            // above one event a nanosecond costs nothing.
            let cost = SECOND / per_second;
            let cost = if cost < 1.0 { 0 } else { (cost.ceil() as u64).min(LONGEST) };
            let burst = per_second.max(1.0) as u64;
            (cost, cost.saturating_mul(burst))
        } else {
            (1, 0)
        };
        Self { cost, capacity, full_at: AtomicU64::new(0) }
    }

    /// Whether an event at this instant passes, and takes its share if so. Never blocks.
    pub fn admit(&self, now_nanos: u64) -> bool {
        if self.cost == 0 {
            return true;
        }
        let admitted = |full_at: u64| {
            let full_at = full_at.max(now_nanos).saturating_add(self.cost);
            (full_at - now_nanos <= self.capacity).then_some(full_at)
        };
        self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admitted).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn admitted(limiter: &RateLimiter, instants: impl Iterator<Item = u64>) -> usize {
        instants.filter(|now| limiter.admit(*now)).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limiter = RateLimiter::new(100.0);
        assert_eq!(admitted(&limiter, std::iter::repeat_n(5, 1000)), 100);
        // Ten further seconds, a thousand attempts each.
        let attempts = (1..=10_000).map(|i| 5 + i * SECOND / 1000);
        assert_eq!(admitted(&limiter, attempts), 1000);
    }

    #[test]
    fn rates_below_one_pass_a_single_event_at_a_time() {
        let limiter = RateLimiter::new(0.5);
        assert!(limiter.admit(0));
        assert!(!limiter.admit(2 * SECOND - 1));
        assert!(limiter.admit(2 * SECOND));
        assert!(limiter.admit(100 * SECOND));
        assert!(!limiter.admit(100 * SECOND + 1));
    }

    #[test]
    fn odd_rates_are_all_or_nothing() {
        for nothing in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            assert!(!RateLimiter::new(nothing).admit(SECOND), "{nothing}");
        }
        let all = RateLimiter::new(f64::INFINITY);
        assert_eq!(admitted(&all, std::iter::repeat_n(1, 10_000)), 10_000);
        let once = RateLimiter::new(1e-300);
        assert!(once.admit(SECOND) && !once.admit(100 * 366 * 86_400 * SECOND));
    }

    #[test]
    fn threads_share_the_limit() {
        let limiter = RateLimiter::new(1000.0);
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| admitted(&limiter, std::iter::repeat_n(7, 10_000))))
                .collect();
            threads.into_iter().filter_map(|t| t.join().ok()).sum()
        });
        assert_eq!(total, 1000);
    }

    proptest! {
        #[test]
        fn no_window_lets_more_than_the_limit_through(
            per_second in 0.1f64..1000.0,
            mut instants in prop::collection::vec(0..5 * SECOND, 1..500),
        ) {
            instants.sort_unstable();
            let limiter = RateLimiter::new(per_second);
            let passed: Vec<_> = instants.into_iter().filter(|now| limiter.admit(*now)).collect();
            for (i, from) in passed.iter().enumerate() {
                for (count, to) in passed.iter().skip(i).enumerate() {
                    let seconds = (to - from) as f64 / SECOND as f64;
                    prop_assert!((count + 1) as f64 <= per_second * seconds + per_second.max(1.0) + 1e-6);
                }
            }
        }
    }
}
