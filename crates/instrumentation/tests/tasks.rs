//! Work that is spawned.
#![cfg(feature = "tokio")]

mod common;

use std::sync::Arc;

use common::{Seen, Spans};
use opentelemetry::baggage::BaggageExt;
use opentelemetry::{Context, KeyValue};
use spanweave_instrumentation::tasks::{self, DetachedSpans, JoinSetExt};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

fn find<'a>(seen: &'a [Seen], name: &str) -> &'a Seen {
    seen.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span {name}"))
}

fn step(name: &str) {
    tracing::info_span!("step", otel.name = name).in_scope(|| ());
}

#[tokio::test]
async fn spawned_work_keeps_its_parent_and_its_baggage() {
    let (spans, _guard) = Spans::on_this_thread();
    let baggage = Context::current_with_baggage([KeyValue::new("tenant", "a")]);
    let tenants = {
        let _attached = baggage.attach();
        let _request = tracing::info_span!("request").entered();
        let tenant =
            || Context::map_current(|cx| cx.baggage().get("tenant").map(ToString::to_string));
        let mut set = tokio::task::JoinSet::new();
        set.spawn_carried(async move {
            step("in a set");
            tokio::task::yield_now().await;
            step("after a pause");
            tenant()
        });
        let task = tasks::spawn(async move {
            step("spawned");
            tenant()
        });
        (set, task)
    };
    let (mut set, task) = tenants;
    assert_eq!(set.join_next().await.unwrap().unwrap().as_deref(), Some("a"));
    assert_eq!(task.await.unwrap().as_deref(), Some("a"));
    let seen = spans.wait(4).await;
    let request = find(&seen, "request").span_id;
    for name in ["in a set", "after a pause", "spawned"] {
        assert_eq!(find(&seen, name).parent, Some(request), "{name}");
    }
}

#[tokio::test]
async fn blocking_work_keeps_its_parent() {
    let (layer, spans) = Spans::start(|_| {});
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    let _guard = tracing::dispatcher::set_default(&dispatch);
    let on_its_thread = dispatch.clone();
    let mut set = tokio::task::JoinSet::new();
    let task = {
        let _request = tracing::info_span!("request").entered();
        let other = dispatch.clone();
        set.spawn_blocking_carried(move || {
            tracing::dispatcher::with_default(&other, || step("in a set"));
        });
        tasks::spawn_blocking(move || {
            tracing::dispatcher::with_default(&on_its_thread, || step("blocking"));
        })
    };
    task.await.unwrap();
    set.join_next().await.unwrap().unwrap();
    let seen = spans.wait(3).await;
    let request = find(&seen, "request").span_id;
    assert_eq!(find(&seen, "blocking").parent, Some(request));
    assert_eq!(find(&seen, "in a set").parent, Some(request));
}

#[tokio::test]
async fn work_that_lost_its_parent_is_counted_with_its_place() {
    let detached = Arc::new(DetachedSpans::default());
    let (layer, spans) = Spans::start(|config| config.observers.push(detached.clone()));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

    async {
        for _ in 0..2 {
            tokio::spawn(async { tracing::info_span!("lost").in_scope(|| ()) }).await.unwrap();
        }
        let kept = async { tracing::info_span!("kept").in_scope(|| ()) };
        tasks::spawn(kept).await.unwrap();
        tokio::spawn(async {
            tracing::info_span!(parent: None, "on purpose").in_scope(|| ());
            tracing::info_span!("served", otel.kind = "server").in_scope(|| ());
        })
        .await
        .unwrap();
    }
    .instrument(tracing::info_span!("request"))
    .await;
    tracing::info_span!("main").in_scope(|| ());

    spans.wait(7).await;
    let counts = detached.counts();
    assert_eq!(counts.len(), 1, "{counts:?}");
    assert_eq!((counts[0].name, counts[0].count), ("lost", 2));
    assert!(counts[0].file.unwrap().ends_with("tests/tasks.rs") && counts[0].line.is_some());
}
