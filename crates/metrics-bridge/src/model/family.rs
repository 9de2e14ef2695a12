//! Families as they are written: our own and foreign ones alike.

use std::borrow::Cow;
use std::sync::Arc;

use super::exemplar::Exemplar;
use crate::names::Described;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    /// A gauge of value 1 whose labels are the information; `info` in OpenMetrics.
    Info,
}

/// A number as it is written. Integers stay exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Integer(u64),
    /// Nanoseconds, written as seconds.
    Seconds(u64),
    Float(f64),
}

impl Number {
    pub(crate) fn as_f64(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Seconds(nanos) => nanos as f64 / 1e9,
            Self::Float(value) => value,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// The name in the text format: a counter's ends in `_total`, unless it is foreign.
    pub(crate) name: Cow<'static, str>,
    pub(crate) help: Cow<'static, str>,
    pub(crate) kind: FamilyKind,
    pub(crate) points: Vec<Point>,
}

impl Family {
    pub(crate) fn new(described: Described, kind: FamilyKind, points: Vec<Point>) -> Self {
        Self { name: described.name.into(), help: described.help.into(), kind, points }
    }

    /// The name of the family in OpenMetrics, where it has no suffix of its samples.
    pub(crate) fn base_name(&self) -> &str {
        let suffix = match self.kind {
            FamilyKind::Counter => "_total",
            FamilyKind::Info => "_info",
            FamilyKind::Gauge | FamilyKind::Histogram | FamilyKind::Summary => return &self.name,
        };
        self.name.strip_suffix(suffix).unwrap_or(&self.name)
    }

    /// Every name that the family takes, as family or sample, in either format.
    pub(crate) fn claims(&self) -> Vec<String> {
        let suffixes: &[&str] = match self.kind {
            FamilyKind::Counter => &["", "_total", "_created"],
            FamilyKind::Gauge => &[""],
            FamilyKind::Histogram => &["", "_bucket", "_count", "_sum", "_created"],
            FamilyKind::Summary => &["", "_count", "_sum", "_created"],
            FamilyKind::Info => &["", "_info"],
        };
        suffixes.iter().map(|suffix| format!("{}{suffix}", self.base_name())).collect()
    }
}

pub(crate) type Label = (Cow<'static, str>, Arc<str>);

/// One series of a family.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) labels: Vec<Label>,
    pub(crate) value: Value,
    pub(crate) timestamp_ms: Option<i64>,
}

impl Point {
    pub(crate) fn new(labels: Vec<Label>, value: Value) -> Self {
        Self { labels, value, timestamp_ms: None }
    }

    pub(crate) fn integer(labels: Vec<Label>, value: u64) -> Self {
        Self::new(labels, Value::Single(Number::Integer(value), None))
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A counter, gauge or info; the exemplar only of a counter, its value 1.
    Single(Number, Option<Exemplar>),
    /// Buckets are cumulative and rising; the last one is `+Inf`, and it is the count.
    Histogram {
        buckets: Vec<Bucket>,
        sum: Number,
    },
    Summary {
        quantiles: Vec<(f64, f64)>,
        sum: f64,
        count: u64,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    pub(crate) bound: f64,
    pub(crate) count: u64,
    /// Its value is in nanoseconds.
    pub(crate) exemplar: Option<Exemplar>,
}
