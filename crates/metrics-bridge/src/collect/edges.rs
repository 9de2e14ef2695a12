//! Edges between services: requests that this one took, and requests that it made.
//!
//! A request between two services is counted by the one that takes it (`service_requests_total`,
//! Tempo's totals), and, apart from that, by the one that makes it (`service_calls_total`, Tempo's
//! client seconds): the sum over services counts each once. A database counts nothing, so Tempo's
//! totals have calls to databases from the one that makes them.

use std::sync::Arc;

use super::group::{Group, group, of};
use super::spans::SpanFamilies;
use crate::model::{
    DATABASE_CALL, FAILED, Family, FamilyKind, Key, Label, Point, SpanMetric, connection_type,
};
use crate::names;
use crate::series_table::Row;

impl SpanFamilies {
    pub(super) fn requests(&self, rows: &[Row]) -> Family {
        let points = edges(rows, SpanMetric::Requests).into_iter().map(|group| {
            let key = &group.first.series.key;
            let ends = [peer(key), self.service.clone()];
            Point::new(self.edge_labels(ends, key), group.counter())
        });
        Family::new(names::REQUESTS, FamilyKind::Counter, points.collect())
    }

    pub(super) fn calls(&self, rows: &[Row]) -> Family {
        let points = edges(rows, SpanMetric::Calls).into_iter().map(|group| {
            let key = &group.first.series.key;
            let ends = [self.service.clone(), peer(key)];
            Point::new(self.edge_labels(ends, key), group.counter())
        });
        Family::new(names::SERVICE_CALLS, FamilyKind::Counter, points.collect())
    }

    fn edge_labels(&self, [source, target]: [Arc<str>; 2], key: &Key) -> Vec<Label> {
        let mut labels: Vec<Label> =
            vec![(names::SOURCE_SERVICE.into(), source), (names::TARGET_SERVICE.into(), target)];
        labels.extend(key.values.get(1).map(|name| (names::OPERATION.into(), name.clone())));
        labels.extend(self.attribute_labels(key));
        labels
    }

    /// The service graph as Tempo names it.
    pub(super) fn tempo_edges(&self, rows: &[Row], families: &mut Vec<Family>) {
        let counted_here = |row: &&Row| {
            let key = &row.series.key;
            match key.metric {
                SpanMetric::Requests => true,
                SpanMetric::Calls => key.kind == DATABASE_CALL,
                _ => false,
            }
        };
        let failed = |row: &&Row| row.series.key.status == FAILED;
        let all = self.tempo(rows.iter().filter(counted_here));
        // A series for every edge, so that a rate of failures is there before the first failure.
        let counter = |described, only_failed: bool| {
            let points = all.iter().map(|(labels, group)| {
                let rows = group.rows().filter(|row| !only_failed || failed(row));
                let value =
                    super::group::group(rows, |_| ()).first().map_or_else(zero, Group::counter);
                Point::new(labels.clone(), value)
            });
            Family::new(described, FamilyKind::Counter, points.collect())
        };
        families.push(counter(names::TEMPO_EDGES, false));
        families.push(counter(names::TEMPO_EDGES_FAILED, true));
        let seconds = |described, metric| {
            let points = self
                .tempo(of(rows, metric))
                .into_iter()
                .map(|(labels, group)| Point::new(labels, group.histogram(1.0)));
            Family::new(described, FamilyKind::Histogram, points.collect())
        };
        families.push(seconds(names::TEMPO_EDGES_SERVER, SpanMetric::Requests));
        families.push(seconds(names::TEMPO_EDGES_CLIENT, SpanMetric::Calls));
    }

    /// The rows of each edge with its labels.
    fn tempo<'a>(&self, rows: impl Iterator<Item = &'a Row>) -> Vec<(Vec<Label>, Group<'a>)> {
        let identity = |row: &'a Row| {
            let key = &row.series.key;
            (key.metric, connection_type(key.kind), peer(key))
        };
        let labels = |group: &Group<'_>| {
            let key = &group.first.series.key;
            let [client, server] = match key.metric {
                SpanMetric::Calls => [self.service.clone(), peer(key)],
                _ => [peer(key), self.service.clone()],
            };
            vec![
                (names::CLIENT.into(), client),
                (names::SERVER.into(), server),
                (names::CONNECTION_TYPE.into(), connection_type(key.kind).into()),
            ]
        };
        group(rows, identity).into_iter().map(|group| (labels(&group), group)).collect()
    }
}

/// The rows of each edge and operation, whatever kind and status.
fn edges(rows: &[Row], metric: SpanMetric) -> Vec<Group<'_>> {
    group(of(rows, metric), |row| &row.series.key.values)
}

/// The service at the other end.
fn peer(key: &Key) -> Arc<str> {
    key.values.first().cloned().unwrap_or_else(|| names::UNKNOWN.into())
}

fn zero() -> crate::model::Value {
    crate::model::Value::Single(crate::model::Number::Integer(0), None)
}
