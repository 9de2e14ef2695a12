//! Span metrics as families.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use opentelemetry_sdk::Resource;
use spanweave_core::masking::Masker;
use spanweave_core::sync::lock;

use crate::label;
use crate::model::{
    Bucket, Buckets, Exemplar, ExemplarSlots, Family, FamilyKind, Label, Metric, Number, Point,
    Value, kind_name, status_name,
};
use crate::names::{self, Described};
use crate::series_table::Row;
use crate::settings::Names;

/// What is needed to turn rows into families.
#[derive(Debug)]
pub(crate) struct SpanFamilies {
    service: Arc<str>,
    /// Label names of the configured attributes, in the order of the keys' values.
    extra: Vec<String>,
    buckets: Buckets,
    aliases: Vec<Names>,
}

/// The label of the status, and how its value is written.
type StatusLabel = (&'static str, fn(u8) -> &'static str);

/// How a set of names labels a span's series: by which of kind and status it tells them apart.
struct Labelling<'a> {
    service: &'static str,
    operation: &'static str,
    kind: Option<&'static str>,
    status: Option<StatusLabel>,
    families: &'a SpanFamilies,
}

impl SpanFamilies {
    pub(crate) fn new(
        service: Arc<str>,
        extra: Vec<String>,
        buckets: Buckets,
        aliases: Vec<Names>,
    ) -> Self {
        Self { service, extra, buckets, aliases }
    }

    pub(crate) fn families(&self, rows: &[Row]) -> Vec<Family> {
        let own = |status| Labelling {
            service: names::SERVICE,
            operation: names::OPERATION,
            kind: None,
            status,
            families: self,
        };
        let status: StatusLabel = (names::STATUS, status_name);
        let mut families = vec![
            own(Some(status)).counter(names::CALLS, rows),
            own(None).histogram(names::DURATION, rows, 1.0),
            self.errors(rows),
            self.requests(rows),
        ];
        for alias in &self.aliases {
            self.alias(*alias, rows, &mut families);
        }
        families
    }

    fn alias(&self, alias: Names, rows: &[Row], families: &mut Vec<Family>) {
        let labelling = |service| Labelling {
            service,
            operation: names::ALIAS_SPAN_NAME,
            kind: Some(names::ALIAS_SPAN_KIND),
            status: Some((names::ALIAS_STATUS, collector_status)),
            families: self,
        };
        match alias {
            Names::Spanweave => {}
            Names::JaegerSpm => {
                let labelling = labelling(names::JAEGER_SERVICE);
                families.push(labelling.counter(names::JAEGER_CALLS, rows));
                families.push(labelling.histogram(names::JAEGER_DURATION, rows, 1e3));
            }
            Names::Tempo => {
                let labelling = labelling(names::SERVICE);
                families.push(labelling.counter(names::TEMPO_CALLS, rows));
                families.push(labelling.histogram(names::TEMPO_DURATION, rows, 1.0));
                families.push(self.tempo_edges(rows));
            }
        }
    }

    fn errors(&self, rows: &[Row]) -> Family {
        let points = of(rows, Metric::Errors).map(|row| {
            let mut labels = vec![(names::SERVICE.into(), self.service.clone())];
            labels.extend(labelled([names::OPERATION, names::ERROR_TYPE], row));
            let exemplar = lock(&row.series.exemplars).newest().copied();
            Point::new(labels, Value::Single(Number::Integer(row.count()), exemplar))
        });
        Family::new(names::ERRORS, FamilyKind::Counter, points.collect())
    }

    fn requests(&self, rows: &[Row]) -> Family {
        let points = of(rows, Metric::Requests).map(|row| {
            let mut labels = labelled([names::SOURCE_SERVICE, names::OPERATION], row);
            labels.insert(1, (names::TARGET_SERVICE.into(), self.service.clone()));
            Point::integer(labels, row.count())
        });
        Family::new(names::REQUESTS, FamilyKind::Counter, points.collect())
    }

    fn tempo_edges(&self, rows: &[Row]) -> Family {
        let mut clients: Vec<(Arc<str>, u64)> = Vec::new();
        let mut at = HashMap::new();
        for row in of(rows, Metric::Requests) {
            let Some(client) = row.series.key.values.first() else { continue };
            match at.entry(client.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(clients.len());
                    clients.push((client.clone(), row.count()));
                }
                Entry::Occupied(entry) => {
                    if let Some((_, count)) = clients.get_mut(*entry.get()) {
                        *count += row.count();
                    }
                }
            }
        }
        let points = clients.into_iter().map(|(client, count)| {
            let labels = vec![("client".into(), client), ("server".into(), self.service.clone())];
            Point::integer(labels, count)
        });
        Family::new(names::TEMPO_EDGES, FamilyKind::Counter, points.collect())
    }
}

impl Labelling<'_> {
    fn counter(&self, described: Described, rows: &[Row]) -> Family {
        let points = self.grouped(rows).into_iter().map(|group| {
            let newest = group.newest();
            let count = group.rows.iter().map(|row| row.count()).sum();
            Point::new(self.labels(&group), Value::Single(Number::Integer(count), newest))
        });
        Family::new(described, FamilyKind::Counter, points.collect())
    }

    /// `scale` is how many of the family's units are a second.
    fn histogram(&self, described: Described, rows: &[Row], scale: f64) -> Family {
        let bounds = &self.families.buckets;
        let points = self.grouped(rows).into_iter().map(|group| {
            let mut sum = 0_u64;
            let mut counts = vec![0_u64; bounds.len()];
            for row in &group.rows {
                sum = sum.wrapping_add(row.sum());
                for (total, count) in counts.iter_mut().zip(row.buckets()) {
                    *total += count;
                }
            }
            let exemplars = group.exemplars();
            let bounds = bounds.seconds().iter().map(|bound| bound * scale);
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
            Point::new(self.labels(&group), Value::Histogram { buckets, sum })
        });
        Family::new(described, FamilyKind::Histogram, points.collect())
    }

    /// The rows of each label set, in the order in which the label sets appeared.
    fn grouped<'a>(&self, rows: &'a [Row]) -> Vec<Group<'a>> {
        group(of(rows, Metric::Spans), |row| {
            let key = &row.series.key;
            let kind = self.kind.map_or(0, |_| key.kind);
            let status = self.status.map_or(0, |_| key.status);
            (kind, status, &key.values)
        })
    }

    fn labels(&self, group: &Group<'_>) -> Vec<Label> {
        let mut labels: Vec<Label> = vec![(self.service.into(), self.families.service.clone())];
        let Some(key) = group.rows.first().map(|row| &row.series.key) else { return labels };
        let extra = self.families.extra.iter().map(|name| name.clone().into());
        labels.extend(
            std::iter::once(self.operation.into()).chain(extra).zip(key.values.iter().cloned()),
        );
        labels.extend(self.kind.map(|label| (label.into(), kind_name(key.kind).into())));
        labels.extend(self.status.map(|(label, name)| (label.into(), name(key.status).into())));
        labels
    }
}

/// Rows that share their labels.
struct Group<'a> {
    rows: Vec<&'a Row>,
}

impl Group<'_> {
    fn exemplars(&self) -> Vec<ExemplarSlots> {
        self.rows.iter().map(|row| lock(&row.series.exemplars).clone()).collect()
    }

    fn newest(&self) -> Option<Exemplar> {
        let slots = self.exemplars();
        newest_of(slots.iter().filter_map(ExemplarSlots::newest))
    }
}

fn group<'a, K: Hash + Eq>(
    rows: impl Iterator<Item = &'a Row>,
    key: impl Fn(&'a Row) -> K,
) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut at = HashMap::new();
    for row in rows {
        let position = *at.entry(key(row)).or_insert(groups.len());
        match groups.get_mut(position) {
            Some(group) => group.rows.push(row),
            None => groups.push(Group { rows: vec![row] }),
        }
    }
    groups
}

fn of(rows: &[Row], metric: Metric) -> impl Iterator<Item = &Row> {
    rows.iter().filter(move |row| row.series.key.metric == metric)
}

fn labelled(names: [&'static str; 2], row: &Row) -> Vec<Label> {
    names.into_iter().map(Into::into).zip(row.series.key.values.iter().cloned()).collect()
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

fn collector_status(code: u8) -> &'static str {
    match code {
        0 => "STATUS_CODE_UNSET",
        1 => "STATUS_CODE_OK",
        _ => "STATUS_CODE_ERROR",
    }
}

/// `target_info`: the resource's attributes as labels, masked.
pub(crate) fn resource_info(resource: &Resource, masker: &Masker) -> Family {
    let mut labels: Vec<Label> = Vec::new();
    for (key, value) in resource.iter() {
        let name = label::name(key.as_str());
        // Keys that become the same name: the first one wins.
        if labels.iter().all(|(taken, _)| *taken != name) {
            labels.push((name.into(), label::value(masker, key.as_str(), &value.as_str())));
        }
    }
    labels.sort();
    Family::new(names::TARGET_INFO, FamilyKind::Info, vec![Point::integer(labels, 1)])
}
