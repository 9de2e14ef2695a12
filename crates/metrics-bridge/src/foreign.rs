//! Families of the registry that are not ours, in our model.

use prometheus::proto;

use crate::model::{Bucket, Family, FamilyKind, Label, Number, Point, Value};
use crate::names;

/// `prometheus` reads the number of a counter or gauge as `get_value` without its feature
/// `protobuf` and as `value` with it. Cargo unifies features, so an application may turn it on
/// for us. An inherent method comes before a trait's, so of these two each falls back on the one
/// that is inherent.
mod either {
    use prometheus::proto::{Counter, Gauge};

    #[allow(dead_code)]
    pub(super) trait GetValue {
        fn get_value(&self) -> f64;
    }

    #[allow(dead_code)]
    trait PlainValue {
        fn value(&self) -> f64;
    }

    macro_rules! either {
        ($($type:ty),*) => {$(
            impl GetValue for $type {
                fn get_value(&self) -> f64 {
                    self.value()
                }
            }

            impl PlainValue for $type {
                fn value(&self) -> f64 {
                    self.get_value()
                }
            }
        )*};
    }
    either!(Counter, Gauge);
}
#[allow(unused_imports)]
use either::GetValue;

/// Takes a gathered family over; `None` for a type that the text formats do not have.
pub(crate) fn family(family: &proto::MetricFamily) -> Option<Family> {
    let kind = match family.get_field_type() {
        proto::MetricType::COUNTER => FamilyKind::Counter,
        proto::MetricType::GAUGE => FamilyKind::Gauge,
        proto::MetricType::HISTOGRAM => FamilyKind::Histogram,
        proto::MetricType::SUMMARY => FamilyKind::Summary,
        _ => return None,
    };
    let points = family.get_metric().iter().map(|metric| point(kind, metric)).collect();
    let help = if family.help().is_empty() { names::NO_HELP } else { family.help() };
    Some(Family {
        name: family.name().to_owned().into(),
        help: help.to_owned().into(),
        kind,
        points,
    })
}

fn point(kind: FamilyKind, metric: &proto::Metric) -> Point {
    let labels: Vec<Label> = metric
        .get_label()
        .iter()
        .map(|pair| (pair.name().to_owned().into(), pair.value().into()))
        .collect();
    let single = |value| Value::Single(Number::Float(value), None);
    let value = match kind {
        FamilyKind::Counter => single(metric.get_counter().get_value()),
        FamilyKind::Gauge | FamilyKind::Info => single(metric.get_gauge().get_value()),
        FamilyKind::Histogram => histogram(metric.get_histogram()),
        FamilyKind::Summary => {
            let summary = metric.get_summary();
            Value::Summary {
                quantiles: summary
                    .get_quantile()
                    .iter()
                    .map(|q| (q.quantile(), q.value()))
                    .collect(),
                sum: summary.sample_sum(),
                count: summary.sample_count(),
            }
        }
    };
    let timestamp_ms = Some(metric.timestamp_ms()).filter(|timestamp| *timestamp != 0);
    Point { labels, value, timestamp_ms }
}

fn histogram(histogram: &proto::Histogram) -> Value {
    let count = histogram.get_sample_count();
    let mut buckets: Vec<Bucket> = histogram
        .get_bucket()
        .iter()
        .filter(|bucket| bucket.upper_bound() != f64::INFINITY)
        .map(|bucket| Bucket {
            bound: bucket.upper_bound(),
            // The crate reads buckets and count one after the other.
            count: bucket.cumulative_count().min(count),
            exemplar: None,
        })
        .collect();
    buckets.push(Bucket { bound: f64::INFINITY, count, exemplar: None });
    Value::Histogram { buckets, sum: Number::Float(histogram.get_sample_sum()) }
}
