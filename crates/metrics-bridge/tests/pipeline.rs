//! As an observer of the pipeline: exact before sampling, exemplars after it, and a ledger that
//! balances on the page.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use opentelemetry_sdk::Resource;
use spanweave_core::clock::Deadline;
use spanweave_core::ledger::{BackendLedger, BackendReport, DropReason};
use spanweave_core::{
    Ledger, MaskedBatch, Pipeline, PipelineConfig, Sampler, SpanObserver, SpanSink, start,
};
use spanweave_metrics::{Format, Metrics, SpanMetrics};
use tracing::{Dispatch, dispatcher, info_span};
use tracing_subscriber::layer::SubscriberExt;

/// Delivers into memory, and drops every span called `unwanted`.
struct Memory {
    ledger: Arc<Ledger>,
    account: Arc<BackendLedger>,
    trace_ids: Mutex<Vec<String>>,
}

impl SpanSink for Memory {
    fn accept(&self, batch: Arc<MaskedBatch>) {
        self.account.accept(batch.len() as u64);
        for span in batch.spans() {
            if span.name() == "unwanted" {
                self.account.drop_spans(DropReason::Rejected, 1);
            } else {
                self.account.deliver(1);
                self.trace_ids.lock().unwrap().push(span.trace_id().to_string());
            }
        }
    }

    fn flush(&self, _deadline: Deadline) -> Vec<BackendReport> {
        self.ledger.reports()
    }

    fn shutdown(&self, _deadline: Deadline) -> Vec<BackendReport> {
        self.ledger.reports()
    }
}

struct Setup {
    metrics: Arc<SpanMetrics>,
    sink: Arc<Memory>,
    pipeline: Pipeline,
    dispatch: Dispatch,
}

fn setup(sampler: Sampler, settings: Metrics) -> Setup {
    let mut config = PipelineConfig::new(Resource::builder_empty().build());
    let ledger = config.ledger.clone();
    let account = ledger.open("memory", "test_span_exporter");
    let sink = Arc::new(Memory { ledger: ledger.clone(), account, trace_ids: Mutex::default() });
    let metrics = SpanMetrics::new(settings, "shop", config.masker.clone(), ledger);
    config.sampler = sampler;
    config.observed_attributes = metrics.observed_attributes().to_vec();
    config.observers = vec![metrics.clone() as Arc<dyn SpanObserver>];
    config.sinks = vec![sink.clone() as Arc<dyn SpanSink>];
    let (layer, pipeline) = start(config).unwrap();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    Setup { metrics, sink, pipeline, dispatch }
}

/// The samples of the text format by their full names.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(series, value)| (series, value.parse().unwrap()))
        .collect()
}

fn sum(samples: &BTreeMap<&str, f64>, name: &str) -> f64 {
    let of_name = samples.iter().filter(|(series, _)| series.split('{').next() == Some(name));
    of_name.map(|(_, value)| value).sum()
}

/// Whether counts agree with each other and have not gone back.
fn check(text: &str, last: &mut BTreeMap<String, f64>) {
    let now = samples(text);
    assert_eq!(
        sum(&now, "trace_span_total"),
        sum(&now, "trace_span_duration_seconds_count"),
        "the counter and the histogram are views of the same spans"
    );
    for (series, value) in now {
        if let Some((name, labels)) = series.split_once("_count{") {
            let labels = labels.trim_end_matches('}');
            let last_bucket = format!("{name}_bucket{{{labels},le=\"+Inf\"}} {value}\n");
            assert!(text.contains(&last_bucket), "{last_bucket} in {text}");
        }
        if series.starts_with("trace_") {
            let before = last.insert(series.to_owned(), value).unwrap_or_default();
            assert!(before <= value, "{series} went back from {before} to {value}");
        }
    }
}

#[test]
fn every_span_counts_at_one_percent_sampling_from_eight_threads_under_scrapes() {
    const THREADS: u64 = 8;
    const REQUESTS: u64 = 3_000;
    let setup = setup(Sampler::ratio(0.01), Metrics::default());
    let (done, failed) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut last = BTreeMap::new();
            while !done.load(Ordering::Acquire) {
                check(&setup.metrics.text(Format::Text), &mut last);
            }
            last.len()
        });
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (setup, failed) = (&setup, &failed);
                scope.spawn(move || {
                    dispatcher::with_default(&setup.dispatch, || {
                        for at in 0..REQUESTS {
                            let route = (thread + at) % 7;
                            let name = format!("GET /{route}");
                            let root = info_span!(
                                "request",
                                otel.name = name,
                                otel.kind = "server",
                                http.request.method = "GET"
                            );
                            let _root = root.enter();
                            let _child = info_span!("work").entered();
                            if route == 0 {
                                let _bad = info_span!("fail", otel.status_code = "error").entered();
                                failed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Release);
        assert!(scraper.join().unwrap() > 0);
    });
    setup.pipeline.flush(Deadline::after(Duration::from_secs(10)));
    let text = setup.metrics.text(Format::Text);
    let samples = samples(&text);
    let failed = failed.load(Ordering::Relaxed) as f64;
    let requests = (THREADS * REQUESTS) as f64;
    assert_eq!(sum(&samples, "trace_span_total"), 2.0 * requests + failed);
    assert_eq!(sum(&samples, "trace_errors_total"), failed);
    assert_eq!(sum(&samples, "service_requests_total"), requests);
    assert_eq!(sum(&samples, "http_server_request_duration_seconds_count"), requests);
    let active = r#"http_server_active_requests{http_request_method="GET"}"#;
    assert_eq!(samples.get(active), Some(&0.0));
    let work = r#"trace_span_total{service="shop",operation="work",status="unset"}"#;
    assert_eq!(samples.get(work), Some(&requests));
    assert_eq!(sum(&samples, "spanweave_spans_ended_total"), 2.0 * requests + failed);
    assert!(sum(&samples, "spanweave_spans_sampled_out_total") > requests);
}

#[test]
fn the_ledger_balances_on_the_page_alone() {
    let setup = setup(Sampler::ratio(0.5), Metrics::default());
    dispatcher::with_default(&setup.dispatch, || {
        for _ in 0..500 {
            let _root = info_span!("root").entered();
            info_span!("unwanted").in_scope(|| {});
        }
    });
    setup.pipeline.flush(Deadline::after(Duration::from_secs(10)));
    let text = setup.metrics.text(Format::Text);
    let samples = samples(&text);
    let with_error = |name: &str| -> f64 {
        let with_error = |series: &str| series.starts_with(name) && series.contains("error_type=");
        samples.iter().filter(|(series, _)| with_error(series)).map(|(_, value)| value).sum()
    };
    let exported = sum(&samples, "otel_sdk_exporter_span_exported_total");
    let dropped = with_error("otel_sdk_exporter_span_exported_total");
    assert!(dropped > 0.0 && exported > dropped, "{text}");
    let accounted = exported
        + with_error("otel_sdk_processor_span_processed_total")
        + sum(&samples, "spanweave_backend_sampled_out_spans_total")
        + sum(&samples, "spanweave_backend_pending_spans");
    assert_eq!(sum(&samples, "spanweave_spans_ended_total"), 1_000.0);
    assert_eq!(accounted, 1_000.0, "{text}");
}

#[test]
fn an_exemplar_leads_to_a_trace_that_the_backend_has() {
    let setup = setup(Sampler::ratio(0.2), Metrics::default());
    dispatcher::with_default(&setup.dispatch, || {
        for at in 0..200 {
            info_span!("root", otel.name = format!("operation {at}")).in_scope(|| {});
        }
    });
    setup.pipeline.flush(Deadline::after(Duration::from_secs(10)));
    let kept = setup.sink.trace_ids.lock().unwrap().clone();
    let text = setup.metrics.text(Format::OpenMetrics);
    let counters = text.lines().filter(|line| line.starts_with("trace_span_total{"));
    let shown: Vec<&str> = counters
        .filter_map(|line| line.split_once("trace_id=\"")?.1.split_once('"'))
        .map(|(id, _)| id)
        .collect();
    assert!(!shown.is_empty() && shown.len() == kept.len(), "{} and {}", shown.len(), kept.len());
    assert!(shown.iter().all(|id| kept.iter().any(|kept| kept == id)));
}

#[test]
fn a_label_is_there_whether_the_span_is_sampled_or_not() {
    let setup = setup(Sampler::always_off(), Metrics::default().labels(["tenant.id"]));
    dispatcher::with_default(&setup.dispatch, || {
        for tenant in [1, 2, 2] {
            info_span!("work", tenant.id = tenant).in_scope(|| {});
        }
    });
    let text = setup.metrics.text(Format::Text);
    let samples = samples(&text);
    let of = |tenant: &str| {
        let labels =
            format!(r#"{{service="shop",operation="work",tenant_id="{tenant}",status="unset"}}"#);
        samples.get(format!("trace_span_total{labels}").as_str()).copied()
    };
    assert_eq!((of("1"), of("2")), (Some(1.0), Some(2.0)), "{text}");
}

/// A request as an instrumented server has it, with a query of its own, inside `inside`.
fn request(route: &str, status: i64, inside: impl FnOnce()) {
    let span = info_span!(
        "request",
        otel.name = format!("GET {route}"),
        otel.kind = "server",
        http.request.method = "GET",
        http.route = route,
        url.scheme = "http",
        network.protocol.version = "1.1",
        http.response.status_code = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
    );
    span.in_scope(|| {
        info_span!(
            "SELECT orders",
            otel.kind = "client",
            db.system.name = "sqlite",
            db.operation.name = "SELECT",
            db.collection.name = "orders",
        )
        .in_scope(|| {});
        info_span!(
            "GET",
            otel.kind = "client",
            http.request.method = "GET",
            server.address = "users.example",
            server.port = 8080,
            http.response.status_code = 200,
            service.peer.name = "users",
        )
        .in_scope(inside);
    });
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

#[test]
fn http_and_database_metrics_are_exact_though_nothing_is_sampled() {
    let settings = Metrics::default().names(spanweave_metrics::Names::Tempo);
    let setup = setup(Sampler::always_off(), settings);
    let active = |text: &str| {
        let name = r#"http_server_active_requests{http_request_method="GET",url_scheme="http"}"#;
        samples(text).get(name).copied()
    };
    dispatcher::with_default(&setup.dispatch, || {
        for status in [200, 200, 503] {
            request("/orders/{id}", status, || {
                assert_eq!(active(&setup.metrics.text(Format::Text)), Some(1.0));
            });
        }
    });
    let text = setup.metrics.text(Format::Text);
    assert_eq!(active(&text), Some(0.0), "{text}");
    let samples = samples(&text);
    let server = r#"http_request_method="GET",url_scheme="http",http_route="/orders/{id}""#;
    let edge = r#"client="unknown",server="shop""#;
    let expected = [
        (
            format!("http_server_request_duration_seconds_count{{{server},http_response_status_code=\"200\",network_protocol_version=\"1.1\"}}"),
            2.0,
        ),
        (
            format!("http_server_request_duration_seconds_bucket{{{server},http_response_status_code=\"503\",network_protocol_version=\"1.1\",error_type=\"503\",le=\"7.5\"}}"),
            1.0,
        ),
        (
            r#"http_client_request_duration_seconds_count{http_request_method="GET",server_address="users.example",server_port="8080",http_response_status_code="200"}"#.to_owned(),
            3.0,
        ),
        (
            r#"db_client_operation_duration_seconds_count{db_system_name="sqlite",db_collection_name="orders",db_operation_name="SELECT"}"#.to_owned(),
            3.0,
        ),
        (
            r#"service_calls_total{source_service="shop",target_service="users",operation="GET"}"#.to_owned(),
            3.0,
        ),
        (
            r#"service_calls_total{source_service="shop",target_service="sqlite",operation="SELECT orders"}"#.to_owned(),
            3.0,
        ),
        (
            r#"service_requests_total{source_service="unknown",target_service="shop",operation="GET /orders/{id}"}"#.to_owned(),
            3.0,
        ),
        (format!("traces_service_graph_request_total{{{edge}}}"), 3.0),
        (format!("traces_service_graph_request_failed_total{{{edge}}}"), 1.0),
        (format!("traces_service_graph_request_server_seconds_count{{{edge}}}"), 3.0),
        (
            r#"traces_service_graph_request_client_seconds_count{client="shop",server="users"}"#.to_owned(),
            3.0,
        ),
        (
            r#"traces_service_graph_request_total{client="shop",server="sqlite",connection_type="database"}"#.to_owned(),
            3.0,
        ),
    ];
    for (series, value) in &expected {
        assert_eq!(samples.get(series.as_str()), Some(value), "{series} in\n{text}");
    }
}

#[test]
fn exemplars_are_on_every_counter_and_histogram_of_a_kept_request() {
    let setup = setup(Sampler::always_on(), Metrics::default());
    dispatcher::with_default(&setup.dispatch, || request("/", 500, || {}));
    setup.pipeline.flush(Deadline::after(Duration::from_secs(10)));
    let kept = setup.sink.trace_ids.lock().unwrap()[0].clone();
    let text = setup.metrics.text(Format::OpenMetrics);
    for name in [
        "trace_span_total",
        "trace_span_duration_seconds_bucket",
        "trace_errors_total",
        "service_requests_total",
        "service_calls_total",
        "http_server_request_duration_seconds_bucket",
        "http_client_request_duration_seconds_bucket",
        "db_client_operation_duration_seconds_bucket",
    ] {
        let with_exemplar =
            |line: &str| line.starts_with(name) && line.contains(&format!("trace_id=\"{kept}\""));
        assert!(text.lines().any(with_exemplar), "{name} in\n{text}");
    }
}

#[test]
fn labels_buckets_and_resource_labels_are_as_they_were_asked_for() {
    use spanweave_metrics::SpanMetric;
    let settings = Metrics::default()
        .labels_for(SpanMetric::HttpServer, ["tenant.id"])
        .label_prefix("app_")
        .label_values("http.response.status_code", |code| {
            format!("{}xx", code.get(..1).unwrap_or_default())
        })
        .buckets_for(SpanMetric::HttpServer, [0.5])
        .operation_buckets("nightly", [60.0, 600.0])
        .resource_labels(["deployment.environment.name"]);
    let setup = setup(Sampler::always_off(), settings);
    let environment = opentelemetry::KeyValue::new("deployment.environment.name", "staging");
    setup.metrics.set_resource(&Resource::builder_empty().with_attribute(environment).build());
    dispatcher::with_default(&setup.dispatch, || {
        for status in [400, 404] {
            info_span!(
                "request",
                otel.kind = "server",
                http.request.method = "GET",
                http.response.status_code = status,
                tenant.id = "acme"
            )
            .in_scope(|| {});
        }
        info_span!("nightly").in_scope(|| {});
    });
    let text = setup.metrics.text(Format::Text);
    let samples = samples(&text);
    let environment = r#"deployment_environment_name="staging""#;
    let series = [
        (
            format!(
                r#"http_server_request_duration_seconds_bucket{{http_request_method="GET",http_response_status_code="4xx",app_tenant_id="acme",{environment},le="0.5"}}"#
            ),
            2.0,
        ),
        (
            format!(
                r#"trace_span_duration_seconds_bucket{{service="shop",operation="nightly",{environment},le="60"}}"#
            ),
            1.0,
        ),
        (
            format!(
                r#"trace_span_duration_seconds_bucket{{service="shop",operation="request",{environment},le="0.001"}}"#
            ),
            2.0,
        ),
        (format!("target_info{{{environment}}}"), 1.0),
    ];
    for (series, value) in &series {
        assert_eq!(samples.get(series.as_str()), Some(value), "{series} in\n{text}");
    }
    assert!(!text.contains("app_tenant_id=\"acme\",status"), "only where it was asked for");
    assert!(!text.contains("spanweave_spans_ended_total{"), "the ledger has no such labels");
}

#[test]
fn an_application_that_measures_http_itself_can_do_so() {
    let setup = setup(Sampler::always_off(), Metrics::default().conventions(false));
    let own = prometheus::IntGauge::new("http_server_active_requests", "Mine.").unwrap();
    setup.metrics.registry().register(Box::new(own)).unwrap();
    dispatcher::with_default(&setup.dispatch, || request("/", 200, || {}));
    let text = setup.metrics.text(Format::Text);
    assert!(text.contains("\nhttp_server_active_requests 0\n"), "{text}");
    assert!(!text.contains("request_duration_seconds"), "{text}");
}
