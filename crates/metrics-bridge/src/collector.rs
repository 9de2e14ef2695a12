//! Our families for those who gather the registry themselves.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto;

use crate::SpanMetrics;
use crate::model::{Family, FamilyKind, Point, Value};

thread_local! {
    static OWN_SCRAPE: Cell<bool> = const { Cell::new(false) };
}

/// Gathers what is not ours.
pub(crate) fn gather_foreign(registry: &prometheus::Registry) -> Vec<proto::MetricFamily> {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            OWN_SCRAPE.set(false);
        }
    }
    OWN_SCRAPE.set(true);
    let _reset = Reset;
    registry.gather()
}

/// What is registered: it must not keep alive the metrics that keep the registry.
#[derive(Debug)]
pub(crate) struct Registered {
    metrics: Weak<SpanMetrics>,
    descriptions: Vec<Desc>,
}

impl Collector for Registered {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        if OWN_SCRAPE.get() {
            return Vec::new();
        }
        self.metrics.upgrade().map(|metrics| metrics.own_protobuf()).unwrap_or_default()
    }
}

/// Describes a family that has only variable labels.
pub(crate) fn describe(name: &str, help: &str, labels: Vec<String>) -> Option<Desc> {
    Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new()).ok()
}

/// A family in the model of the `prometheus` crate.
pub(crate) fn protobuf(family: &Family) -> proto::MetricFamily {
    let mut out = proto::MetricFamily::default();
    out.set_name(family.name.to_string());
    out.set_help(family.help.to_string());
    out.set_field_type(match family.kind {
        FamilyKind::Counter => proto::MetricType::COUNTER,
        FamilyKind::Gauge | FamilyKind::Info => proto::MetricType::GAUGE,
        FamilyKind::Histogram => proto::MetricType::HISTOGRAM,
        FamilyKind::Summary => proto::MetricType::SUMMARY,
    });
    out.set_metric(family.points.iter().map(|point| metric(family.kind, point)).collect());
    out
}

fn metric(kind: FamilyKind, point: &Point) -> proto::Metric {
    let mut labels: Vec<proto::LabelPair> = point
        .labels
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name(name.to_string());
            pair.set_value(value.to_string());
            pair
        })
        .collect();
    labels.sort_by(|a, b| a.name().cmp(b.name()));
    let mut metric = proto::Metric::from_label(labels);
    match &point.value {
        Value::Single(number, _) if kind == FamilyKind::Counter => {
            let mut counter = proto::Counter::default();
            counter.set_value(number.as_f64());
            metric.set_counter(counter);
        }
        Value::Single(number, _) => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(number.as_f64());
            metric.set_gauge(gauge);
        }
        Value::Histogram { buckets, sum } => {
            let mut histogram = proto::Histogram::default();
            histogram.set_sample_count(buckets.last().map_or(0, |bucket| bucket.count));
            histogram.set_sample_sum(sum.as_f64());
            // The crate's encoder adds +Inf by itself.
            let finite = buckets.iter().filter(|bucket| bucket.bound.is_finite());
            histogram.set_bucket(
                finite
                    .map(|bucket| {
                        let mut out = proto::Bucket::default();
                        out.set_upper_bound(bucket.bound);
                        out.set_cumulative_count(bucket.count);
                        out
                    })
                    .collect(),
            );
            metric.set_histogram(histogram);
        }
        // Nothing of ours is a summary.
        Value::Summary { .. } => {}
    }
    metric
}

impl Collector for SpanMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions().iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        if OWN_SCRAPE.get() { Vec::new() } else { self.own_protobuf() }
    }
}

/// A collector that shares `metrics`, to be registered in a registry.
pub(crate) fn registered(metrics: &Arc<SpanMetrics>) -> Registered {
    Registered { metrics: Arc::downgrade(metrics), descriptions: metrics.descriptions().to_vec() }
}
