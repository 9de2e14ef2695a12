//! Series that are shown as one.

use std::collections::HashMap;
use std::hash::Hash;

use spanweave_core::sync::lock;

use crate::model::{Bucket, Exemplar, ExemplarSlots, Number, SpanMetric, Value};
use crate::series_table::Row;

/// Rows that share their labels. There is at least one, and all have the same bounds.
pub(super) struct Group<'a> {
    pub(super) first: &'a Row,
    others: Vec<&'a Row>,
}

impl<'a> Group<'a> {
    pub(super) fn rows(&self) -> impl Iterator<Item = &'a Row> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }

    /// The sum of the counts, with the newest exemplar.
    pub(super) fn counter(&self) -> Value {
        let slots = self.exemplars();
        let newest = newest_of(slots.iter().filter_map(ExemplarSlots::newest));
        Value::Single(Number::Integer(self.rows().map(Row::count).sum()), newest)
    }

    /// The sum of the histograms. `scale` is how many of the family's units are a second.
    pub(super) fn histogram(&self, scale: f64) -> Value {
        let bounds = self.first.series.buckets.as_ref().map_or(&[][..], |b| b.seconds());
        let mut sum = 0_u64;
        let mut counts = vec![0_u64; bounds.len() + 1];
        for row in self.rows() {
            sum = sum.wrapping_add(row.sum());
            for (total, count) in counts.iter_mut().zip(row.buckets()) {
                *total += count;
            }
        }
        let exemplars = self.exemplars();
        let bounds = bounds.iter().map(|bound| bound * scale);
        let mut below = 0;
        let buckets = bounds.chain([f64::INFINITY]).zip(counts).enumerate();
        let buckets = buckets
            .map(|(at, (bound, count))| {
                below += count;
                let exemplar = newest_of(exemplars.iter().filter_map(|slots| slots.get(at)));
                Bucket { bound, count: below, exemplar: exemplar.map(|e| scaled(e, scale)) }
            })
            .collect();
        let sum = if scale == 1.0 {
            Number::Seconds(sum)
        } else {
            Number::Float(sum as f64 / 1e9 * scale)
        };
        Value::Histogram { buckets, sum }
    }

    fn exemplars(&self) -> Vec<ExemplarSlots> {
        self.rows().map(|row| lock(&row.series.exemplars).clone()).collect()
    }
}

/// The rows of each key, in the order in which the keys appeared.
pub(super) fn group<'a, K: Hash + Eq>(
    rows: impl IntoIterator<Item = &'a Row>,
    key: impl Fn(&'a Row) -> K,
) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut at = HashMap::new();
    for row in rows {
        let position = *at.entry(key(row)).or_insert(groups.len());
        match groups.get_mut(position) {
            Some(group) => group.others.push(row),
            None => groups.push(Group { first: row, others: Vec::new() }),
        }
    }
    groups
}

pub(super) fn of(rows: &[Row], metric: SpanMetric) -> impl Iterator<Item = &Row> {
    rows.iter().filter(move |row| row.series.key.metric == metric)
}

fn newest_of<'a>(exemplars: impl Iterator<Item = &'a Exemplar>) -> Option<Exemplar> {
    exemplars.max_by_key(|exemplar| exemplar.at).copied()
}

/// Exemplars are written as nanoseconds in seconds; in other units the value is scaled with them.
fn scaled(exemplar: Exemplar, scale: f64) -> Exemplar {
    if scale == 1.0 {
        return exemplar;
    }
    Exemplar { value: (exemplar.value as f64 * scale) as u64, ..exemplar }
}
