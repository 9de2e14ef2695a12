//! Variables of the specification that have no effect here. Each that is set is named once, so
//! that nobody waits for it to work.

use super::reader::Reader;

/// Exact names and what to do instead.
const VARIABLES: [(&str, &str); 11] = [
    ("OTEL_METRIC_EXPORT_INTERVAL", METRICS),
    ("OTEL_METRIC_EXPORT_TIMEOUT", METRICS),
    ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", LOGS),
    ("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", LOGS),
    ("OTEL_LOG_LEVEL", "the log is filtered by RUST_LOG"),
    ("OTEL_CONFIG_FILE", FILE),
    ("OTEL_EXPERIMENTAL_CONFIG_FILE", FILE),
    ("OTEL_EXPORTER_ZIPKIN_ENDPOINT", RETIRED),
    ("OTEL_EXPORTER_ZIPKIN_TIMEOUT", RETIRED),
    ("OTEL_EXPORTER_JAEGER_ENDPOINT", RETIRED),
    ("OTEL_EXPORTER_JAEGER_AGENT_HOST", RETIRED),
];

/// Settings of `OTEL_EXPORTER_OTLP_<signal>_*` and of the batch processor of logs.
const OTLP_SETTINGS: [&str; 9] = [
    "ENDPOINT",
    "PROTOCOL",
    "HEADERS",
    "COMPRESSION",
    "INSECURE",
    "TIMEOUT",
    "CERTIFICATE",
    "CLIENT_KEY",
    "CLIENT_CERTIFICATE",
];
const BATCH_SETTINGS: [&str; 4] =
    ["SCHEDULE_DELAY", "EXPORT_TIMEOUT", "MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE"];

const METRICS: &str = "metrics are scraped from /metrics, not pushed";
const LOGS: &str = "log records are not exported";
const FILE: &str = "configuration comes from variables and from code";
const RETIRED: &str = "Zipkin and Jaeger take OTLP; use OTEL_EXPORTER_OTLP_ENDPOINT";

pub(super) fn warn_about_set(reader: &mut Reader<'_>) {
    for (variable, reason) in VARIABLES {
        warn(reader, variable, reason);
    }
    for setting in OTLP_SETTINGS {
        warn(reader, &format!("OTEL_EXPORTER_OTLP_METRICS_{setting}"), METRICS);
        warn(reader, &format!("OTEL_EXPORTER_OTLP_LOGS_{setting}"), LOGS);
    }
    for setting in BATCH_SETTINGS {
        warn(reader, &format!("OTEL_BLRP_{setting}"), LOGS);
    }
    let logs = reader.text("OTEL_LOGS_EXPORTER");
    if logs.is_some_and(|exporter| !exporter.eq_ignore_ascii_case("none")) {
        warn(reader, "OTEL_LOGS_EXPORTER", LOGS);
    }
}

fn warn(reader: &mut Reader<'_>, variable: &str, reason: &str) {
    if reader.text(variable).is_some() {
        reader.warn(variable, format!("not supported: {reason}"));
    }
}
