//! Each variable: default, good, empty, bad.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use spanweave_core::sampling::Sampler;
use spanweave_core::span::SpanLimits;

use super::*;

fn read(variables: &[(&str, &str)]) -> (EnvConfig, Vec<Warning>) {
    let map: HashMap<_, _> = variables.iter().copied().collect();
    EnvConfig::read(&|name| map.get(name).map(|value| (*value).to_owned()))
}

/// Without a warning.
fn good(variables: &[(&str, &str)]) -> EnvConfig {
    let (config, warnings) = read(variables);
    assert_eq!(warnings, [], "{variables:?}");
    config
}

/// With exactly one warning, which names the variable.
fn bad(variable: &str, value: &str) -> EnvConfig {
    let (config, warnings) = read(&[(variable, value)]);
    let named: Vec<_> = warnings.iter().map(|warning| warning.variable.as_str()).collect();
    assert_eq!(named, [variable], "{value}");
    config
}

fn default() -> EnvConfig {
    good(&[])
}

const ALL: [&str; 44] = [
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_PROPAGATORS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_LOGS_EXPORTER",
    "OTEL_EXPORTER_PROMETHEUS_HOST",
    "OTEL_EXPORTER_PROMETHEUS_PORT",
    "OTEL_METRICS_EXEMPLAR_FILTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    "OTEL_EXPORTER_OTLP_INSECURE",
    "OTEL_EXPORTER_OTLP_TRACES_INSECURE",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "RUST_LOG",
    "SPANWEAVE_FILTER",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "SPANWEAVE_FILE",
    "SPANWEAVE_SPOOL_DIR",
    "SPANWEAVE_LOG_FORMAT",
];

#[test]
fn an_empty_variable_is_unset() {
    for variable in ALL {
        for value in ["", " "] {
            assert_eq!(good(&[(variable, value)]), default(), "{variable}");
        }
    }
}

#[test]
fn nothing_set_is_the_specifications_default() {
    let config = default();
    assert!(!config.disabled && config.exemplars);
    assert_eq!(config.trace_exporters, [TraceExporter::Otlp]);
    assert_eq!(config.otlp, OtlpConfig::default());
    assert_eq!(config.otlp.endpoint, EnvEndpoint::Default);
    assert_eq!(config.otlp.protocol, EnvProtocol::HttpProtobuf);
    assert_eq!(config.otlp.timeout, Duration::from_secs(10));
    assert_eq!(config.limits, SpanLimits::default());
    assert_eq!((config.metrics, config.propagators, config.service_name), (None, None, None));
    assert_eq!(config.log_format, LogFormat::Text);
}

#[test]
fn booleans() {
    assert!(good(&[("OTEL_SDK_DISABLED", "TRUE")]).disabled);
    assert!(!good(&[("OTEL_SDK_DISABLED", "false")]).disabled);
    assert!(!bad("OTEL_SDK_DISABLED", "1").disabled);
}

#[test]
fn resource_and_service_name() {
    let config = good(&[
        ("OTEL_SERVICE_NAME", "orders"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,service.version=1%2E2, team = a b "),
    ]);
    assert_eq!(config.service_name.as_deref(), Some("orders"));
    let attributes: Vec<_> = config
        .resource_attributes
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        attributes,
        [("service.name", "other"), ("service.version", "1.2"), ("team", "a b")]
    );
    for value in ["a=1,b", "a=%zz", "=1"] {
        assert!(bad("OTEL_RESOURCE_ATTRIBUTES", value).resource_attributes.is_empty());
    }
}

#[test]
fn propagators_by_name() {
    let list = |value| good(&[("OTEL_PROPAGATORS", value)]).propagators;
    assert_eq!(list("b3,tracecontext,b3"), Some(vec!["b3", "tracecontext"]));
    assert_eq!(list("jaeger, b3multi,baggage"), Some(vec!["jaeger", "b3multi", "baggage"]));
    assert_eq!(list("none"), Some(vec![]));
    assert_eq!(list("tracecontext,none"), Some(vec![]));
    assert_eq!(bad("OTEL_PROPAGATORS", "xray").propagators, None);
    assert_eq!(bad("OTEL_PROPAGATORS", "xray,b3").propagators, Some(vec!["b3"]));
}

#[test]
fn samplers_by_name() {
    let sampler = |name, argument| {
        good(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)]).sampler
    };
    assert_eq!(sampler("always_off", ""), Some(Sampler::always_off()));
    assert_eq!(sampler("ALWAYS_ON", "unused"), Some(Sampler::always_on()));
    assert_eq!(sampler("traceidratio", "0.25"), Some(Sampler::ratio(0.25)));
    let parent_based = Sampler::ratio(0.5).parent_based();
    assert_eq!(sampler("parentbased_traceidratio", "0.5"), Some(parent_based));
    assert_eq!(sampler("", "0.5"), None);
    let unknown = bad("OTEL_TRACES_SAMPLER", "sometimes").sampler;
    assert_eq!(unknown, Some(Sampler::always_on().parent_based()));
    let (config, warnings) =
        read(&[("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "half")]);
    assert_eq!(config.sampler, Some(Sampler::ratio(1.0)));
    assert_eq!(warnings[0].variable, "OTEL_TRACES_SAMPLER_ARG");
}

#[test]
fn batch_settings() {
    let config = good(&[
        ("OTEL_BSP_SCHEDULE_DELAY", "2000"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "10000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "4096"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512"),
    ]);
    assert_eq!(config.batch_delay, Some(Duration::from_secs(2)));
    assert_eq!(config.export_timeout, Some(Duration::from_secs(10)));
    assert_eq!((config.queue_spans, config.batch_spans), (Some(4096), Some(512)));
    assert_eq!(bad("OTEL_BSP_SCHEDULE_DELAY", "5s").batch_delay, None);
    assert_eq!(bad("OTEL_BSP_EXPORT_TIMEOUT", "-1").export_timeout, None);
    assert_eq!(bad("OTEL_BSP_MAX_QUEUE_SIZE", "0").queue_spans, None);
    assert_eq!(bad("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "many").batch_spans, None);
}

#[test]
fn a_batch_is_never_larger_than_the_queue() {
    let (config, warnings) =
        read(&[("OTEL_BSP_MAX_QUEUE_SIZE", "10"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "20")]);
    assert_eq!((config.batch_spans, warnings.len()), (Some(10), 1));
}

#[test]
fn limits_and_their_forms_for_spans() {
    let general = [
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "5"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "6"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "7"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "8"),
        ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "9"),
        ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "0"),
    ];
    let expected = SpanLimits {
        attributes: 5,
        events: 7,
        links: 8,
        attributes_per_event: 9,
        attributes_per_link: 0,
        value_bytes: 6,
    };
    assert_eq!(good(&general).limits, expected);
    let spans = [
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "50"),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "60"),
    ];
    let both: Vec<_> = general.into_iter().chain(spans).collect();
    assert_eq!(good(&both).limits, SpanLimits { attributes: 50, value_bytes: 60, ..expected });
    for variable in ALL.iter().filter(|variable| variable.ends_with("_LIMIT")) {
        assert_eq!(bad(variable, "x").limits, SpanLimits::default());
    }
    let huge = good(&[("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "999999999")]).limits.value_bytes;
    assert_eq!(huge, SpanLimits::MAX_VALUE_BYTES);
}

#[test]
fn trace_exporters() {
    use TraceExporter::{Console, Otlp};
    let list = |value| good(&[("OTEL_TRACES_EXPORTER", value)]).trace_exporters;
    assert_eq!(list("console"), [Console]);
    assert_eq!(list("otlp, console"), [Otlp, Console]);
    assert_eq!(list("none"), []);
    assert_eq!(bad("OTEL_TRACES_EXPORTER", "zipkin").trace_exporters, [Otlp]);
    assert_eq!(bad("OTEL_TRACES_EXPORTER", "zipkin,console").trace_exporters, [Console]);
    let file = good(&[("SPANWEAVE_FILE", "/tmp/spans.jsonl")]).file;
    assert_eq!(file, Some(PathBuf::from("/tmp/spans.jsonl")));
}

#[test]
fn the_form_for_traces_beats_the_base_form() {
    let config = good(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://base:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces/in"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "b=2"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "false"),
        ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2"),
    ]);
    let expected = OtlpConfig {
        endpoint: EnvEndpoint::Traces("http://traces/in".into()),
        protocol: EnvProtocol::Grpc,
        headers: vec![("b".into(), "2".into())],
        compression: Some(EnvCompression::Gzip),
        insecure: true,
        timeout: Duration::from_millis(2),
        ..OtlpConfig::default()
    };
    assert_eq!(config.otlp, expected);
    let base = good(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://base:4318")]).otlp.endpoint;
    assert_eq!(base, EnvEndpoint::Base("http://base:4318".into()));
}

#[test]
fn a_bad_form_for_traces_leaves_the_base_form_in_place() {
    for (setting, base, value) in [
        ("PROTOCOL", "grpc", "carrier-pigeon"),
        ("COMPRESSION", "gzip", "lzma"),
        ("TIMEOUT", "5", "x"),
    ] {
        let base_name = format!("OTEL_EXPORTER_OTLP_{setting}");
        let traces_name = format!("OTEL_EXPORTER_OTLP_TRACES_{setting}");
        let (config, warnings) = read(&[(&base_name, base), (&traces_name, value)]);
        assert_eq!(config, good(&[(&base_name, base)]));
        assert_eq!(warnings.len(), 1);
        assert_eq!(bad(&base_name, value), default());
    }
}

#[test]
fn headers_are_decoded_and_a_bad_one_never_shows_its_value() {
    let variable = "OTEL_EXPORTER_OTLP_HEADERS";
    let headers = |value| good(&[(variable, value)]).otlp.headers;
    assert_eq!(
        headers("authorization=Basic%20c2VjcmV0, x-team = a"),
        [("authorization".into(), "Basic c2VjcmV0".into()), ("x-team".into(), "a".into())]
    );
    for value in ["hunter2", "na me=hunter2", "k=hunter2%0d%0a", "k=hunter2%zz", "=hunter2"] {
        let text = format!("ok=1,{value}");
        let (config, warnings) = read(&[(variable, &text)]);
        assert_eq!(config.otlp.headers, [("ok".to_owned(), "1".to_owned())], "{value}");
        assert_eq!(warnings.len(), 1, "{value}");
        assert!(!warnings[0].to_string().contains("hunter2"), "{}", warnings[0]);
        assert!(warnings[0].message.contains('2'), "the place in the list: {}", warnings[0]);
    }
    let debug = format!("{:?}", good(&[(variable, "authorization=hunter2")]));
    assert!(debug.contains("authorization") && !debug.contains("hunter2"), "{debug}");
}

#[test]
fn metrics_are_served_where_something_says_so() {
    let serve = |host: &str, port| Some(MetricsServe { host: host.to_owned(), port });
    let metrics = |variables: &[(&str, &str)]| good(variables).metrics;
    let (exporter, host, port) =
        ("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_PROMETHEUS_HOST", "OTEL_EXPORTER_PROMETHEUS_PORT");
    assert_eq!(metrics(&[(exporter, "prometheus")]), serve("localhost", 9464));
    assert_eq!(metrics(&[(host, "0.0.0.0")]), serve("0.0.0.0", 9464));
    assert_eq!(metrics(&[(port, "9000")]), serve("localhost", 9000));
    assert_eq!(metrics(&[(port, "9000"), (exporter, "none")]), None);
    assert_eq!(bad(exporter, "otlp").metrics, None);
    assert_eq!(bad(exporter, "otlp,prometheus").metrics, serve("localhost", 9464));
    assert_eq!(bad(port, "99999").metrics, None);
    assert!(!good(&[("OTEL_METRICS_EXEMPLAR_FILTER", "always_off")]).exemplars);
    assert!(bad("OTEL_METRICS_EXEMPLAR_FILTER", "always_on").exemplars);
    assert!(bad("OTEL_METRICS_EXEMPLAR_FILTER", "x").exemplars);
}

#[test]
fn log_settings() {
    let config = good(&[
        ("RUST_LOG", "warn"),
        ("SPANWEAVE_FILTER", "debug"),
        ("SPANWEAVE_LOG_FORMAT", "JSON"),
    ]);
    assert_eq!(config.log_filter.as_deref(), Some("warn"));
    assert_eq!(config.span_filter.as_deref(), Some("debug"));
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(good(&[("SPANWEAVE_LOG_FORMAT", "off")]).log_format, LogFormat::Off);
    assert_eq!(bad("SPANWEAVE_LOG_FORMAT", "xml").log_format, LogFormat::Text);
}

#[test]
fn files_of_tls_and_the_spool_are_paths() {
    let config = good(&[
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/base.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/traces.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/client.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/client.key"),
        ("SPANWEAVE_SPOOL_DIR", "/var/spool/x"),
    ]);
    assert_eq!(config.otlp.certificate, Some("/traces.pem".into()));
    assert_eq!(config.otlp.client_certificate, Some("/client.pem".into()));
    assert_eq!(config.otlp.client_key, Some("/client.key".into()));
    assert_eq!(config.spool, Some("/var/spool/x".into()));
}

#[test]
fn a_known_variable_without_effect_is_named_once() {
    for variable in [
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
        "OTEL_BLRP_SCHEDULE_DELAY",
        "OTEL_METRIC_EXPORT_INTERVAL",
        "OTEL_LOGS_EXPORTER",
        "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
    ] {
        assert_eq!(bad(variable, "secret-value"), default());
        let (_, warnings) = read(&[(variable, "secret-value")]);
        assert!(!warnings[0].to_string().contains("secret-value"));
    }
    assert_eq!(good(&[("OTEL_LOGS_EXPORTER", "none")]), default());
}
