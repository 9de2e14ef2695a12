//! A pipeline that keeps its spans, for tests.
#![allow(dead_code, unreachable_pub)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::Value;
use opentelemetry::trace::{SpanId, SpanKind, TraceId};
use opentelemetry_sdk::Resource;
use spanweave_core::clock::Deadline;
use spanweave_core::sync::lock;
use spanweave_core::{
    BackendReport, Layer, MaskedBatch, Pipeline, PipelineConfig, SpanSink, StatusCode, start,
};
use tracing_subscriber::layer::SubscriberExt;

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Seen {
    pub name: String,
    pub kind: SpanKind,
    pub status: StatusCode,
    pub status_message: String,
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent: Option<SpanId>,
    pub start: u64,
    pub duration: Duration,
    pub links: Vec<(TraceId, SpanId)>,
    attributes: Vec<(String, Value)>,
}

impl Seen {
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Asserts the value and its type; `None` asserts that there is no such attribute.
    #[track_caller]
    pub fn has(&self, key: &str, expected: impl Into<Option<Value>>) -> &Self {
        assert_eq!(self.get(key), expected.into().as_ref(), "{key} of {self:?}");
        self
    }
}

/// Text as a value.
pub fn text(text: &str) -> Value {
    Value::from(text.to_owned())
}

/// An integer as a value.
pub fn int(value: i64) -> Value {
    Value::I64(value)
}

#[derive(Debug, Default)]
struct Store(Mutex<Vec<Seen>>);

impl SpanSink for Store {
    fn accept(&self, batch: Arc<MaskedBatch>) {
        lock(&self.0).extend(batch.spans().iter().map(|span| {
            Seen {
                name: span.name().to_owned(),
                kind: span.kind().clone(),
                status: span.status(),
                status_message: span.status_message().to_owned(),
                trace_id: span.trace_id(),
                span_id: span.span_id(),
                parent: span.parent_span_id(),
                start: span.start_unix_nano(),
                duration: Duration::from_nanos(span.duration_nanos()),
                links: span
                    .links()
                    .iter()
                    .map(|link| (link.context.trace_id(), link.context.span_id()))
                    .collect(),
                attributes: span
                    .attributes()
                    .iter()
                    .map(|(key, value)| (key.to_owned(), value.to_value()))
                    .collect(),
            }
        }));
    }

    fn flush(&self, _: Deadline) -> Vec<BackendReport> {
        Vec::new()
    }

    fn shutdown(&self, _: Deadline) -> Vec<BackendReport> {
        Vec::new()
    }
}

/// The spans of a test.
pub struct Spans {
    store: Arc<Store>,
    pipeline: Pipeline,
}

impl Spans {
    pub fn start(change: impl FnOnce(&mut PipelineConfig)) -> (Layer, Self) {
        let store = Arc::new(Store::default());
        let mut config = PipelineConfig::new(Resource::builder_empty().build());
        config.sinks.push(store.clone());
        change(&mut config);
        let (layer, pipeline) = start(config).expect("the worker starts");
        (layer, Self { store, pipeline })
    }

    /// For the current thread, which with tokio's current-thread runtime is all of the test.
    pub fn on_this_thread() -> (Self, tracing::subscriber::DefaultGuard) {
        // Below are what h2 and hyper say of themselves.
        let (layer, spans) = Self::start(|config| {
            config.enabled = Some(Arc::new(|metadata| *metadata.level() <= tracing::Level::INFO));
        });
        let subscriber = tracing_subscriber::registry().with(layer);
        (spans, tracing::subscriber::set_default(subscriber))
    }

    /// What there is, by the time of its start.
    pub fn now(&self) -> Vec<Seen> {
        self.pipeline.flush(Deadline::after(Duration::from_secs(5)));
        let mut seen = lock(&self.store.0).clone();
        seen.sort_by_key(|span| span.start);
        seen
    }

    /// Waits until there are `count` spans; fails if there are more or it takes too long.
    pub async fn wait(&self, count: usize) -> Vec<Seen> {
        let deadline = Deadline::after(Duration::from_secs(5));
        loop {
            let seen = self.now();
            if seen.len() >= count || deadline.has_passed() {
                let names: Vec<_> = seen.iter().map(|span| &span.name).collect();
                assert_eq!(seen.len(), count, "{names:?}");
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn one(&self) -> Seen {
        self.wait(1).await.remove(0)
    }
}
