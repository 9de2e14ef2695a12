//! What each metric looks like: its labels and bounds, worked out once from the settings.

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::model::{Buckets, Key, SpanMetric};
use crate::settings::{Metrics, ValueMap};
use crate::{conventions, label, names};

/// Labels and bounds of every metric.
#[derive(Debug)]
pub(crate) struct Schema {
    /// By metric.
    labels: [Vec<AttributeLabel>; SpanMetric::ALL.len()],
    /// By metric; of those that are no histograms, unused.
    buckets: [Arc<Buckets>; SpanMetric::ALL.len()],
    /// Bounds of spans by the value of their label for the operation.
    operations: HashMap<String, Arc<Buckets>>,
    observed: Vec<String>,
    conventions: bool,
}

/// An attribute that is a label.
#[derive(Clone, Debug)]
pub(crate) struct AttributeLabel {
    pub(crate) attribute: String,
    pub(crate) name: String,
    values: Option<ValueMap>,
}

impl Schema {
    pub(crate) fn new(settings: &Metrics) -> Self {
        let conventions = settings.conventions;
        let labels = SpanMetric::ALL.map(|metric| labels(metric, settings));
        let default = Arc::new(Buckets::default());
        let buckets = SpanMetric::ALL.map(|metric| {
            let chosen = settings.buckets_of(metric).cloned();
            let usual = || Buckets::new(conventions::seconds(metric)?.iter().copied());
            chosen.or_else(usual).map_or_else(|| default.clone(), Arc::new)
        });
        let mut observed: Vec<String> =
            [conventions::PEER, conventions::DATABASE_SYSTEM].map(str::to_owned).into();
        let shown = SpanMetric::ALL
            .into_iter()
            .filter(|metric| conventions || !SpanMetric::CONVENTIONS.contains(metric));
        observed.extend(shown.flat_map(|m| &labels[m as usize]).map(|l| l.attribute.clone()));
        observed.sort();
        observed.dedup();
        let operations = settings.operation_buckets.iter();
        Self {
            operations: operations.map(|(name, b)| (name.clone(), Arc::new(b.clone()))).collect(),
            labels,
            buckets,
            observed,
            conventions,
        }
    }

    pub(crate) fn labels(&self, metric: SpanMetric) -> &[AttributeLabel] {
        &self.labels[metric as usize]
    }

    /// The bounds of a series, if it is a histogram. They depend on what is shown alone, so that
    /// series that are shown as one have the same.
    pub(crate) fn buckets(&self, key: &Key) -> Option<Arc<Buckets>> {
        if !key.metric.is_histogram() {
            return None;
        }
        let operation = match key.metric {
            SpanMetric::Spans => key.values.first(),
            _ => None,
        };
        let chosen = operation.and_then(|operation| self.operations.get(&**operation));
        Some(chosen.unwrap_or(&self.buckets[key.metric as usize]).clone())
    }

    /// All attributes that are looked at.
    pub(crate) fn observed(&self) -> &[String] {
        &self.observed
    }

    /// Whether the metrics of the semantic conventions are made.
    pub(crate) fn has_conventions(&self) -> bool {
        self.conventions
    }
}

impl AttributeLabel {
    /// The value of the label for a value of the attribute; not masked.
    pub(crate) fn mapped<'a>(&self, raw: &'a str) -> Cow<'a, str> {
        let Some(map) = &self.values else { return raw.into() };
        // The application's own function, on its own thread: it must not take the span with it.
        let mapped = catch_unwind(AssertUnwindSafe(|| (map.0)(raw)));
        mapped.map_or(Cow::Borrowed(names::OTHER), Cow::Owned)
    }
}

/// Labels of attributes: those of the conventions, then those that were asked for. Each name is
/// there once, and none that is taken already.
fn labels(metric: SpanMetric, settings: &Metrics) -> Vec<AttributeLabel> {
    // Names of labels in any of the sets of names, and the bound of a bucket.
    let mut taken: Vec<String> = [
        names::SERVICE,
        names::OPERATION,
        names::STATUS,
        names::ERROR_TYPE,
        names::SOURCE_SERVICE,
        names::TARGET_SERVICE,
        names::JAEGER_SERVICE,
        names::ALIAS_SPAN_NAME,
        names::ALIAS_SPAN_KIND,
        names::ALIAS_STATUS,
        "le",
    ]
    .map(str::to_owned)
    .into();
    let mut labels = Vec::new();
    for attribute in conventions::attributes(metric) {
        let name = label::name(attribute);
        let values = settings.label_values.get(*attribute).cloned();
        taken.push(name.clone());
        labels.push(AttributeLabel { attribute: (*attribute).to_owned(), name, values });
    }
    for attribute in settings.labels_of(metric) {
        let name = match settings.label_names.get(attribute) {
            Some(name) => label::name(name),
            None => label::name(&format!("{}{attribute}", settings.label_prefix)),
        };
        if !taken.contains(&name) {
            taken.push(name.clone());
            let values = settings.label_values.get(attribute).cloned();
            labels.push(AttributeLabel { attribute: attribute.clone(), name, values });
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(schema: &Schema, metric: SpanMetric) -> Vec<&str> {
        schema.labels(metric).iter().map(|label| label.name.as_str()).collect()
    }

    #[test]
    fn labels_are_allowed_metric_by_metric_and_renamed() {
        let schema = Schema::new(
            &Metrics::default()
                .labels(["tenant.id", "service", "tenant_id", "region"])
                .labels_for(SpanMetric::HttpServer, ["tenant.id", "http.route"])
                .labels_for(SpanMetric::ActiveRequests, ["tenant.id"])
                .label_prefix("app_")
                .label_name("region", "area"),
        );
        let spans = names_of(&schema, SpanMetric::Spans);
        assert_eq!(spans, ["app_tenant_id", "app_service", "area"], "each name once");
        let http = names_of(&schema, SpanMetric::HttpServer);
        assert_eq!(http[..3], ["http_request_method", "url_scheme", "http_route"]);
        assert_eq!(http[6..], ["app_tenant_id", "app_http_route"]);
        assert_eq!(names_of(&schema, SpanMetric::ActiveRequests).len(), 2);
        assert!(names_of(&schema, SpanMetric::Errors).is_empty());
        let plain = Schema::new(&Metrics::default().labels(["service", "le", "error_type", "ok"]));
        assert_eq!(names_of(&plain, SpanMetric::Spans), ["ok"], "names that are taken");
    }

    #[test]
    fn all_that_becomes_a_label_is_observed() {
        let schema = Schema::new(&Metrics::default().labels(["tenant.id"]));
        for attribute in ["tenant.id", "service.peer.name", "db.operation.name", "http.route"] {
            assert!(schema.observed().iter().any(|known| known == attribute), "{attribute}");
        }
        let schema = Schema::new(&Metrics::default().conventions(false));
        assert_eq!(schema.observed(), ["db.system.name", "service.peer.name"]);
    }

    #[test]
    fn values_are_mapped_and_a_map_that_panics_says_other() {
        let schema = Schema::new(
            &Metrics::default()
                .labels(["code", "bad", "plain"])
                .label_values("code", |code| format!("{}xx", code.get(..1).unwrap_or("?")))
                .label_values("bad", |_| panic!("the application's own map")),
        );
        let [code, bad, plain] = schema.labels(SpanMetric::Spans) else { panic!("{schema:?}") };
        assert_eq!((code.mapped("404"), plain.mapped("x")), ("4xx".into(), "x".into()));
        assert_eq!(bad.mapped("x"), names::OTHER);
    }

    #[test]
    fn bounds_are_those_of_the_conventions_the_metric_or_the_operation() {
        let schema = Schema::new(
            &Metrics::default()
                .buckets([1.0])
                .buckets_for(SpanMetric::HttpClient, [2.0])
                .operation_buckets("slow", [60.0, 600.0]),
        );
        let seconds = |metric, operation: &str| {
            let values = [Arc::from(operation)].into();
            let buckets = schema.buckets(&Key { metric, kind: 0, status: 0, values });
            buckets.map(|buckets| buckets.seconds().to_vec())
        };
        assert_eq!(seconds(SpanMetric::Spans, "fast"), Some(vec![1.0]));
        assert_eq!(seconds(SpanMetric::Spans, "slow"), Some(vec![60.0, 600.0]));
        assert_eq!(seconds(SpanMetric::HttpClient, "slow"), Some(vec![2.0]));
        assert_eq!(seconds(SpanMetric::HttpServer, "GET").map(|bounds| bounds.len()), Some(14));
        assert_eq!(seconds(SpanMetric::Database, "").map(|bounds| bounds.len()), Some(9));
        assert_eq!(seconds(SpanMetric::Errors, "slow"), None);
    }
}
