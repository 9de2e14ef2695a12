use std::collections::{BTreeSet, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::core::Desc;
use spanweave_core::ledger::Ledger;
use spanweave_core::masking::Masker;
use spanweave_core::sync::lock;
use spanweave_core::{Measurement, SpanEnd, SpanObserver, SpanStart, clock};

use crate::collect::{
    LedgerState, SpanFamilies, add_missing, claimed_names, compose, ledger_families,
    process_families, resource_info, resource_labels,
};
use crate::collector::{self, describe, gather_foreign};
use crate::model::{Family, FamilyKind, Label, Point, SpanMetric};
use crate::names::Described;
use crate::observer::Recorder;
use crate::schema::Schema;
use crate::settings::Metrics;
use crate::text::{self, Format};
use crate::{MetricsService, foreign, label, names, negotiate};

/// Span metrics and the registry that they share with the application.
///
/// It is a [`SpanObserver`] of the pipeline, a [`prometheus::core::Collector`], and, through
/// [`SpanMetricsProcessor`](crate::SpanMetricsProcessor), a processor of the OpenTelemetry SDK.
/// Only one of observer and processor should be fed with the same spans.
///
/// ```
/// use std::sync::Arc;
/// use spanweave_core::{ledger::Ledger, masking::Masker};
/// use spanweave_metrics::{Format, Metrics, SpanMetrics};
///
/// let metrics = SpanMetrics::new(
///     Metrics::default(),
///     "checkout",
///     Arc::new(Masker::default()),
///     Arc::new(Ledger::new()),
/// );
/// let orders = prometheus::IntCounter::new("orders_total", "Orders taken.").unwrap();
/// metrics.registry().register(Box::new(orders.clone())).unwrap();
/// orders.inc();
/// assert!(metrics.text(Format::Text).contains("orders_total 1\n"));
/// ```
#[derive(Debug)]
pub struct SpanMetrics {
    schema: Arc<Schema>,
    recorder: Arc<Recorder>,
    spans: SpanFamilies,
    settings: Metrics,
    masker: Arc<Masker>,
    ledger: Arc<Ledger>,
    ledger_state: LedgerState,
    resource: Mutex<OfResource>,
    registry: prometheus::Registry,
    meter_provider: SdkMeterProvider,
    descriptions: Vec<Desc>,
    /// Names that no foreign family may have.
    reserved: HashSet<String>,
    /// Foreign families that were left out, each reported once.
    left_out: Mutex<BTreeSet<String>>,
}

/// What the page says of the resource.
#[derive(Debug, Default)]
struct OfResource {
    target_info: Option<Family>,
    /// Labels of every span metric.
    labels: Vec<Label>,
}

impl SpanMetrics {
    /// Span metrics of the service `service_name`, with a registry of their own in which they are
    /// registered. Labels are masked by `masker`; `ledger` is shown beside them if a pipeline
    /// writes to it.
    pub fn new(
        settings: Metrics,
        service_name: &str,
        masker: Arc<Masker>,
        ledger: Arc<Ledger>,
    ) -> Arc<Self> {
        let schema = Arc::new(Schema::new(&settings));
        let recorder =
            Arc::new(Recorder::new(masker.clone(), schema.clone(), settings.series_limit));
        let spans = SpanFamilies::new(
            label::harmless(service_name).into(),
            schema.clone(),
            settings.aliases.clone(),
        );
        let registry = prometheus::Registry::new();
        let metrics = Arc::new(Self {
            reserved: claimed_names(&spans.families(&[])),
            descriptions: descriptions(&schema),
            schema,
            recorder,
            spans,
            settings,
            masker,
            ledger,
            ledger_state: LedgerState::default(),
            resource: Mutex::default(),
            meter_provider: meter_provider(&registry),
            registry,
            left_out: Mutex::default(),
        });
        // The registry is empty but for the meters' collector, which describes nothing.
        if let Err(error) = metrics.registry.register(Box::new(collector::registered(&metrics))) {
            tracing::warn!(target: "spanweave", %error, "span metrics cannot be gathered");
        }
        metrics
    }

    /// The one registry: span metrics are registered in it, meters of
    /// [`meter_provider`](Self::meter_provider) appear in it, and the application registers its
    /// own metrics in it. All of it is on `/metrics`. A clone is the same registry.
    ///
    /// The metrics of the process (`process_…`) are on the page without being in the registry, so
    /// that an application can register a collector of its own for them; then that one is shown.
    pub fn registry(&self) -> prometheus::Registry {
        self.registry.clone()
    }

    /// A provider of OpenTelemetry meters whose instruments appear in the registry. A clone is
    /// the same provider.
    pub fn meter_provider(&self) -> SdkMeterProvider {
        self.meter_provider.clone()
    }

    /// Shows the attributes of `resource` as `target_info`, and those of
    /// [`Metrics::resource_labels`] as labels of every span metric.
    pub fn set_resource(&self, resource: &Resource) {
        let wanted = |key: &str| self.settings.resource_labels.iter().any(|label| label == key);
        *lock(&self.resource) = OfResource {
            target_info: Some(resource_info(resource, &self.masker)),
            labels: resource_labels(resource, &self.masker, wanted),
        };
    }

    /// A tower service that shows the metrics, for the application's own server.
    pub fn service(self: &Arc<Self>) -> MetricsService {
        MetricsService::new(self.clone())
    }

    /// Which backends are down, and since when, as `/healthz` says it.
    pub(crate) fn health(&self) -> String {
        self.ledger.health_json()
    }

    /// The exposition: span metrics, the ledger, and all else that is in the registry. A foreign
    /// family whose name is taken already is left out and reported once.
    pub fn text(&self, format: Format) -> String {
        text::write(&self.families(), format)
    }

    /// The exposition in the format that an `Accept` header asks for, with its content type.
    pub fn render(&self, accept: Option<&str>) -> (&'static str, String) {
        let format = negotiate::format(accept);
        (format.content_type(), self.text(format))
    }

    /// Attributes that have to be on spans that sampling does not record, too: those that are
    /// labels (see [`Metrics::labels`]), or name the service that was called. They belong into
    /// [`PipelineConfig::observed_attributes`](spanweave_core::PipelineConfig).
    pub fn observed_attributes(&self) -> &[String] {
        self.schema.observed()
    }

    /// What was chosen.
    pub fn settings(&self) -> &Metrics {
        &self.settings
    }

    pub(crate) fn descriptions(&self) -> &[Desc] {
        &self.descriptions
    }

    /// Our own families for those who gather the registry themselves.
    pub(crate) fn own_protobuf(&self) -> Vec<prometheus::proto::MetricFamily> {
        let families = self.own_families();
        families.iter().filter(|f| !f.points.is_empty()).map(collector::protobuf).collect()
    }

    fn families(&self) -> Vec<Family> {
        let mut families = self.own_families();
        // Observable instruments run the application's code.
        let gathered = catch_unwind(AssertUnwindSafe(|| gather_foreign(&self.registry)));
        let gathered = gathered.unwrap_or_else(|_| {
            tracing::warn!(target: "spanweave", "a collector of the registry panicked");
            Vec::new()
        });
        let others = gathered.iter().filter_map(foreign::family).collect();
        let left_out = compose(&mut families, others, &self.reserved);
        families.push(self.report_left_out(left_out));
        // The application may have registered a collector of the process itself.
        add_missing(&mut families, process_families());
        families
    }

    fn own_families(&self) -> Vec<Family> {
        let table = self.recorder.table();
        let now = clock::now();
        let rows = table.snapshot(self.recorder.shards());
        let mut spans = self.spans.families(&rows);
        let mut families: Vec<Family> = Vec::new();
        {
            let resource = lock(&self.resource);
            add_labels(&mut spans, &resource.labels);
            families.extend(resource.target_info.clone());
        }
        families.extend(spans);
        if let Some(unused) = self.settings.expire_after {
            table.expire(&rows, unused, now, self.recorder.shards());
        }
        families.extend(ledger_families(&self.ledger, &self.ledger_state));
        families.extend(self.about_series());
        families
    }

    fn about_series(&self) -> [Family; 2] {
        let shown = |metric: &SpanMetric| {
            self.schema.has_conventions() || !SpanMetric::CONVENTIONS.contains(metric)
        };
        let points = SpanMetric::ALL.into_iter().filter(shown).map(|metric| {
            let count = self.recorder.table().count(metric) as u64;
            Point::integer(vec![(names::METRIC.into(), family_of(metric).name.into())], count)
        });
        let limit = self.settings.series_limit as u64;
        [
            Family::new(names::SERIES, FamilyKind::Gauge, points.collect()),
            Family::new(
                names::SERIES_LIMIT,
                FamilyKind::Gauge,
                vec![Point::integer(Vec::new(), limit)],
            ),
        ]
    }

    fn report_left_out(&self, families: Vec<String>) -> Family {
        let mut known = lock(&self.left_out);
        for name in families {
            if !known.contains(&name) {
                tracing::warn!(
                    target: "spanweave",
                    name,
                    "a metric family of the registry is left out: its name is taken"
                );
                known.insert(name);
            }
        }
        let count = vec![Point::integer(Vec::new(), known.len() as u64)];
        Family::new(names::FAMILIES_DROPPED, FamilyKind::Gauge, count)
    }
}

impl SpanObserver for SpanMetrics {
    #[inline]
    fn started(&self, span: &SpanStart<'_>) {
        self.recorder.started(span);
    }

    #[inline]
    fn ended(&self, span: &SpanEnd<'_>) -> Measurement {
        self.recorder.ended(span)
    }

    fn kept(&self, measurement: Measurement, trace_id: TraceId, span_id: SpanId) {
        self.recorder.kept(measurement, trace_id, span_id, clock::unix_nanos());
    }
}

/// Adds labels to all points that do not have one of the name.
fn add_labels(families: &mut [Family], labels: &[Label]) {
    if labels.is_empty() {
        return;
    }
    for point in families.iter_mut().flat_map(|family| &mut family.points) {
        for label in labels {
            if point.labels.iter().all(|(name, _)| *name != label.0) {
                point.labels.push(label.clone());
            }
        }
    }
}

/// The family that stands for a metric.
fn family_of(metric: SpanMetric) -> Described {
    match metric {
        SpanMetric::Spans => names::CALLS,
        SpanMetric::Errors => names::ERRORS,
        SpanMetric::Requests => names::REQUESTS,
        SpanMetric::Calls => names::SERVICE_CALLS,
        SpanMetric::HttpServer => names::HTTP_SERVER,
        SpanMetric::HttpClient => names::HTTP_CLIENT,
        SpanMetric::Database => names::DATABASE,
        SpanMetric::ActiveRequests => names::ACTIVE_REQUESTS,
    }
}

fn descriptions(schema: &Schema) -> Vec<Desc> {
    let edge = [names::SOURCE_SERVICE, names::TARGET_SERVICE, names::OPERATION];
    let own: [(Described, SpanMetric, &[&str]); 9] = [
        (names::CALLS, SpanMetric::Spans, &[names::SERVICE, names::OPERATION, names::STATUS]),
        (names::DURATION, SpanMetric::Spans, &[names::SERVICE, names::OPERATION]),
        (names::ERRORS, SpanMetric::Errors, &[names::SERVICE, names::OPERATION, names::ERROR_TYPE]),
        (names::REQUESTS, SpanMetric::Requests, &edge),
        (names::SERVICE_CALLS, SpanMetric::Calls, &edge),
        (names::HTTP_SERVER, SpanMetric::HttpServer, &[]),
        (names::HTTP_CLIENT, SpanMetric::HttpClient, &[]),
        (names::DATABASE, SpanMetric::Database, &[]),
        (names::ACTIVE_REQUESTS, SpanMetric::ActiveRequests, &[]),
    ];
    own.into_iter()
        .filter(|(_, metric, _)| {
            schema.has_conventions() || !SpanMetric::CONVENTIONS.contains(metric)
        })
        .filter_map(|(described, metric, labels)| {
            let attributes = schema.labels(metric).iter().map(|label| label.name.clone());
            let labels = labels.iter().map(|label| (*label).to_owned()).chain(attributes);
            describe(described.name, described.help, labels.collect())
        })
        .collect()
}

fn meter_provider(registry: &prometheus::Registry) -> SdkMeterProvider {
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .without_target_info()
        .build();
    match exporter {
        Ok(exporter) => SdkMeterProvider::builder().with_reader(exporter).build(),
        Err(error) => {
            tracing::warn!(target: "spanweave", %error, "meters are not on /metrics");
            SdkMeterProvider::default()
        }
    }
}
