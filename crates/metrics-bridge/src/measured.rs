//! The series of a span and its duration in the two numbers of a [`Measurement`].
//!
//! Each of four series has [`ID_BITS`] bits, the duration has the rest: its binary digits above
//! the lowest so many, and how many. Durations up to 67 ms are exact, others to 30 billionths.

use spanweave_core::Measurement;

/// Sixteen million series have to be made before one has an identifier that does not fit; those
/// have no exemplars.
const ID_BITS: u32 = 24;
const MAX_ID: u32 = (1 << ID_BITS) - 1;

/// Bits of the shift of a duration: enough for a shift of 38, as 64 digits need.
const SHIFT_BITS: u32 = 6;
const DIGITS: u32 = 32 - SHIFT_BITS;

/// What no series has as its identifier.
pub(crate) const NO_SERIES: u32 = 0;

/// What was updated for one span. A series that was not is [`NO_SERIES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) span: u32,
    pub(crate) error: u32,
    /// A request that was taken or made.
    pub(crate) edge: u32,
    /// The metric of the semantic conventions.
    pub(crate) convention: u32,
    pub(crate) nanos: u64,
}

impl Measured {
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        [self.span, self.error, self.edge, self.convention]
            .into_iter()
            .filter(|id| *id != NO_SERIES)
    }

    #[inline]
    pub(crate) fn pack(self) -> Measurement {
        let id = |id: u32| u64::from(if id <= MAX_ID { id } else { NO_SERIES });
        let edge = id(self.edge);
        let shift = (u64::BITS - self.nanos.leading_zeros()).saturating_sub(DIGITS);
        let nanos = (self.nanos >> shift) << SHIFT_BITS | u64::from(shift);
        Measurement {
            series: id(self.span) | id(self.error) << ID_BITS | (edge & 0xffff) << (2 * ID_BITS),
            value: nanos | id(self.convention) << 32 | (edge >> 16) << (32 + ID_BITS),
        }
    }

    pub(crate) fn unpack(measurement: Measurement) -> Self {
        let Measurement { series, value } = measurement;
        let id = |bits: u64| (bits & u64::from(MAX_ID)) as u32;
        let edge = (series >> (2 * ID_BITS)) | (value >> (32 + ID_BITS)) << 16;
        let (nanos, shift) = (value & 0xffff_ffff, value & ((1 << SHIFT_BITS) - 1));
        Self {
            span: id(series),
            error: id(series >> ID_BITS),
            edge: id(edge),
            convention: id(value >> 32),
            nanos: (nanos >> SHIFT_BITS).checked_shl(shift as u32).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            ids: [u32; 4], id_shift in 8..32_u32, nanos: u64, shift in 0..64_u32,
        ) {
            let [span, error, edge, convention] = ids.map(|id| id >> id_shift);
            let measured = Measured { span, error, edge, convention, nanos: nanos >> shift };
            let back = Measured::unpack(measured.pack());
            prop_assert_eq!(Measured { nanos: 0, ..back }, Measured { nanos: 0, ..measured });
            let lost = measured.nanos - back.nanos;
            prop_assert!(lost <= measured.nanos >> (DIGITS - 1), "{lost} of {}", measured.nanos);
        }

        #[test]
        fn any_two_numbers_are_harmless(series: u64, value: u64) {
            Measured::unpack(Measurement { series, value });
        }
    }

    #[test]
    fn an_identifier_that_does_not_fit_is_none() {
        let (span, nanos) = (MAX_ID + 1, u64::MAX);
        let measured = Measured { span, error: MAX_ID, edge: u32::MAX, convention: 1, nanos };
        assert_eq!(Measured::unpack(measured.pack()).ids().collect::<Vec<_>>(), [MAX_ID, 1]);
    }
}
