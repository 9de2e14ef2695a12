use std::sync::Arc;

use opentelemetry::trace::{SpanId, TraceId};
use proptest::prelude::*;

use super::*;
use crate::label;
use crate::model::{Bucket, Exemplar, Family, FamilyKind, Number, Point, Value};
use crate::testing::{all, read};

const BOTH: [Format; 2] = [Format::Text, Format::OpenMetrics];

fn exemplar() -> Exemplar {
    let (trace_id, span_id) = (TraceId::from(0xabc), SpanId::from(0xdef));
    Exemplar { trace_id, span_id, value: 2_500_000, at: 1_700_000_000_123_456_789 }
}

fn family(name: &'static str, kind: FamilyKind, point: Point) -> Family {
    Family {
        name: name.into(),
        help: "A \"help\" \\ text.\nTwo lines.".into(),
        kind,
        points: vec![point],
    }
}

fn sample_families() -> Vec<Family> {
    let label = |value: &str| vec![("operation".into(), Arc::from(value))];
    let histogram = Value::Histogram {
        buckets: vec![
            Bucket { bound: 1.0, count: 2, exemplar: Some(exemplar()) },
            Bucket { bound: f64::INFINITY, count: 3, exemplar: None },
        ],
        sum: Number::Seconds(1_500_000_000),
    };
    vec![
        family(
            "calls_total",
            FamilyKind::Counter,
            Point::new(label("a"), Value::Single(Number::Integer(3), Some(exemplar()))),
        ),
        family("took_seconds", FamilyKind::Histogram, Point::new(label("a"), histogram)),
        family("target_info", FamilyKind::Info, Point::integer(label("a"), 1)),
        family("foreign", FamilyKind::Counter, Point::integer(Vec::new(), 5)),
    ]
}

#[test]
fn the_text_format_is_written_to_the_letter() {
    let expected = r#"# HELP calls_total A "help" \\ text.\nTwo lines.
# TYPE calls_total counter
calls_total{operation="a"} 3
# HELP took_seconds A "help" \\ text.\nTwo lines.
# TYPE took_seconds histogram
took_seconds_bucket{operation="a",le="1"} 2
took_seconds_bucket{operation="a",le="+Inf"} 3
took_seconds_sum{operation="a"} 1.5
took_seconds_count{operation="a"} 3
# HELP target_info A "help" \\ text.\nTwo lines.
# TYPE target_info gauge
target_info{operation="a"} 1
# HELP foreign A "help" \\ text.\nTwo lines.
# TYPE foreign counter
foreign 5
"#;
    assert_eq!(write(&sample_families(), Format::Text), expected);
    read(expected, Format::Text);
}

#[test]
fn open_metrics_is_written_to_the_letter() {
    let expected = r#"# HELP calls A \"help\" \\ text.\nTwo lines.
# TYPE calls counter
calls_total{operation="a"} 3 # {trace_id="00000000000000000000000000000abc",span_id="0000000000000def"} 1 1700000000.123
# HELP took_seconds A \"help\" \\ text.\nTwo lines.
# TYPE took_seconds histogram
took_seconds_bucket{operation="a",le="1.0"} 2 # {trace_id="00000000000000000000000000000abc",span_id="0000000000000def"} 0.0025 1700000000.123
took_seconds_bucket{operation="a",le="+Inf"} 3
took_seconds_sum{operation="a"} 1.5
took_seconds_count{operation="a"} 3
# HELP target A \"help\" \\ text.\nTwo lines.
# TYPE target info
target_info{operation="a"} 1
# HELP foreign A \"help\" \\ text.\nTwo lines.
# TYPE foreign counter
foreign_total 5
# EOF
"#;
    assert_eq!(write(&sample_families(), Format::OpenMetrics), expected);
    read(expected, Format::OpenMetrics);
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\\\\\"\n\r\t{}=,# \x1b]{0,24}",
        Just("x\"} 1\n# TYPE evil counter\nevil_total 1".to_owned()),
        Just("\x1b]0;title\x07\\".to_owned()),
    ]
}

proptest! {
    #[test]
    fn a_hostile_label_reads_back_and_breaks_nothing(values in proptest::collection::vec(hostile(), 1..6)) {
        let mut kept: Vec<String> = values.iter().map(|value| label::harmless(value)).collect();
        kept.sort();
        kept.dedup();
        let points = kept.iter().map(|value| {
            Point::integer(vec![("operation".into(), value.as_str().into())], 1)
        });
        let mut family = family("calls_total", FamilyKind::Counter, Point::integer(Vec::new(), 1));
        family.points = points.collect();
        for format in BOTH {
            let samples = read(&write(std::slice::from_ref(&family), format), format);
            let read: Vec<_> = samples.iter().map(|sample| sample.label("operation")).collect();
            prop_assert_eq!(&read, &kept);
            prop_assert_eq!(all(&samples, "calls_total").count(), kept.len());
        }
    }
}
