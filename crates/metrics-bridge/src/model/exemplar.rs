//! Exemplars: a trace that shows what a number means.

use opentelemetry::trace::{SpanId, TraceId};

/// A newer exemplar replaces one that is at least so old. An exemplar leads a person to a trace;
/// more of them than scrapes help nobody.
const MIN_AGE_NANOS: u64 = 1_000_000_000;

/// One span that was measured and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exemplar {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    /// What was measured: nanoseconds.
    pub(crate) value: u64,
    /// Nanoseconds since the Unix epoch.
    pub(crate) at: u64,
}

/// The newest exemplar of each bucket.
#[derive(Clone, Debug)]
pub(crate) struct ExemplarSlots(Box<[Option<Exemplar>]>);

impl ExemplarSlots {
    pub(crate) fn new(buckets: usize) -> Self {
        Self(vec![None; buckets].into())
    }

    /// Takes the exemplar, unless the bucket has one that is younger than a second.
    pub(crate) fn offer(&mut self, bucket: usize, exemplar: Exemplar) {
        if let Some(slot) = self.0.get_mut(bucket) {
            let due = |old: &Exemplar| {
                // A wall clock that was set back must not silence the slot.
                exemplar.at.abs_diff(old.at) >= MIN_AGE_NANOS
            };
            if slot.as_ref().is_none_or(due) {
                *slot = Some(exemplar);
            }
        }
    }

    pub(crate) fn get(&self, bucket: usize) -> Option<&Exemplar> {
        self.0.get(bucket)?.as_ref()
    }

    /// The newest of all buckets.
    pub(crate) fn newest(&self) -> Option<&Exemplar> {
        self.0.iter().flatten().max_by_key(|exemplar| exemplar.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(at: u64) -> Exemplar {
        Exemplar { trace_id: TraceId::from(1), span_id: SpanId::from(at), value: 1, at }
    }

    #[test]
    fn a_bucket_takes_one_exemplar_a_second_and_the_newest_stays() {
        let mut slots = ExemplarSlots::new(2);
        slots.offer(0, exemplar(1_000_000_000));
        slots.offer(0, exemplar(1_999_999_999));
        assert_eq!(slots.get(0), Some(&exemplar(1_000_000_000)));
        slots.offer(0, exemplar(2_000_000_000));
        slots.offer(1, exemplar(1_500_000_000));
        assert_eq!(slots.get(0), Some(&exemplar(2_000_000_000)));
        assert_eq!(slots.newest(), Some(&exemplar(2_000_000_000)));
        slots.offer(2, exemplar(9_000_000_000));
        assert_eq!(slots.newest(), Some(&exemplar(2_000_000_000)));
    }
}
