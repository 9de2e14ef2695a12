//! A small map from callsites to verdicts that is read without locks.

use std::sync::atomic::{AtomicUsize, Ordering};

use tracing_core::Metadata;

/// Whether a consumer takes what comes from a callsite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Never.
    Off = 1,
    /// Always.
    On = 2,
    /// It has to be asked each time.
    Ask = 3,
}

/// Slots; a large application has a few thousand callsites. What does not fit is asked each time.
const SLOTS: usize = 4096;
/// Slots that are looked at for one callsite.
const PROBES: usize = 8;
/// The bits of a metadata's address that are free, because it is aligned.
const BITS: usize = 0b11;

/// Each slot is zero, or the address of a `&'static Metadata` with its verdict in the lowest two
/// bits. Addresses are only compared.
pub(crate) struct Table {
    slots: Box<[AtomicUsize]>,
}

impl Table {
    pub(crate) fn new() -> Self {
        const { assert!(align_of::<Metadata<'static>>() > BITS) };
        Self { slots: (0..SLOTS).map(|_| AtomicUsize::new(0)).collect() }
    }

    /// The verdict for a callsite; made by `decide` the first time.
    pub(crate) fn get(
        &self,
        metadata: &'static Metadata<'static>,
        decide: impl FnOnce() -> Verdict,
    ) -> Verdict {
        let address = std::ptr::from_ref(metadata).addr();
        for probe in 0..PROBES {
            let Some(slot) = self.slots.get((hash(address) + probe) % SLOTS) else { break };
            let found = slot.load(Ordering::Relaxed);
            if found == 0 {
                let verdict = decide();
                let entry = address | verdict as usize;
                // Losing the race for a slot costs one more decision later.
                slot.compare_exchange(0, entry, Ordering::Relaxed, Ordering::Relaxed).ok();
                return verdict;
            }
            if found & !BITS == address {
                return match found & BITS {
                    1 => Verdict::Off,
                    2 => Verdict::On,
                    _ => Verdict::Ask,
                };
            }
        }
        decide()
    }
}

/// Fibonacci hashing: the upper bits of the product are well mixed.
fn hash(address: usize) -> usize {
    let product = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (product >> 48) as usize
}

#[cfg(test)]
mod tests {
    use tracing_core::{Callsite, identify_callsite, metadata::Kind, subscriber::Interest};

    use super::*;

    struct Site;
    impl Callsite for Site {
        fn set_interest(&self, _: Interest) {}
        fn metadata(&self) -> &Metadata<'_> {
            unreachable!()
        }
    }
    static SITE: Site = Site;

    fn metadata() -> &'static Metadata<'static> {
        Box::leak(Box::new(Metadata::new(
            "x",
            "x",
            tracing_core::Level::INFO,
            None,
            None,
            None,
            tracing_core::field::FieldSet::new(&[], identify_callsite!(&SITE)),
            Kind::EVENT,
        )))
    }

    #[test]
    fn a_callsite_is_decided_once() {
        let table = Table::new();
        for verdict in [Verdict::Off, Verdict::On, Verdict::Ask] {
            let site = metadata();
            assert_eq!(table.get(site, || verdict), verdict);
            assert_eq!(table.get(site, || unreachable!("it is known")), verdict);
        }
    }

    #[test]
    fn a_full_table_still_answers_right() {
        let table = Table::new();
        let sites: Vec<_> = (0..3 * SLOTS).map(|_| metadata()).collect();
        for round in 0..2 {
            for (index, site) in sites.iter().enumerate() {
                let verdict = if index % 2 == 0 { Verdict::On } else { Verdict::Off };
                assert_eq!(table.get(site, || verdict), verdict, "{round} {index}");
            }
        }
    }
}
