//! Consistent probability sampling: the `ot` member of `tracestate`.
//!
//! <https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/>
//!
//! A trace has 56 bits of randomness R: the sub-key `rv`, else the low bits of the trace id. A
//! sampler of probability p has the rejection threshold T = (1 - p) * 2^56 and keeps the trace
//! when R >= T. The sub-key `th` tells it to everybody behind, as 1 to 14 hex digits without
//! trailing zeros, so that a sampled span stands for 2^56 / (2^56 - T) spans. Thresholds are kept
//! to the full 56 bits; nothing is rounded to fewer digits.

use std::fmt;

use opentelemetry::TraceId;
use opentelemetry::trace::TraceState;

/// The key of the member.
pub const KEY: &str = "ot";

/// Longest value of the member.
const MAX_VALUE: usize = 256;

/// 2^56: the number of values that the randomness takes.
const RANGE: u64 = 1 << 56;

/// Hex digits of 56 bits.
const DIGITS: usize = 14;

/// 56 random bits of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Randomness(u64);

impl Randomness {
    /// The low 56 bits of a trace id, which is random.
    pub fn of_trace_id(trace_id: TraceId) -> Self {
        let [.., a, b, c, d, e, f, g, h] = trace_id.to_bytes();
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]) & (RANGE - 1))
    }

    /// Exactly 14 lower-case hex digits.
    fn parse(digits: &str) -> Option<Self> {
        (digits.len() == DIGITS).then(|| parse_hex(digits)).flatten().map(Self)
    }
}

/// A rejection threshold, from 0 (keep all) up to, but without, 2^56.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threshold(u64);

impl Threshold {
    /// Keeps every trace.
    pub const ALL: Self = Self(0);

    /// The threshold of a probability, exact to 2^-56. `None` where nothing is kept: for 0 and
    /// less, for less than 2^-57, and for NaN.
    ///
    /// ```
    /// use spanweave_core::sampling::consistent::Threshold;
    ///
    /// let quarter = Threshold::of_probability(0.25).unwrap();
    /// assert_eq!(quarter.to_string(), "c");
    /// assert_eq!(quarter.adjusted_count(), 4.0);
    /// assert!(Threshold::of_probability(0.0).is_none());
    /// ```
    pub fn of_probability(probability: f64) -> Option<Self> {
        // A power of two: the product is exact, and whole numbers up to 2^56 that come from a
        // fraction of 53 bits are too.
        let kept = (probability.clamp(0.0, 1.0) * RANGE as f64).round();
        (kept >= 1.0).then(|| Self(RANGE - kept as u64))
    }

    /// The probability with which traces are kept.
    pub fn probability(self) -> f64 {
        (RANGE - self.0) as f64 / RANGE as f64
    }

    /// How many spans one that was kept stands for.
    pub fn adjusted_count(self) -> f64 {
        RANGE as f64 / (RANGE - self.0) as f64
    }

    /// Whether a trace of that randomness is kept.
    pub fn keeps(self, randomness: Randomness) -> bool {
        randomness.0 >= self.0
    }

    /// 1 to 14 lower-case hex digits; what is missing on the right are zeros.
    fn parse(digits: &str) -> Option<Self> {
        if digits.is_empty() || digits.len() > DIGITS {
            return None;
        }
        Some(Self(parse_hex(digits)? << (4 * (DIGITS - digits.len()))))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Each trailing zero digit is four zero bits; zero itself keeps one digit.
        let zeros = (self.0.trailing_zeros() as usize / 4).min(DIGITS - 1);
        write!(f, "{:0width$x}", self.0 >> (4 * zeros), width = DIGITS - zeros)
    }
}

fn parse_hex(digits: &str) -> Option<u64> {
    digits.bytes().try_fold(0, |value: u64, byte| match byte {
        b'0'..=b'9' | b'a'..=b'f' => Some(value << 4 | u64::from(char::from(byte).to_digit(16)?)),
        _ => None,
    })
}

/// The value of the `ot` member, taken apart. A sub-key that breaks the grammar is dropped, of one
/// that comes twice the first stands, others than `th` and `rv` are kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtState<'a> {
    /// The threshold under which the trace was sampled, if that is known.
    pub threshold: Option<Threshold>,
    /// The randomness that stands in place of the trace id's. Never changed on the way.
    pub randomness: Option<Randomness>,
    others: Vec<(&'a str, &'a str)>,
    /// There was a `th` that was not taken: a broken or a second one.
    stray_threshold: bool,
}

impl<'a> OtState<'a> {
    /// Reads the member of a trace state; without one, there is nothing known.
    pub fn of(state: &'a TraceState) -> Self {
        state.get(KEY).map(Self::parse).unwrap_or_default()
    }

    /// Reads the value of the member. One that is longer than 256 characters reads as empty.
    pub fn parse(value: &'a str) -> Self {
        let mut parsed = Self::default();
        if value.len() > MAX_VALUE {
            return parsed;
        }
        for (key, value) in value.split(';').filter_map(|pair| pair.split_once(':')) {
            match key {
                "th" => match (parsed.threshold, Threshold::parse(value)) {
                    (None, Some(threshold)) => parsed.threshold = Some(threshold),
                    _ => parsed.stray_threshold = true,
                },
                "rv" => parsed.randomness = parsed.randomness.or(Randomness::parse(value)),
                _ if is_pair(key, value) && parsed.others.iter().all(|(k, _)| *k != key) => {
                    parsed.others.push((key, value));
                }
                _ => {}
            }
        }
        parsed
    }

    /// The randomness of a trace: `rv`, else the low bits of its id.
    pub fn randomness_of(&self, trace_id: TraceId) -> Randomness {
        self.randomness.unwrap_or_else(|| Randomness::of_trace_id(trace_id))
    }

    /// The value of the member: `th`, `rv`, then the others as far as 256 characters reach. Empty
    /// where there is nothing to say.
    pub fn format(&self) -> String {
        let mut value = String::new();
        if let Some(threshold) = self.threshold {
            value = format!("th:{threshold}");
        }
        if let Some(Randomness(bits)) = self.randomness {
            let separator = if value.is_empty() { "" } else { ";" };
            value.push_str(&format!("{separator}rv:{bits:014x}"));
        }
        for (key, other) in &self.others {
            let separator = usize::from(!value.is_empty());
            if value.len() + separator + key.len() + 1 + other.len() > MAX_VALUE {
                break;
            }
            if separator > 0 {
                value.push(';');
            }
            value.push_str(key);
            value.push(':');
            value.push_str(other);
        }
        value
    }

    /// The trace state that this was read from, with another threshold; `None` where that is what
    /// it says already.
    pub(super) fn replace_threshold(
        mut self,
        state: &TraceState,
        threshold: Option<Threshold>,
    ) -> Option<TraceState> {
        if self.threshold == threshold && !self.stray_threshold {
            return None;
        }
        self.threshold = threshold;
        Some(self.write_to(state))
    }

    /// The trace state with this as its `ot` member, moved to the left.
    pub fn write_to(&self, state: &TraceState) -> TraceState {
        let value = self.format();
        let changed = if value.is_empty() { state.delete(KEY) } else { state.insert(KEY, value) };
        match changed {
            // An emptied state equals one that never had members.
            Ok(changed) if (&changed).into_iter().len() > 0 => changed,
            _ => TraceState::NONE,
        }
    }
}

/// The trace state without a threshold, as for a span whose probability is not known; `None` where
/// it has none.
pub fn without_threshold(state: &TraceState) -> Option<TraceState> {
    OtState::of(state).replace_threshold(state, None)
}

/// `key` and `value` of a sub-key: a lower-case letter, then letters and digits; letters, digits,
/// `.`, `_` and `-`.
fn is_pair(key: &str, value: &str) -> bool {
    key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
        && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn thresholds_are_those_of_the_specification() {
        for (probability, th) in [
            (1.0, "0"),
            (0.5, "8"),
            (0.25, "c"),
            (0.75, "4"),
            (1.0 / 16.0, "f"),
            (1.0 / 256.0, "ff"),
            (0.1, "e6666666666666"),
            (1.0 / 3.0, "aaaaaaaaaaaaac"),
            (2f64.powi(-56), "ffffffffffffff"),
        ] {
            let threshold = Threshold::of_probability(probability).unwrap();
            assert_eq!(threshold.to_string(), th, "{probability}");
            assert_eq!(Threshold::parse(th), Some(threshold));
            assert!((threshold.probability() - probability).abs() <= 2f64.powi(-56));
        }
        assert_eq!(Threshold::of_probability(7.0), Some(Threshold::ALL));
        for nothing in [0.0, -1.0, f64::NAN, 2f64.powi(-58)] {
            assert_eq!(Threshold::of_probability(nothing), None);
        }
        assert_eq!(Threshold::ALL.adjusted_count(), 1.0);
    }

    #[test]
    fn leading_zeros_of_a_threshold_count() {
        let threshold = Threshold::parse("08").unwrap();
        assert_eq!(threshold, Threshold(0x08 << 48));
        assert_eq!(threshold.to_string(), "08");
        assert_eq!(Threshold::parse("000"), Some(Threshold::ALL));
    }

    #[test]
    fn foreign_values_are_read_strictly() {
        for bad in ["", "C", "+1", "0x1", "123456789abcdef", "g", " 1"] {
            assert_eq!(Threshold::parse(bad), None, "{bad:?}");
        }
        for bad in ["", "1", "123456789abcd", "123456789abcdef", "123456789ABCDE"] {
            assert_eq!(Randomness::parse(bad), None, "{bad:?}");
        }
        let state = OtState::parse("th:c;rv:00000000000001;a:1;a:2;B:3;b;c:x y;th:8");
        assert_eq!(state.format(), "th:c;rv:00000000000001;a:1");
        assert_eq!(OtState::parse("").format(), "");
        assert_eq!(OtState::parse(&"a".repeat(300)).format(), "");
    }

    #[test]
    fn rv_comes_before_the_trace_id() {
        let trace_id = TraceId::from(0xabcd_ffff_ffff_ffff_ffff_u128);
        let from_id = OtState::default().randomness_of(trace_id);
        assert_eq!(from_id, Randomness(RANGE - 1));
        let from_rv = OtState::parse("rv:00000000000001").randomness_of(trace_id);
        assert_eq!(from_rv, Randomness(1));
        let half = Threshold::of_probability(0.5).unwrap();
        assert!(half.keeps(from_id) && !half.keeps(from_rv));
        assert!(half.keeps(Randomness(1 << 55)) && !half.keeps(Randomness((1 << 55) - 1)));
    }

    #[test]
    fn the_member_stays_within_256_characters() {
        let full = format!("a:{}", "x".repeat(MAX_VALUE - 2));
        let mut state = OtState::parse(&full);
        assert_eq!(state.format(), full);
        state.threshold = Some(Threshold::ALL);
        assert_eq!(state.format(), "th:0");
    }

    #[test]
    fn the_member_is_moved_to_the_left_and_leaves_no_empty_state() {
        let state = TraceState::from_key_value([("a", "1"), ("ot", "x:1")]).unwrap();
        let mut ot = OtState::of(&state);
        ot.threshold = Some(Threshold::ALL);
        assert_eq!(ot.write_to(&state).header(), "ot=th:0;x:1,a=1");
        let state = TraceState::from_key_value([("ot", "th:0")]).unwrap();
        assert_eq!(OtState::default().write_to(&state), TraceState::NONE);
    }

    #[test]
    fn a_threshold_is_taken_out_and_the_rest_stays() {
        let state = |ot| TraceState::from_key_value([("a", "1"), ("ot", ot)]).unwrap();
        let without = |ot| without_threshold(&state(ot)).map(|state| state.header());
        assert_eq!(without("th:c;x:1").as_deref(), Some("ot=x:1,a=1"));
        assert_eq!(without("th:broken").as_deref(), Some("a=1"));
        assert_eq!(without("x:1"), None);
        assert_eq!(without_threshold(&TraceState::NONE), None);
    }

    proptest! {
        #[test]
        fn any_threshold_survives_its_text(bits in 0..RANGE, cut in 0u32..56) {
            let threshold = Threshold(bits >> cut << cut);
            let text = threshold.to_string();
            prop_assert!(text.len() <= DIGITS && (text == "0" || !text.ends_with('0')));
            prop_assert_eq!(Threshold::parse(&text), Some(threshold));
        }

        #[test]
        fn any_member_survives_its_text(
            th in prop::option::of(0..RANGE),
            rv in prop::option::of(0..RANGE),
            others in prop::collection::btree_map("[a-q][a-z0-9]{0,5}", "[a-zA-Z0-9._-]{0,5}", 0..10),
        ) {
            let state = OtState {
                threshold: th.map(Threshold),
                randomness: rv.map(Randomness),
                others: others.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
                stray_threshold: false,
            };
            let text = state.format();
            prop_assert_eq!(OtState::parse(&text), state);
        }

        #[test]
        fn arbitrary_text_never_panics(any in ".*", near in "[a-ctrhv0-9:;]*") {
            for text in [any, near] {
                let once = OtState::parse(&text).format();
                prop_assert!(once.len() <= MAX_VALUE);
                prop_assert_eq!(OtState::parse(&once).format(), once.clone());
            }
        }
    }
}
