//! Span metrics as families.

use std::sync::Arc;

use opentelemetry_sdk::Resource;
use spanweave_core::masking::Masker;

use super::group::{Group, group, of};
use crate::label;
use crate::model::{Family, FamilyKind, Key, Label, Point, SpanMetric, kind_name, status_name};
use crate::names::{self, Described};
use crate::schema::Schema;
use crate::series_table::Row;
use crate::settings::Names;

/// What is needed to turn rows into families.
#[derive(Debug)]
pub(crate) struct SpanFamilies {
    pub(super) service: Arc<str>,
    pub(super) schema: Arc<Schema>,
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
    pub(crate) fn new(service: Arc<str>, schema: Arc<Schema>, aliases: Vec<Names>) -> Self {
        Self { service, schema, aliases }
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
            self.calls(rows),
        ];
        self.conventions(rows, &mut families);
        for alias in &self.aliases {
            self.alias(*alias, rows, &mut families);
        }
        families
    }

    /// Labels of attributes.
    pub(super) fn attribute_labels<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = Label> + 'a {
        let names = self.schema.labels(key.metric).iter().map(|label| label.name.clone().into());
        names.zip(key.values.iter().skip(key.metric.own_values()).cloned())
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
                self.tempo_edges(rows, families);
            }
        }
    }

    fn errors(&self, rows: &[Row]) -> Family {
        let groups = group(of(rows, SpanMetric::Errors), |row| &row.series.key.values);
        let points = groups.into_iter().map(|group| {
            let key = &group.first.series.key;
            let own = [names::OPERATION, names::ERROR_TYPE].map(Into::into);
            let mut labels = vec![(names::SERVICE.into(), self.service.clone())];
            labels.extend(own.into_iter().zip(key.values.iter().cloned()));
            labels.extend(self.attribute_labels(key));
            Point::new(labels, group.counter())
        });
        Family::new(names::ERRORS, FamilyKind::Counter, points.collect())
    }
}

impl Labelling<'_> {
    fn counter(&self, described: Described, rows: &[Row]) -> Family {
        let groups = self.grouped(rows);
        let points = groups.iter().map(|group| Point::new(self.labels(group), group.counter()));
        Family::new(described, FamilyKind::Counter, points.collect())
    }

    fn histogram(&self, described: Described, rows: &[Row], scale: f64) -> Family {
        let groups = self.grouped(rows);
        let points =
            groups.iter().map(|group| Point::new(self.labels(group), group.histogram(scale)));
        Family::new(described, FamilyKind::Histogram, points.collect())
    }

    fn grouped<'a>(&self, rows: &'a [Row]) -> Vec<Group<'a>> {
        group(of(rows, SpanMetric::Spans), |row| {
            let key = &row.series.key;
            let kind = self.kind.map_or(0, |_| key.kind);
            let status = self.status.map_or(0, |_| key.status);
            (kind, status, &key.values)
        })
    }

    fn labels(&self, group: &Group<'_>) -> Vec<Label> {
        let key = &group.first.series.key;
        let mut labels: Vec<Label> = vec![(self.service.into(), self.families.service.clone())];
        labels.extend(key.values.first().map(|name| (self.operation.into(), name.clone())));
        labels.extend(self.families.attribute_labels(key));
        labels.extend(self.kind.map(|label| (label.into(), kind_name(key.kind).into())));
        labels.extend(self.status.map(|(label, name)| (label.into(), name(key.status).into())));
        labels
    }
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
    let labels = resource_labels(resource, masker, |_| true);
    Family::new(names::TARGET_INFO, FamilyKind::Info, vec![Point::integer(labels, 1)])
}

/// Attributes of the resource as labels, masked.
pub(crate) fn resource_labels(
    resource: &Resource,
    masker: &Masker,
    wanted: impl Fn(&str) -> bool,
) -> Vec<Label> {
    let mut labels: Vec<Label> = Vec::new();
    for (key, value) in resource.iter().filter(|(key, _)| wanted(key.as_str())) {
        let name = label::name(key.as_str());
        // Keys that become the same name: the first one wins.
        if labels.iter().all(|(taken, _)| *taken != name) {
            labels.push((name.into(), label::value(masker, key.as_str(), &value.as_str())));
        }
    }
    labels.sort();
    labels
}
