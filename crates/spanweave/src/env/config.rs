//! Every variable, as one plain value.

use std::path::PathBuf;
use std::time::Duration;

use spanweave_core::sampling::Sampler;
use spanweave_core::span::SpanLimits;

use super::list;
use super::otlp::{self, OtlpConfig};
use super::reader::{Reader, Warning, shown};
use super::unsupported;

/// Where traces go by `OTEL_TRACES_EXPORTER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceExporter {
    /// OTLP, by `OTEL_EXPORTER_OTLP_*`.
    Otlp,
    /// Standard output.
    Console,
}

/// Where `/metrics` is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetricsServe {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// How log lines look. All of them go to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// One line of text an event, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
    /// No log lines. Spans are recorded all the same.
    Off,
}

/// What the environment says. `None` is "unset".
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct EnvConfig {
    pub(crate) disabled: bool,

    pub(crate) service_name: Option<String>,
    pub(crate) resource_attributes: Vec<(String, String)>,

    /// Names that `Propagator::from_name` knows. `Some([])` is none at all.
    pub(crate) propagators: Option<Vec<&'static str>>,
    /// Keys of baggage that become attributes.
    pub(crate) baggage_attributes: Vec<String>,
    pub(crate) sampler: Option<Sampler>,
    pub(crate) limits: SpanLimits,

    pub(crate) queue_spans: Option<usize>,
    pub(crate) batch_delay: Option<Duration>,
    pub(crate) batch_spans: Option<usize>,
    pub(crate) export_timeout: Option<Duration>,

    /// Empty for `none`.
    pub(crate) trace_exporters: Vec<TraceExporter>,
    pub(crate) otlp: OtlpConfig,
    pub(crate) file: Option<PathBuf>,
    /// Where OTLP backends of the environment spool to.
    pub(crate) spool: Option<PathBuf>,

    pub(crate) metrics: Option<MetricsServe>,
    /// Whether exemplars are published.
    pub(crate) exemplars: bool,

    pub(crate) log_filter: Option<String>,
    pub(crate) span_filter: Option<String>,
    pub(crate) log_format: LogFormat,
}

impl EnvConfig {
    /// Reads all variables through `lookup`.
    pub(crate) fn read(lookup: &dyn Fn(&str) -> Option<String>) -> (Self, Vec<Warning>) {
        let mut reader = Reader::new(lookup);
        let config = Self::from_reader(&mut reader);
        unsupported::warn_about_set(&mut reader);
        (config, reader.into_warnings())
    }

    fn from_reader(reader: &mut Reader<'_>) -> Self {
        const EXPORTERS: [(&str, Option<TraceExporter>); 3] = [
            ("otlp", Some(TraceExporter::Otlp)),
            ("console", Some(TraceExporter::Console)),
            ("none", None),
        ];
        const FORMATS: [(&str, LogFormat); 3] =
            [("text", LogFormat::Text), ("json", LogFormat::Json), ("off", LogFormat::Off)];

        let exporters = reader.choices("OTEL_TRACES_EXPORTER", &EXPORTERS);
        let mut config = Self {
            disabled: reader.boolean("OTEL_SDK_DISABLED").unwrap_or(false),
            service_name: reader.text("OTEL_SERVICE_NAME"),
            resource_attributes: resource_attributes(reader),
            propagators: propagators(reader),
            baggage_attributes: names(reader, "SPANWEAVE_BAGGAGE_ATTRIBUTES"),
            sampler: sampler(reader),
            limits: limits(reader),
            queue_spans: reader.number("OTEL_BSP_MAX_QUEUE_SIZE", 1),
            batch_delay: reader.millis("OTEL_BSP_SCHEDULE_DELAY", 0),
            batch_spans: reader.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1),
            export_timeout: reader.timeout("OTEL_BSP_EXPORT_TIMEOUT"),
            trace_exporters: match exporters {
                Some(list) => list.into_iter().flatten().collect(),
                None => vec![TraceExporter::Otlp],
            },
            otlp: otlp::read(reader),
            file: reader.text("SPANWEAVE_FILE").map(PathBuf::from),
            spool: reader.text("SPANWEAVE_SPOOL_DIR").map(PathBuf::from),
            metrics: metrics(reader),
            exemplars: exemplars(reader),
            log_filter: reader.text("RUST_LOG"),
            span_filter: reader.text("SPANWEAVE_FILTER"),
            log_format: reader.choice("SPANWEAVE_LOG_FORMAT", &FORMATS).unwrap_or_default(),
        };
        config.fit_batch(reader);
        config
    }

    /// A batch is never larger than the queue, by the specification.
    fn fit_batch(&mut self, reader: &mut Reader<'_>) {
        if let (Some(queue), Some(batch)) = (self.queue_spans, self.batch_spans)
            && batch > queue
        {
            let message = format!("larger than OTEL_BSP_MAX_QUEUE_SIZE; {queue} is used");
            reader.warn("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", message);
            self.batch_spans = Some(queue);
        }
    }
}

/// `OTEL_RESOURCE_ATTRIBUTES`. By the specification, one bad member discards the whole value.
fn resource_attributes(reader: &mut Reader<'_>) -> Vec<(String, String)> {
    const VARIABLE: &str = "OTEL_RESOURCE_ATTRIBUTES";
    let Some(text) = reader.text(VARIABLE) else { return Vec::new() };
    let mut attributes = Vec::new();
    for (index, member) in list::members(&text).enumerate() {
        match member {
            Ok(attribute) => attributes.push(attribute),
            Err(error) => {
                let message =
                    format!("member {} {}; the whole value is ignored", index + 1, error.as_str());
                reader.warn(VARIABLE, message);
                return Vec::new();
            }
        }
    }
    attributes
}

/// A list of names, separated by commas.
fn names(reader: &mut Reader<'_>, variable: &'static str) -> Vec<String> {
    let text = reader.text(variable).unwrap_or_default();
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// `none` anywhere in the list is none at all.
fn propagators(reader: &mut Reader<'_>) -> Option<Vec<&'static str>> {
    const NAMES: [(&str, &str); 6] = [
        ("tracecontext", "tracecontext"),
        ("baggage", "baggage"),
        ("b3", "b3"),
        ("b3multi", "b3multi"),
        ("jaeger", "jaeger"),
        ("none", "none"),
    ];
    let names = reader.choices("OTEL_PROPAGATORS", &NAMES)?;
    Some(if names.contains(&"none") { Vec::new() } else { names })
}

/// `OTEL_TRACES_SAMPLER` and its argument. What cannot be had is named and replaced as the
/// specification says.
fn sampler(reader: &mut Reader<'_>) -> Option<Sampler> {
    const VARIABLE: &str = "OTEL_TRACES_SAMPLER";
    const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
    let name = reader.text(VARIABLE)?.to_ascii_lowercase();
    let argument = reader.text(ARGUMENT);
    match Sampler::from_env_names(&name, argument.as_deref()) {
        Ok(sampler) => Some(sampler),
        Err(error) => {
            let name_is_good = Sampler::from_env_names(&name, None).is_ok();
            let variable = if name_is_good { ARGUMENT } else { VARIABLE };
            let fallback = error.fallback();
            reader.warn(variable, format!("{error}; {fallback} is used"));
            Some(fallback)
        }
    }
}

/// The limits; the form for spans beats the general one.
fn limits(reader: &mut Reader<'_>) -> SpanLimits {
    let mut limit = |variables: &[&str]| {
        variables.iter().find_map(|variable| reader.number::<usize>(variable, 0))
    };
    let default = SpanLimits::default();
    SpanLimits {
        attributes: limit(&["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"])
            .unwrap_or(default.attributes),
        events: limit(&["OTEL_SPAN_EVENT_COUNT_LIMIT"]).unwrap_or(default.events),
        links: limit(&["OTEL_SPAN_LINK_COUNT_LIMIT"]).unwrap_or(default.links),
        attributes_per_event: limit(&["OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT"])
            .unwrap_or(default.attributes_per_event),
        attributes_per_link: limit(&["OTEL_LINK_ATTRIBUTE_COUNT_LIMIT"])
            .unwrap_or(default.attributes_per_link),
        value_bytes: limit(&[
            "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        ])
        .map_or(default.value_bytes, |bytes| bytes.min(SpanLimits::MAX_VALUE_BYTES)),
    }
}

/// `/metrics` is served where `OTEL_METRICS_EXPORTER=prometheus`, a host or a port says so, unless
/// the exporter is `none`.
fn metrics(reader: &mut Reader<'_>) -> Option<MetricsServe> {
    const VARIABLE: &str = "OTEL_METRICS_EXPORTER";
    // The defaults of the specification.
    const HOST: &str = "localhost";
    const PORT: u16 = 9464;

    let (mut prometheus, mut none) = (false, false);
    let exporters = reader.text(VARIABLE).unwrap_or_default();
    for name in exporters.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match name.to_ascii_lowercase().as_str() {
            "prometheus" => prometheus = true,
            "none" => none = true,
            _ => reader.warn(
                VARIABLE,
                format!(
                    "{} is not supported (supported: prometheus, none); metrics are scraped from /metrics",
                    shown(name)
                ),
            ),
        }
    }
    let host = reader.text("OTEL_EXPORTER_PROMETHEUS_HOST");
    let port = reader.number("OTEL_EXPORTER_PROMETHEUS_PORT", 0);
    let wanted = prometheus || ((host.is_some() || port.is_some()) && !none);
    wanted.then(|| MetricsServe {
        host: host.unwrap_or_else(|| HOST.to_owned()),
        port: port.unwrap_or(PORT),
    })
}

fn exemplars(reader: &mut Reader<'_>) -> bool {
    const VARIABLE: &str = "OTEL_METRICS_EXEMPLAR_FILTER";
    const FILTERS: [(&str, &str); 3] =
        [("trace_based", "trace_based"), ("always_on", "always_on"), ("always_off", "always_off")];
    match reader.choice(VARIABLE, &FILTERS) {
        Some("always_off") => false,
        Some("always_on") => {
            let message = "always_on is not supported: an exemplar is published only for a trace \
                           that was kept (trace_based)";
            reader.warn(VARIABLE, message);
            true
        }
        _ => true,
    }
}
