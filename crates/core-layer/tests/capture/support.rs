//! A sink in memory and a pipeline around it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::{SpanId, Status, TraceId};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use spanweave_core::clock::Deadline;
use spanweave_core::ledger::BackendLedger;
use spanweave_core::{
    BackendReport, Ledger, MaskedBatch, Pipeline, PipelineConfig, SpanSink, start,
};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;

#[derive(Debug)]
pub(crate) struct Memory {
    spans: Mutex<Vec<SpanData>>,
    ledger: Arc<Ledger>,
    account: Arc<BackendLedger>,
}

impl SpanSink for Memory {
    fn accept(&self, batch: Arc<MaskedBatch>) {
        let count = batch.len() as u64;
        self.account.accept(count);
        self.spans.lock().unwrap().extend(batch.spans().iter().map(|span| span.to_span_data()));
        self.account.deliver(count);
    }

    fn flush(&self, _: Deadline) -> Vec<BackendReport> {
        vec![self.ledger.report(&self.account)]
    }

    fn shutdown(&self, deadline: Deadline) -> Vec<BackendReport> {
        self.flush(deadline)
    }
}

pub(crate) struct Fixture {
    pub(crate) pipeline: Pipeline,
    memory: Arc<Memory>,
    subscriber: tracing::Dispatch,
}

pub(crate) fn fixture() -> Fixture {
    fixture_with(|_| {})
}

pub(crate) fn fixture_with(change: impl FnOnce(&mut PipelineConfig)) -> Fixture {
    let mut config = PipelineConfig::new(Resource::builder().with_service_name("test").build());
    let account = config.ledger.open("memory", "memory_span_exporter");
    let memory =
        Arc::new(Memory { spans: Mutex::default(), ledger: config.ledger.clone(), account });
    config.sinks.push(memory.clone());
    change(&mut config);
    let (layer, pipeline) = start(config).unwrap();
    let subscriber = tracing::Dispatch::new(Registry::default().with(layer));
    Fixture { pipeline, memory, subscriber }
}

impl Fixture {
    pub(crate) fn run<R>(&self, program: impl FnOnce() -> R) -> R {
        tracing::dispatcher::with_default(&self.subscriber, program)
    }

    pub(crate) fn dispatch(&self) -> tracing::Dispatch {
        self.subscriber.clone()
    }

    pub(crate) fn finished(&self) -> Vec<SpanData> {
        let report = self.pipeline.flush(Deadline::after(Duration::from_secs(5)));
        assert!(!report.timed_out, "{report:?}");
        for backend in &report.backends {
            assert!(backend.is_balanced(), "{backend:?}");
        }
        self.memory.spans.lock().unwrap().clone()
    }

    pub(crate) fn only(&self, name: &str) -> SpanData {
        let mut found: Vec<_> =
            self.finished().into_iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "spans named {name}");
        found.remove(0)
    }
}

/// The spans of a program, flushed.
pub(crate) fn spans_of(program: impl FnOnce()) -> Vec<SpanData> {
    let fixture = fixture();
    fixture.run(program);
    fixture.finished()
}

pub(crate) fn named<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span {name}"))
}

pub(crate) fn value(attributes: &[KeyValue], key: &str) -> Option<Value> {
    let mut found = attributes.iter().filter(|attribute| attribute.key.as_str() == key);
    let first = found.next().map(|attribute| attribute.value.clone());
    assert!(found.next().is_none(), "{key} is there twice");
    first
}

pub(crate) fn text(attributes: &[KeyValue], key: &str) -> String {
    value(attributes, key).unwrap_or_else(|| panic!("no attribute {key}")).to_string()
}

pub(crate) fn ids(span: &SpanData) -> (TraceId, SpanId) {
    (span.span_context.trace_id(), span.span_context.span_id())
}

pub(crate) fn assert_child(child: &SpanData, parent: &SpanData) {
    assert_eq!(child.parent_span_id, parent.span_context.span_id(), "parent of {}", child.name);
    assert_eq!(child.span_context.trace_id(), parent.span_context.trace_id());
}

pub(crate) fn assert_root(span: &SpanData) {
    assert_eq!(span.parent_span_id, SpanId::INVALID, "{} is no root", span.name);
}

pub(crate) fn error_of(span: &SpanData) -> String {
    match &span.status {
        Status::Error { description } => description.to_string(),
        other => panic!("{} has status {other:?}", span.name),
    }
}
