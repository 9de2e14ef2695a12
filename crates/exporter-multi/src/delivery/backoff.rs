//! How long to wait between attempts.

use std::time::Duration;

/// How requests that failed for a while are tried again.
///
/// Exponential backoff with full jitter: before attempt *n* + 1 a random time between zero and
/// `initial_delay` * 2^(*n* - 1) passes, at most `max_delay`. A backend that names a time
/// (`Retry-After`, `RetryInfo`) is given it, up to 300 seconds.
///
/// ```
/// use std::time::Duration;
/// use spanweave_exporter::{Backend, RetryPolicy};
///
/// let patient = RetryPolicy::default().max_delay(Duration::from_secs(60)).give_up_after(None);
/// let backend = Backend::otlp_http("http://collector:4318").retry(patient);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    pub(crate) initial_delay: Duration,
    pub(crate) max_delay: Duration,
    pub(crate) give_up_after: Option<Duration>,
    pub(crate) enabled: bool,
}

impl Default for RetryPolicy {
    /// 500 ms, 30 s, and five minutes (as the OpenTelemetry Collector has it).
    fn default() -> Self {
        Self {
            initial_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
            give_up_after: Some(Duration::from_secs(300)),
            enabled: true,
        }
    }
}

impl RetryPolicy {
    /// Nothing is tried again: a request that fails is dropped and counted.
    pub fn never() -> Self {
        Self { enabled: false, ..Self::default() }
    }

    /// The longest wait after the first failure.
    #[must_use]
    pub fn initial_delay(self, delay: Duration) -> Self {
        Self { initial_delay: delay, ..self }
    }

    /// The longest wait after any failure.
    #[must_use]
    pub fn max_delay(self, delay: Duration) -> Self {
        Self { max_delay: delay, ..self }
    }

    /// How long one request is tried before it is dropped (counted as refused), so that a request
    /// that its backend cannot digest does not hold up the others for ever; `None` for no limit.
    ///
    /// Only the time from the first answer, or the first attempt that ran into its timeout,
    /// counts: while a backend cannot even be reached nothing is given up, the queue just fills.
    #[must_use]
    pub fn give_up_after(self, limit: Option<Duration>) -> Self {
        Self { give_up_after: limit, ..self }
    }

    /// The wait after `failures` failures in a row (at least one). `chance` is in 0..1.
    pub(crate) fn delay(&self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let longest = self.initial_delay.saturating_mul(1 << doublings).min(self.max_delay);
        longest.mul_f64(chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_cap_and_is_jittered_in_full() {
        let policy = RetryPolicy::default()
            .initial_delay(Duration::from_millis(100))
            .max_delay(Duration::from_secs(1));
        let longest: Vec<_> =
            (1..7).map(|failures| policy.delay(failures, 1.0).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(policy.delay(3, 0.0), Duration::ZERO);
        assert_eq!(policy.delay(3, 0.5), Duration::from_millis(200));
    }

    #[test]
    fn no_number_of_failures_overflows() {
        let policy = RetryPolicy::default().initial_delay(Duration::MAX).max_delay(Duration::MAX);
        for failures in [0, 1, 32, 33, u32::MAX] {
            policy.delay(failures, 0.5);
        }
    }
}
