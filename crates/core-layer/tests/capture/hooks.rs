//! Hooks, observers and events that are spans.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use spanweave_core::{
    Attributes, CompletedSpan, EndingSpan, EventSpans, EventVerdict, MaskedSpan, Measurement,
    Sampler, SpanEnd, SpanHook, SpanObserver, SpanStart, StartingSpan,
};

use crate::support::{assert_child, fixture_with, named, text};

struct Enricher(Mutex<Vec<String>>);

impl SpanHook for Enricher {
    fn on_start(&self, span: &mut StartingSpan<'_>) {
        span.set_attribute("environment", "staging");
    }

    fn on_ending(&self, span: &mut EndingSpan<'_>) {
        span.set_attribute("long", span.duration() > Duration::from_secs(5));
        if span.name() == "fails" {
            span.set_status(&Status::error("by the hook"));
        }
    }

    fn on_end(&self, span: &MaskedSpan) {
        let secret = span.attributes().get("password").map(|value| value.to_string());
        self.0.lock().unwrap().push(format!("{} {secret:?}", span.name()));
    }
}

#[test]
fn a_hook_adds_attributes_at_both_ends_and_sees_finished_spans_masked() {
    let hook = Arc::new(Enricher(Mutex::default()));
    let fixture = fixture_with(|config| config.hooks.push(hook.clone()));
    fixture.run(|| drop(tracing::info_span!("fails", password = "x").entered()));
    let span = fixture.only("fails");
    assert_eq!(text(&span.attributes, "environment"), "staging");
    assert_eq!(text(&span.attributes, "long"), "false");
    assert_eq!(span.status, Status::error("by the hook"));
    assert_eq!(*hook.0.lock().unwrap(), [r#"fails Some("[masked]")"#]);
}

#[test]
fn a_hook_that_panics_costs_nothing_but_a_count() {
    struct Panics;
    impl SpanHook for Panics {
        fn on_start(&self, _: &mut StartingSpan<'_>) {
            panic!("start");
        }
        fn on_ending(&self, _: &mut EndingSpan<'_>) {
            panic!("ending");
        }
        fn on_end(&self, _: &MaskedSpan) {
            panic!("end");
        }
    }
    let fixture = fixture_with(|config| config.hooks.push(Arc::new(Panics)));
    fixture.run(|| drop(tracing::info_span!("kept").entered()));
    fixture.only("kept");
    assert_eq!(fixture.pipeline.ledger().pipeline().callback_panics, 3);
}

#[derive(Default)]
struct Counter {
    ended: AtomicU64,
    errors: AtomicU64,
    kept: Mutex<Vec<(u64, TraceId, SpanId)>>,
    classes: Mutex<Vec<String>>,
}

impl SpanObserver for Counter {
    fn ended(&self, span: &SpanEnd<'_>) -> Measurement {
        if let Some(class) = span.error_type() {
            self.errors.fetch_add(1, Ordering::Relaxed);
            self.classes.lock().unwrap().push(class.to_owned());
        }
        let series = self.ended.fetch_add(1, Ordering::Relaxed);
        Measurement { series, value: span.duration_nanos() }
    }

    fn kept(&self, measurement: Measurement, trace_id: TraceId, span_id: SpanId) {
        self.kept.lock().unwrap().push((measurement.series, trace_id, span_id));
    }
}

#[test]
fn observers_see_every_span_sampled_or_not_and_learn_what_was_kept() {
    let counter = Arc::new(Counter::default());
    let fixture = fixture_with(|config| {
        config.observers.push(counter.clone());
        config.sampler = Sampler::always_off();
    });
    fixture.run(|| {
        let _root = tracing::info_span!("root").entered();
        let _child = tracing::info_span!("child", http.response.status_code = 500).entered();
        tracing::error!("failed");
    });
    assert!(fixture.finished().is_empty());
    assert_eq!(counter.ended.load(Ordering::Relaxed), 2);
    assert_eq!(*counter.classes.lock().unwrap(), ["500"]);
    assert!(counter.kept.lock().unwrap().is_empty());
    let counts = fixture.pipeline.ledger().pipeline();
    assert_eq!((counts.started, counts.ended, counts.sampled_out), (2, 2, 2));
}

#[test]
fn a_kept_span_comes_back_with_its_measurement() {
    let counter = Arc::new(Counter::default());
    let fixture = fixture_with(|config| config.observers.push(counter.clone()));
    fixture.run(|| drop(tracing::info_span!("kept").entered()));
    let (trace_id, span_id) = crate::support::ids(&fixture.only("kept"));
    assert_eq!(*counter.kept.lock().unwrap(), [(0, trace_id, span_id)]);
}

/// Flags the spans that start with an attribute, and remembers which came back flagged.
#[derive(Default)]
struct Flags {
    started: AtomicU64,
    ended: Mutex<Vec<(String, bool)>>,
}

impl SpanObserver for Flags {
    fn started(&self, span: &SpanStart<'_>) {
        if span.attribute("wanted").is_some() {
            self.started.fetch_add(1, Ordering::Relaxed);
            span.flag();
        }
    }

    fn ended(&self, span: &SpanEnd<'_>) -> Measurement {
        self.ended.lock().unwrap().push((span.name().to_owned(), span.is_flagged()));
        Measurement::default()
    }
}

#[test]
fn a_flag_set_at_the_start_is_there_at_the_end_for_the_observer_that_set_it() {
    let (flags, others) = (Arc::new(Flags::default()), Arc::new(Counter::default()));
    let second = Arc::new(Flags::default());
    let fixture = fixture_with(|config| {
        config.observers = vec![flags.clone(), others.clone(), second.clone()];
        config.observed_attributes = vec!["wanted".to_owned()];
        config.sampler = Sampler::always_off();
    });
    fixture.run(|| {
        tracing::info_span!("flagged", wanted = 1).in_scope(|| {});
        let late = tracing::info_span!("late", wanted = tracing::field::Empty);
        late.record("wanted", 1);
        drop(late);
    });
    let expected = [("flagged".to_owned(), true), ("late".to_owned(), false)];
    assert_eq!(*flags.ended.lock().unwrap(), expected);
    assert_eq!(*second.ended.lock().unwrap(), expected);
    assert_eq!(flags.started.load(Ordering::Relaxed), 1);
    assert_eq!(others.ended.load(Ordering::Relaxed), 2);
}

struct Queries;

impl EventSpans for Queries {
    fn claims(&self, metadata: &'static tracing::Metadata<'static>) -> bool {
        metadata.target() == "db::query"
    }

    fn span_of(&self, event: &Attributes, _thread: Option<&str>) -> EventVerdict {
        EventVerdict::Span(CompletedSpan {
            name: event.get("summary").map(|text| text.to_string()).unwrap_or_default().into(),
            kind: SpanKind::Client,
            duration: Duration::from_millis(5),
            attributes: vec![KeyValue::new("db.system.name", "sqlite")],
            status: Status::Unset,
        })
    }
}

#[test]
fn a_claimed_event_becomes_a_child_span_and_without_a_parent_only_a_count() {
    let fixture = fixture_with(|config| config.event_spans.push(Arc::new(Queries)));
    fixture.run(|| {
        tracing::debug!(target: "db::query", summary = "SELECT nobody");
        let _root = tracing::info_span!("request").entered();
        tracing::debug!(target: "db::query", summary = "SELECT users");
    });
    let spans = fixture.finished();
    assert_eq!(spans.len(), 2);
    let query = named(&spans, "SELECT users");
    assert_child(query, named(&spans, "request"));
    assert_eq!(query.span_kind, SpanKind::Client);
    let duration = query.end_time.duration_since(query.start_time).unwrap();
    assert_eq!(duration, Duration::from_millis(5));
    assert!(named(&spans, "request").events.is_empty());
    assert_eq!(fixture.pipeline.ledger().pipeline().orphan_events, 1);
}
