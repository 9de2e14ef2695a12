//! What it costs to measure a span, and to show what was measured.
//!
//! An update is what a span with a name of its callsite needs: its counter and its histogram of
//! durations. Peers run in turns, so that they share the machine's moods.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder,
};
use rustix::time::{ClockId, clock_gettime};
use spanweave_core::span::observe_sdk_span;
use spanweave_core::{Measurement, PipelineConfig, SpanEnd, SpanObserver, SpanStart};
use spanweave_metrics::{Format, Metrics, SpanMetrics};
use tracing_subscriber::layer::SubscriberExt;

use crate::Failure;
use crate::report::{Figure, Row, Table};

/// Updates of one run on each thread.
const UPDATES: u64 = 1_000_000;

/// 11 bounds are 12 buckets.
const SECONDS: [f64; 11] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0];

/// Series of the page that is scraped.
const SERIES: usize = 2_000;

/// Scrapes of one run.
const SCRAPES: u64 = 20;

/// The bar of an update on two threads, against handles that are resolved.
const UPDATE_BAR: f64 = 0.5;

/// The bar of a scrape, in milliseconds.
const SCRAPE_BAR: f64 = 10.0;

pub(crate) fn compare(rounds: usize) -> Result<Vec<Table>, Failure> {
    let ours = Ours::new()?;
    let stock = Stock::new()?;
    let mut tables = Vec::new();
    for threads in [1, 2] {
        tables.push(updates(rounds, threads, &ours, &stock));
    }
    tables.push(scrapes(rounds)?);
    Ok(tables)
}

/// Every way to measure a span.
const PEERS: [&str; 5] = [
    "spanweave, counter + histogram",
    "prometheus, handles resolved",
    "prometheus, with_label_values",
    "SDK, histogram",
    "SDK, counter + histogram",
];

fn updates(rounds: usize, threads: usize, ours: &Ours, stock: &Stock) -> Table {
    let mut times = [const { Vec::new() }; PEERS.len()];
    for _ in 0..rounds {
        let round = [
            ours.run(threads),
            on_threads(threads, || stock.resolved()),
            on_threads(threads, || stock.with_label_values()),
            on_threads(threads, || stock.sdk(false)),
            on_threads(threads, || stock.sdk(true)),
        ];
        for (times, time) in times.iter_mut().zip(round) {
            times.push(time);
        }
    }
    let figures: Vec<Figure> = times.into_iter().map(Figure::of).collect();
    let compared = figures.get(1).map_or(1.0, |figure| figure.median);
    let rows = PEERS.iter().zip(figures).enumerate().map(|(at, (name, figure))| {
        let ratio = figure.median / compared;
        let has_bar = at == 0 && threads == 2;
        let note = if has_bar { note(UPDATE_BAR, "", ratio <= UPDATE_BAR) } else { String::new() };
        Row { name: (*name).to_owned(), unit: "ns/update", figure, ratio: Some(ratio), note }
    });
    Table { title: format!("an update, {threads} thread(s), CPU time"), rows: rows.collect() }
}

/// Nanoseconds of an update: the mean over the threads that run `work` at the same time.
fn on_threads(threads: usize, work: impl Fn() -> f64 + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let times: Vec<f64> = thread::scope(|scope| {
        let run = || {
            barrier.wait();
            work()
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    times.iter().sum::<f64>() / times.len().max(1) as f64
}

/// Nanoseconds of the thread's CPU time for one of [`UPDATES`] calls: waiting for cache lines
/// counts, waiting for other processes does not.
fn timed(mut update: impl FnMut(u64)) -> f64 {
    let start = cpu_nanos();
    for number in 0..UPDATES {
        update(number);
    }
    (cpu_nanos() - start) as f64 / UPDATES as f64
}

fn cpu_nanos() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Durations over all buckets.
fn seconds(number: u64) -> f64 {
    (number % 1_024) as f64 / 100.0
}

/// Span metrics behind a pipeline, so that the span that is measured is a real one.
struct Ours {
    dispatch: tracing::Dispatch,
    repeat: Arc<Repeat>,
    _pipeline: spanweave_core::Pipeline,
}

/// Measures the same span end over and over.
struct Repeat {
    metrics: Arc<SpanMetrics>,
    times: Mutex<Vec<f64>>,
}

impl SpanObserver for Repeat {
    fn started(&self, span: &SpanStart<'_>) {
        self.metrics.started(span);
    }

    fn ended(&self, span: &SpanEnd<'_>) -> Measurement {
        let mut last = Measurement::default();
        let time = timed(|_| last = std::hint::black_box(self.metrics.ended(span)));
        spanweave_core::sync::lock(&self.times).push(time);
        last
    }
}

impl Ours {
    fn new() -> Result<Self, Failure> {
        let mut config = PipelineConfig::new(Resource::builder_empty().build());
        let metrics = SpanMetrics::new(
            Metrics::default().buckets(SECONDS),
            "shop",
            config.masker.clone(),
            config.ledger.clone(),
        );
        let repeat = Arc::new(Repeat { metrics, times: Mutex::default() });
        config.observers = vec![repeat.clone() as Arc<dyn SpanObserver>];
        let (layer, pipeline) = spanweave_core::start(config)?;
        let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
        Ok(Self { dispatch, repeat, _pipeline: pipeline })
    }

    fn run(&self, threads: usize) -> f64 {
        let barrier = Barrier::new(threads);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    tracing::dispatcher::with_default(&self.dispatch, || {
                        let span = tracing::info_span!("load order");
                        barrier.wait();
                        drop(span);
                    });
                });
            }
        });
        let times = std::mem::take(&mut *spanweave_core::sync::lock(&self.repeat.times));
        times.iter().sum::<f64>() / times.len().max(1) as f64
    }
}

/// The same two metrics made by others.
struct Stock {
    calls: IntCounterVec,
    durations: HistogramVec,
    sdk_calls: opentelemetry::metrics::Counter<u64>,
    sdk_durations: opentelemetry::metrics::Histogram<f64>,
    _provider: SdkMeterProvider,
}

const CALLS: &str = "trace_span_total";
const DURATIONS: &str = "trace_span_duration_seconds";

fn vecs() -> Result<(IntCounterVec, HistogramVec), prometheus::Error> {
    let calls = Opts::new(CALLS, "Spans.");
    let durations = HistogramOpts::new(DURATIONS, "Durations.").buckets(SECONDS.into());
    Ok((
        IntCounterVec::new(calls, &["service", "operation", "status"])?,
        HistogramVec::new(durations, &["service", "operation"])?,
    ))
}

impl Stock {
    fn new() -> Result<Self, Failure> {
        let (calls, durations) = vecs()?;
        let provider = SdkMeterProvider::builder().with_reader(ManualReader::default()).build();
        let meter = provider.meter("bench");
        Ok(Self {
            calls,
            durations,
            sdk_calls: meter.u64_counter(CALLS).build(),
            sdk_durations: meter.f64_histogram(DURATIONS).with_boundaries(SECONDS.into()).build(),
            _provider: provider,
        })
    }

    fn resolved(&self) -> f64 {
        let calls = self.calls.with_label_values(&["shop", "load order", "unset"]);
        let durations = self.durations.with_label_values(&["shop", "load order"]);
        timed(|number| {
            calls.inc();
            durations.observe(seconds(number));
        })
    }

    fn with_label_values(&self) -> f64 {
        timed(|number| {
            self.calls.with_label_values(&["shop", "load order", "unset"]).inc();
            self.durations.with_label_values(&["shop", "load order"]).observe(seconds(number));
        })
    }

    fn sdk(&self, with_counter: bool) -> f64 {
        let labels = [KeyValue::new("service", "shop"), KeyValue::new("operation", "load order")];
        timed(|number| {
            if with_counter {
                self.sdk_calls.add(1, &labels);
            }
            self.sdk_durations.record(seconds(number), &labels);
        })
    }
}

fn scrapes(rounds: usize) -> Result<Table, Failure> {
    let ours = SpanMetrics::new(
        Metrics::default().buckets(SECONDS).series_limit(SERIES),
        "shop",
        Arc::default(),
        Arc::default(),
    );
    let registry = Registry::new();
    let (calls, durations) = vecs()?;
    registry.register(Box::new(calls.clone()))?;
    registry.register(Box::new(durations.clone()))?;
    for number in 0..SERIES {
        let operation = format!("GET /operations/{number}");
        calls.with_label_values(&["shop", &operation, "unset"]).inc();
        durations.with_label_values(&["shop", &operation]).observe(seconds(number as u64));
        observe_sdk_span(span_data(operation), |span| ours.ended(span));
    }
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..rounds {
        let stock = scrape(|| {
            let mut page = Vec::new();
            TextEncoder::new().encode(&registry.gather(), &mut page)?;
            Ok(page.len())
        })?;
        let round = [
            scrape(|| Ok(ours.text(Format::Text).len()))?,
            scrape(|| Ok(ours.text(Format::OpenMetrics).len()))?,
            stock,
            while_scraped(&ours),
        ];
        for (times, time) in times.iter_mut().zip(round) {
            times.push(time);
        }
    }
    let names = [
        "spanweave, text",
        "spanweave, OpenMetrics",
        "prometheus, gather and encode",
        "spanweave, update under scrapes",
    ];
    let figures = times.map(Figure::of);
    let compared = figures[2].median;
    let rows = names.iter().zip(figures).enumerate().map(|(at, (name, figure))| Row {
        name: (*name).to_owned(),
        unit: if at < 3 { "ms" } else { "ns/update" },
        figure,
        ratio: (at < 3).then(|| figure.median / compared),
        note: match at {
            0 | 1 => note(SCRAPE_BAR, " ms", figure.median < SCRAPE_BAR),
            _ => String::new(),
        },
    });
    Ok(Table {
        title: format!("a scrape of {SERIES} series x {} buckets", SECONDS.len() + 1),
        rows: rows.collect(),
    })
}

fn note(bar: f64, unit: &str, is_met: bool) -> String {
    format!("bar: {bar}{unit}, {}", if is_met { "met" } else { "missed" })
}

/// Milliseconds of a scrape, the mean of some.
fn scrape(mut page: impl FnMut() -> Result<usize, Failure>) -> Result<f64, Failure> {
    let clock = quanta::Clock::new();
    let start = clock.raw();
    for _ in 0..SCRAPES {
        std::hint::black_box(page()?);
    }
    Ok(clock.delta_as_nanos(start, clock.raw()) as f64 / 1e6 / SCRAPES as f64)
}

/// Nanoseconds of an update while another thread scrapes without a pause. By name, as spans of the
/// SDK are: that they are not stopped is what is shown.
fn while_scraped(metrics: &Arc<SpanMetrics>) -> f64 {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::hint::black_box(metrics.text(Format::OpenMetrics));
            }
        });
        let time = observe_sdk_span(span_data("GET /operations/1".to_owned()), |span| {
            timed(|_| {
                std::hint::black_box(metrics.ended(span));
            })
        });
        done.store(true, Ordering::Relaxed);
        time
    })
}

fn span_data(name: String) -> SpanData {
    let end = spanweave_core::clock::system_time();
    SpanData {
        span_context: SpanContext::new(
            TraceId::from(1),
            SpanId::from(1),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: end - std::time::Duration::from_millis(7),
        end_time: end,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: opentelemetry::InstrumentationScope::default(),
    }
}
