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
use spanweave_core::{Measurement, SpanEnd, SpanObserver, clock};

use crate::collect::{
    LedgerState, SpanFamilies, claimed_names, compose, ledger_families, resource_info,
};
use crate::collector::{self, describe, gather_foreign};
use crate::model::{Family, FamilyKind, Metric, Point};
use crate::observer::Recorder;
use crate::settings::Metrics;
use crate::text::{self, Format};
use crate::{foreign, label, names, negotiate};

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
    recorder: Arc<Recorder>,
    spans: SpanFamilies,
    settings: Metrics,
    masker: Arc<Masker>,
    ledger: Arc<Ledger>,
    ledger_state: LedgerState,
    target: Mutex<Option<Family>>,
    registry: prometheus::Registry,
    meter_provider: SdkMeterProvider,
    descriptions: Vec<Desc>,
    /// Names that no foreign family may have.
    reserved: HashSet<String>,
    /// Foreign families that were left out, each reported once.
    left_out: Mutex<BTreeSet<String>>,
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
        let (attributes, extra) = label_names(&settings.labels);
        let recorder = Arc::new(Recorder::new(
            masker.clone(),
            settings.buckets.clone(),
            attributes,
            settings.series_limit,
        ));
        let descriptions = descriptions(&extra);
        let spans = SpanFamilies::new(
            label::harmless(service_name).into(),
            extra,
            settings.buckets.clone(),
            settings.aliases.clone(),
        );
        let registry = prometheus::Registry::new();
        let metrics = Arc::new(Self {
            reserved: claimed_names(&spans.families(&[])),
            recorder,
            spans,
            settings,
            masker,
            ledger,
            ledger_state: LedgerState::default(),
            target: Mutex::new(None),
            meter_provider: meter_provider(&registry),
            registry,
            descriptions,
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
    pub fn registry(&self) -> prometheus::Registry {
        self.registry.clone()
    }

    /// A provider of OpenTelemetry meters whose instruments appear in the registry. A clone is
    /// the same provider.
    pub fn meter_provider(&self) -> SdkMeterProvider {
        self.meter_provider.clone()
    }

    /// Shows the attributes of `resource` as `target_info`.
    pub fn set_resource(&self, resource: &Resource) {
        *lock(&self.target) = Some(resource_info(resource, &self.masker));
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
    /// labels (see [`Metrics::labels`]).
    pub fn observed_attributes(&self) -> &[String] {
        self.recorder.attributes()
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
        families
    }

    fn own_families(&self) -> Vec<Family> {
        let mut families: Vec<Family> = lock(&self.target).iter().cloned().collect();
        let table = self.recorder.table();
        let now = clock::now();
        let rows = table.snapshot(self.recorder.shards());
        families.extend(self.spans.families(&rows));
        if let Some(unused) = self.settings.expire_after {
            table.expire(&rows, unused, now, self.recorder.shards());
        }
        families.extend(ledger_families(&self.ledger, &self.ledger_state));
        families.extend(self.about_series());
        families
    }

    fn about_series(&self) -> [Family; 2] {
        let metrics = [
            (Metric::Spans, names::CALLS),
            (Metric::Errors, names::ERRORS),
            (Metric::Requests, names::REQUESTS),
        ];
        let points = metrics.map(|(metric, described)| {
            let count = self.recorder.table().count(metric) as u64;
            Point::integer(vec![(names::METRIC.into(), described.name.into())], count)
        });
        let limit = self.settings.series_limit as u64;
        [
            Family::new(names::SERIES, FamilyKind::Gauge, points.into()),
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
    fn ended(&self, span: &SpanEnd<'_>) -> Measurement {
        self.recorder.ended(span)
    }

    fn kept(&self, measurement: Measurement, trace_id: TraceId, span_id: SpanId) {
        self.recorder.kept(measurement, trace_id, span_id, clock::unix_nanos());
    }
}

/// The attributes that become labels, and their label names: each name once, none of ours.
fn label_names(attributes: &[String]) -> (Vec<String>, Vec<String>) {
    let mut taken = vec![
        names::SERVICE.to_owned(),
        names::OPERATION.to_owned(),
        names::STATUS.to_owned(),
        names::JAEGER_SERVICE.to_owned(),
        names::ALIAS_SPAN_NAME.to_owned(),
        names::ALIAS_SPAN_KIND.to_owned(),
        names::ALIAS_STATUS.to_owned(),
        // The bound of a bucket.
        "le".to_owned(),
    ];
    let mut usable = Vec::new();
    let mut extra = Vec::new();
    for attribute in attributes {
        let name = label::name(attribute);
        if !taken.contains(&name) {
            taken.push(name.clone());
            usable.push(attribute.clone());
            extra.push(name);
        }
    }
    (usable, extra)
}

fn descriptions(extra: &[String]) -> Vec<Desc> {
    let with_extra = |labels: &[&'static str]| -> Vec<String> {
        labels.iter().map(|label| (*label).to_owned()).chain(extra.iter().cloned()).collect()
    };
    let plain = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
    [
        (names::CALLS, with_extra(&[names::SERVICE, names::OPERATION, names::STATUS])),
        (names::DURATION, with_extra(&[names::SERVICE, names::OPERATION])),
        (names::ERRORS, plain(&[names::SERVICE, names::OPERATION, names::ERROR_TYPE])),
        (names::REQUESTS, plain(&[names::SOURCE_SERVICE, names::TARGET_SERVICE, names::OPERATION])),
    ]
    .into_iter()
    .filter_map(|(described, labels)| describe(described.name, described.help, labels))
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
