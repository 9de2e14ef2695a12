//! HTTP and database metrics of the semantic conventions as families.

use super::group::{group, of};
use super::spans::SpanFamilies;
use crate::model::{Family, FamilyKind, Number, Point, SpanMetric, Value};
use crate::names::{self, Described};
use crate::series_table::Row;

impl SpanFamilies {
    pub(super) fn conventions(&self, rows: &[Row], families: &mut Vec<Family>) {
        if !self.schema.has_conventions() {
            return;
        }
        families.extend([
            self.durations(names::HTTP_SERVER, SpanMetric::HttpServer, rows),
            self.active_requests(rows),
            self.durations(names::HTTP_CLIENT, SpanMetric::HttpClient, rows),
            self.durations(names::DATABASE, SpanMetric::Database, rows),
        ]);
    }

    fn durations(&self, described: Described, metric: SpanMetric, rows: &[Row]) -> Family {
        let groups = group(of(rows, metric), |row| &row.series.key.values);
        let points = groups.iter().map(|group| {
            let labels = self.attribute_labels(&group.first.series.key).collect();
            Point::new(labels, group.histogram(1.0))
        });
        Family::new(described, FamilyKind::Histogram, points.collect())
    }

    fn active_requests(&self, rows: &[Row]) -> Family {
        let points = of(rows, SpanMetric::ActiveRequests).map(|row| {
            // A request that starts on one thread and ends on another while they are read can be
            // seen to end only.
            let count = row.count().cast_signed().max(0).cast_unsigned();
            let value = Value::Single(Number::Integer(count), None);
            Point::new(self.attribute_labels(&row.series.key).collect(), value)
        });
        Family::new(names::ACTIVE_REQUESTS, FamilyKind::Gauge, points.collect())
    }
}
