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
                            let root =
                                info_span!("request", otel.name = name, otel.kind = "server");
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
