//! The bounds of a histogram.

use std::sync::Arc;

/// Seconds, as conventions for the project's own names have them.
const DEFAULT_SECONDS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0];

/// More bounds cost more than they tell; the semantic conventions have 14.
const MAX_BOUNDS: usize = 32;

const NANOS: f64 = 1e9;

/// Numbers of binary digits that a `u64` can have.
const DIGITS: usize = u64::BITS as usize + 1;

/// Upper bounds (inclusive) of a histogram of durations.
///
/// Invariant: `nanos` is strictly rising, `seconds` are the same bounds.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    nanos: Arc<[u64]>,
    seconds: Arc<[f64]>,
    /// The first bucket that a duration of so many binary digits can be in.
    starts: [u8; DIGITS],
}

impl Default for Buckets {
    fn default() -> Self {
        Self::from_sorted(&DEFAULT_SECONDS)
    }
}

impl Buckets {
    /// `None` if no usable bound is left.
    pub(crate) fn new(seconds: impl IntoIterator<Item = f64>) -> Option<Self> {
        // A bound of a nanosecond is the smallest, one of 500 years the largest that is exact
        // enough in nanoseconds.
        let usable = |bound: &f64| (1e-9..=1.6e10).contains(bound);
        let mut seconds: Vec<f64> = seconds.into_iter().filter(usable).collect();
        seconds.sort_by(f64::total_cmp);
        seconds.dedup_by_key(|bound| nanos(*bound));
        seconds.truncate(MAX_BOUNDS);
        (!seconds.is_empty()).then(|| Self::from_sorted(&seconds))
    }

    fn from_sorted(seconds: &[f64]) -> Self {
        let nanos: Arc<[u64]> = seconds.iter().map(|bound| nanos(*bound)).collect();
        let start = |digits: usize| {
            let smallest = if digits == 0 { 0 } else { 1_u64 << (digits - 1) };
            // At most MAX_BOUNDS.
            nanos.partition_point(|bound| *bound < smallest) as u8
        };
        Self { starts: std::array::from_fn(start), nanos, seconds: seconds.into() }
    }

    /// The number of buckets, the one without a bound included.
    pub(crate) fn len(&self) -> usize {
        self.nanos.len() + 1
    }

    /// The bounds in seconds, rising, without `+Inf`.
    pub(crate) fn seconds(&self) -> &[f64] {
        &self.seconds
    }

    /// The bucket that a duration falls into. There are hardly ever more than two bounds between
    /// powers of two, so this is a look-up and a comparison or two.
    #[inline]
    pub(crate) fn index(&self, nanos: u64) -> usize {
        let digits = (u64::BITS - nanos.leading_zeros()) as usize;
        let mut index = usize::from(self.starts[digits]);
        while self.nanos.get(index).is_some_and(|bound| nanos > *bound) {
            index += 1;
        }
        index
    }

    /// The bucket that holds the upper bound of the bucket `at` of other bounds.
    pub(crate) fn index_of_bucket(&self, other: &Self, at: usize) -> usize {
        other.nanos.get(at).map_or(self.nanos.len(), |bound| self.index(*bound))
    }
}

fn nanos(seconds: f64) -> u64 {
    (seconds * NANOS).round() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let buckets = Buckets::default();
        assert_eq!(buckets.index(0), 0);
        assert_eq!(buckets.index(1_000_000), 0);
        assert_eq!(buckets.index(1_000_001), 1);
        assert_eq!(buckets.index(30_000_000_000), 9);
        assert_eq!(buckets.index(u64::MAX), 10);
        assert_eq!(buckets.len(), 11);
    }

    proptest! {
        #[test]
        fn a_duration_is_in_the_first_bucket_that_can_hold_it(
            seconds in proptest::collection::vec(1e-9..1e10_f64, 0..40),
            nanos: u64,
            shift in 0..64_u32,
        ) {
            let buckets = Buckets::new(seconds).unwrap_or_default();
            let nanos = nanos >> shift;
            let expected = buckets.nanos.iter().filter(|bound| nanos > **bound).count();
            prop_assert_eq!(buckets.index(nanos), expected);
            for (index, bound) in buckets.nanos.iter().enumerate() {
                prop_assert_eq!(buckets.index(*bound), index);
                prop_assert_eq!(buckets.index(*bound + 1), index + 1);
            }
        }
    }

    #[test]
    fn bounds_that_make_no_sense_are_left_out() {
        let buckets = Buckets::new([5.0, f64::NAN, -1.0, 0.0, 0.1, 5.0, f64::INFINITY]).unwrap();
        assert_eq!(buckets.seconds(), [0.1, 5.0]);
        assert!(Buckets::new([f64::NAN]).is_none());
        assert_eq!(Buckets::new((1..100).map(f64::from)).unwrap().len(), MAX_BOUNDS + 1);
    }
}
