//! The environment, then code.

use std::collections::HashMap;

use spanweave_core::ledger::ShutdownReport;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

fn from(variables: &[(&str, &str)]) -> Builder {
    let map: HashMap<_, _> = variables.iter().copied().collect();
    let (env, warnings) = EnvConfig::read(&|name| map.get(name).map(|value| (*value).to_owned()));
    Builder::new(env, warnings)
}

/// Runs `act` under the builder's layer and shuts down.
fn shut_down(builder: Builder, act: impl FnOnce()) -> ShutdownReport {
    let (layer, telemetry) = builder.build().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, act);
    telemetry.shutdown(Duration::from_secs(5))
}

fn backends(report: &ShutdownReport) -> Vec<(&str, u64, u64)> {
    let of = |backend: &spanweave_core::ledger::BackendReport| {
        (backend.kind, backend.delivered, backend.sampled_out)
    };
    report.backends.iter().map(of).collect()
}

fn one_span() {
    tracing::info_span!("work").in_scope(|| ());
}

#[test]
fn the_first_backend_in_code_replaces_those_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let env_file = path("env.jsonl");
    let variables =
        [("SPANWEAVE_FILE", env_file.to_str().unwrap()), ("OTEL_TRACES_EXPORTER", "none")];

    let report = shut_down(from(&variables), one_span);
    assert_eq!(backends(&report), [("file_span_exporter", 1, 0)]);
    assert!(std::fs::read_to_string(&env_file).unwrap().contains("work"));

    std::fs::remove_file(&env_file).unwrap();
    let code =
        from(&variables).export_to(Backend::file(path("a"))).export_to(Backend::file(path("b")));
    let report = shut_down(code, one_span);
    assert_eq!(report.backends.len(), 2);
    assert!(path("a").exists() && path("b").exists() && !env_file.exists());

    let report = shut_down(from(&variables).export_nowhere(), one_span);
    assert!(report.backends.is_empty() && !env_file.exists());
}

#[test]
fn a_sampler_in_code_beats_the_environments() {
    let folder = tempfile::tempdir().unwrap();
    let of = |variable, sampler: Option<Sampler>| {
        let mut builder = from(&[("OTEL_TRACES_SAMPLER", variable)])
            .export_to(Backend::file(folder.path().join("spans.jsonl")));
        if let Some(sampler) = sampler {
            builder = builder.sampler(sampler);
        }
        let report = shut_down(builder, one_span);
        let (_, delivered, sampled_out) = backends(&report)[0];
        (delivered, sampled_out)
    };
    assert_eq!(of("always_on", None), (1, 0));
    assert_eq!(of("always_off", None), (0, 1));
    assert_eq!(of("always_off", Some(Sampler::always_on())), (1, 0));
}

#[test]
fn sizes_come_from_the_environment_where_code_says_nothing() {
    let variables = [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "2048"),
        ("OTEL_BSP_SCHEDULE_DELAY", "2000"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "256"),
    ];
    let env = from(&variables).env;
    assert_eq!(env_queue(&env), Queue { spans: 2048, ..Queue::default() });
    let batch = BatchConfig { delay: Duration::from_secs(2), max_spans: 256 };
    assert_eq!(env_batch(&env), batch);
    let env = from(&[]).env;
    assert_eq!((env_queue(&env), env_batch(&env)), (Queue::default(), BatchConfig::default()));
    // A queue smaller than the default batch takes the batch down with it.
    let env = from(&[("OTEL_BSP_MAX_QUEUE_SIZE", "100")]).env;
    assert_eq!(env_batch(&env).max_spans, 100);
}

#[test]
fn sizes_without_any_sense_still_work() {
    let folder = tempfile::tempdir().unwrap();
    let huge = usize::MAX.to_string();
    let variables = [
        ("OTEL_BSP_MAX_QUEUE_SIZE", huge.as_str()),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", huge.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", huge.as_str()),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", huge.as_str()),
    ];
    let builder = from(&variables).export_to(Backend::file(folder.path().join("spans.jsonl")));
    assert_eq!(backends(&shut_down(builder, one_span)), [("file_span_exporter", 1, 0)]);
}

#[test]
fn propagators_in_code_beat_the_environments_and_carry_the_service() {
    let global = |mut builder: Builder| builder.global("users").active;
    let env = [("OTEL_PROPAGATORS", "b3")];
    let fields = |active: &Active| {
        let fields = opentelemetry::propagation::TextMapPropagator::fields(active.propagators());
        let mut fields: Vec<_> = fields.map(str::to_owned).collect();
        fields.sort_unstable();
        fields
    };
    assert_eq!(fields(&global(from(&[]))), ["baggage", "traceparent", "tracestate"]);
    assert_eq!(fields(&global(from(&env))), ["b3"]);
    let code = global(from(&env).propagators([Propagator::jaeger()]));
    assert_eq!(fields(&code)[0], "uber-trace-id");
    assert_eq!(code.propagators().service_name(), Some("users"));
    assert!(fields(&global(from(&[("OTEL_PROPAGATORS", "none")]))).is_empty());
}

#[test]
fn baggage_attributes_come_from_the_environment_where_code_says_nothing() {
    let env = [("SPANWEAVE_BAGGAGE_ATTRIBUTES", " tenant, plan ,")];
    assert_eq!(from(&env).env.baggage_attributes, ["tenant", "plan"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spans.jsonl");
    let written = |builder: Builder| {
        shut_down(builder.export_to(Backend::file(&file)), || {
            let headers = HashMap::from([("baggage".to_owned(), "tenant=acme,x=code".to_owned())]);
            let cx = crate::propagation::extract_map(&headers);
            let span = tracing::info_span!("work");
            crate::SpanExt::set_parent(&span, cx).unwrap();
        });
        let written = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        (written.contains("acme"), written.contains(r#""x""#))
    };
    assert_eq!(written(from(&env)), (true, false));
    assert_eq!(written(from(&env).baggage_attributes(["x"])), (false, true));
    assert_eq!(written(from(&[])), (false, false));
}

#[cfg(all(feature = "tokio", feature = "metrics"))]
#[test]
fn spans_that_lost_their_parent_are_counted_and_served() {
    let (layer, telemetry) = from(&[]).export_nowhere().build().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { tokio::spawn(async { one_span() }).await.unwrap() });
    });
    let counts = telemetry.detached_spans();
    assert_eq!((counts[0].name, counts[0].count), ("work", 1));
    let text = telemetry.metrics_text();
    let line = text.lines().find(|line| line.starts_with("spanweave_span_detached_total{"));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains(r#"span_name="work""#) && line.ends_with(" 1"), "{line}");
}

#[test]
fn the_span_filter_holds_under_a_subscriber_of_the_applications_own() {
    let folder = tempfile::tempdir().unwrap();
    let program = || {
        tracing::debug_span!("fine").in_scope(|| ());
        one_span();
    };
    let of = |builder: Builder| {
        let builder = builder.export_to(Backend::file(folder.path().join("spans.jsonl")));
        backends(&shut_down(builder, program))[0].1
    };
    assert_eq!(of(from(&[])), 1);
    assert_eq!(of(from(&[("SPANWEAVE_FILTER", "debug")])), 2);
    assert_eq!(of(from(&[("SPANWEAVE_FILTER", "debug")]).span_filter("warn")), 0);
}

#[test]
fn a_header_is_in_no_debug_output_and_in_no_warning() {
    let builder = from(&[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2,hunter2")]);
    assert!(!format!("{builder:?} {:?}", builder.warnings).contains("hunter2"));
}
