//! Numbers as both formats read them.

use std::fmt::Write;

use crate::model::Number;

/// Floats above this are written with an exponent; integers below it are exact.
const MAX_PLAIN: f64 = 1e15;

pub(super) fn push(out: &mut String, number: Number) {
    match number {
        Number::Integer(value) => push_integer(out, value),
        Number::Seconds(nanos) => push_seconds(out, nanos),
        Number::Float(value) => push_float(out, value),
    }
}

pub(super) fn push_integer(out: &mut String, value: u64) {
    // The longest u64 has 20 digits.
    let mut digits = [0_u8; 20];
    let mut rest = value;
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend(digits[digits.len() - count..].iter().map(|digit| char::from(*digit)));
}

/// Nanoseconds as seconds, exactly.
pub(super) fn push_seconds(out: &mut String, nanos: u64) {
    push_integer(out, nanos / 1_000_000_000);
    let mut fraction = nanos % 1_000_000_000;
    if fraction > 0 {
        let mut width = 9;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            width -= 1;
        }
        // Writing to a string cannot fail.
        write!(out, ".{fraction:0width$}").ok();
    }
}

pub(super) fn push_float(out: &mut String, value: f64) {
    if value == value.trunc() && value.abs() < MAX_PLAIN {
        write!(out, "{value}").ok();
    } else {
        push_canonical(out, value);
    }
}

/// A float that always looks like one (`1.0`), as OpenMetrics wants bounds and quantiles.
pub(super) fn push_canonical(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        write!(out, "{value:?}").ok();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(number: Number) -> String {
        let mut out = String::new();
        push(&mut out, number);
        out
    }

    #[test]
    fn numbers_read_as_prometheus_reads_them() {
        assert_eq!(text(Number::Integer(0)), "0");
        assert_eq!(text(Number::Integer(u64::MAX)), u64::MAX.to_string());
        assert_eq!(text(Number::Seconds(1_500_000_000)), "1.5");
        assert_eq!(text(Number::Seconds(1)), "0.000000001");
        assert_eq!(text(Number::Seconds(3_000_000_000)), "3");
        assert_eq!(text(Number::Float(1.0)), "1");
        assert_eq!(text(Number::Float(f64::NAN)), "NaN");
        assert_eq!(text(Number::Float(f64::NEG_INFINITY)), "-Inf");
        let mut bound = String::new();
        push_canonical(&mut bound, 1.0);
        assert_eq!(bound, "1.0");
    }

    proptest! {
        #[test]
        fn a_float_reads_back_as_itself(value: f64) {
            let back: f64 = text(Number::Float(value)).parse().unwrap();
            prop_assert!(back == value || (back.is_nan() && value.is_nan()));
        }

        #[test]
        fn an_integer_reads_back_as_itself(value: u64) {
            prop_assert_eq!(text(Number::Integer(value)), value.to_string());
        }
    }
}
