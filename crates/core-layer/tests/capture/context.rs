//! The OpenTelemetry context shared both ways, and the freezing of local roots.

use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use spanweave_core::propagation::{extract, inject};
use spanweave_core::{SetParentError, SpanExt};

use crate::support::{assert_child, assert_root, fixture, fixture_with, ids, named, text};

fn remote() -> Context {
    let context = SpanContext::new(
        TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
        SpanId::from(0xb7ad_6b71_6920_3331),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    );
    Context::new().with_remote_span_context(context)
}

#[test]
fn a_span_of_the_api_is_the_child_of_the_current_span_and_parent_of_the_next() {
    let fixture = fixture();
    let tracer = fixture.pipeline.tracer_provider().tracer("library");
    fixture.run(|| {
        let _outer = tracing::info_span!("outer").entered();
        tracer.in_span("api", |_cx| {
            drop(tracing::info_span!("inner"));
        });
    });
    let spans = fixture.finished();
    assert_root(named(&spans, "outer"));
    assert_child(named(&spans, "api"), named(&spans, "outer"));
    assert_child(named(&spans, "inner"), named(&spans, "api"));
    assert_eq!(named(&spans, "api").instrumentation_scope.name(), "library");
}

#[test]
fn calls_through_the_current_context_reach_the_span() {
    let fixture = fixture();
    let kept = fixture.run(|| {
        let span = tracing::info_span!("outer");
        let _entered = span.enter();
        let cx = Context::current();
        cx.span().set_attribute(KeyValue::new("from.api", 1));
        cx.span().add_event("noted", vec![KeyValue::new("a", "b")]);
        cx.span().set_status(Status::error("by the api"));
        assert!(cx.span().is_recording());
        cx
    });
    // Harmless once the span is closed, even though other spans use its place.
    fixture.run(|| drop(tracing::info_span!("other")));
    kept.span().set_attribute(KeyValue::new("too.late", 1));
    assert!(!kept.span().is_recording());
    let span = fixture.only("outer");
    assert_eq!(text(&span.attributes, "from.api"), "1");
    assert_eq!(span.events[0].name, "noted");
    assert_eq!(span.status, Status::error("by the api"));
    assert!(span.attributes.iter().all(|attribute| attribute.key.as_str() != "too.late"));
}

#[test]
fn an_attached_remote_context_is_the_parent() {
    let fixture = fixture();
    fixture.run(|| {
        let _attached = remote().attach();
        drop(tracing::info_span!("server").entered());
    });
    let span = fixture.only("server");
    assert_eq!(span.span_context.trace_id(), remote().span().span_context().trace_id());
    assert_eq!(span.parent_span_id, remote().span().span_context().span_id());
    assert!(span.parent_span_is_remote);
}

#[test]
fn a_parent_can_be_set_until_the_first_child() {
    let fixture = fixture();
    fixture.run(|| {
        let span = tracing::info_span!("server");
        assert_eq!(span.set_parent(remote()), Ok(()));
        span.in_scope(|| drop(tracing::info_span!("child")));
        assert_eq!(span.set_parent(remote()), Err(SetParentError::AlreadyUsed));
    });
    let spans = fixture.finished();
    let trace = remote().span().span_context().trace_id();
    assert!(spans.iter().all(|span| span.span_context.trace_id() == trace));
    assert_child(named(&spans, "child"), named(&spans, "server"));
}

#[test]
fn a_parent_can_be_set_while_the_root_is_entered_and_corrects_the_current_context() {
    let fixture = fixture();
    fixture.run(|| {
        let span = tracing::info_span!("server");
        let entered = span.enter();
        assert_eq!(span.set_parent(remote()), Ok(()));
        let current = Context::current().span().span_context().clone();
        assert_eq!(current.trace_id(), remote().span().span_context().trace_id());
        drop(tracing::info_span!("child"));
        drop(entered);
        assert!(!Context::current().has_active_span());
    });
    let spans = fixture.finished();
    assert_child(named(&spans, "child"), named(&spans, "server"));
}

#[test]
fn a_parent_cannot_be_set_once_ids_were_given_away() {
    let fixture = fixture();
    fixture.run(|| {
        for (name, give_away) in [
            ("context", (|span| drop(span.context())) as fn(&tracing::Span)),
            ("span_context", |span| drop(span.span_context())),
            ("inject", |span| span.in_scope(|| inject(&mut http::HeaderMap::new()))),
            ("child", |span| span.in_scope(|| drop(tracing::info_span!("child")))),
        ] {
            let span = tracing::info_span!("root");
            give_away(&span);
            assert_eq!(span.set_parent(remote()), Err(SetParentError::AlreadyUsed), "{name}");
        }
        let entered_elsewhere = tracing::info_span!("elsewhere");
        let (entered, wait) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        let (entered, wait) = (&entered, &wait);
        std::thread::scope(|scope| {
            let span = entered_elsewhere.clone();
            scope.spawn(move || {
                let _entered = span.enter();
                entered.wait();
                wait.wait();
            });
            entered.wait();
            let set = entered_elsewhere.set_parent(remote());
            wait.wait();
            assert_eq!(set, Err(SetParentError::AlreadyUsed));
        });
        assert_eq!(tracing::Span::none().set_parent(remote()), Err(SetParentError::Disabled));
        let root = tracing::info_span!("root");
        assert_eq!(root.set_parent(Context::new()), Err(SetParentError::NoSpan));
    });
}

#[test]
fn what_is_injected_is_what_is_exported() {
    for activation in [true, false] {
        let fixture = fixture_with(|config| config.context_activation = activation);
        let mut headers = http::HeaderMap::new();
        fixture.run(|| {
            let span = tracing::info_span!("client");
            span.in_scope(|| inject(&mut headers));
        });
        let sent = extract(&headers);
        let span = fixture.only("client");
        let sent = sent.span().span_context().clone();
        assert_eq!((sent.trace_id(), sent.span_id()), ids(&span), "activation {activation}");
        assert!(sent.is_sampled() && sent.is_remote());
    }
}

#[test]
fn ids_of_a_new_trace_are_marked_as_random() {
    let fixture = fixture();
    fixture.run(|| drop(tracing::info_span!("root")));
    assert_eq!(fixture.only("root").span_context.trace_flags().to_u8(), 0x03);
}

#[test]
fn nothing_makes_spans_where_telemetry_is_suppressed() {
    let fixture = fixture();
    fixture.run(|| {
        let _suppressed = Context::enter_telemetry_suppressed_scope();
        drop(tracing::info_span!("exporters own").entered());
    });
    assert!(fixture.finished().is_empty());
}

#[test]
fn the_current_ids_are_those_of_the_innermost_span() {
    let fixture = fixture();
    let seen = fixture.run(|| {
        let _outer = tracing::info_span!("outer").entered();
        let _inner = tracing::info_span!("inner").entered();
        spanweave_core::current_ids()
    });
    assert_eq!(seen, Some(ids(&fixture.only("inner"))));
}

#[test]
fn injection_through_the_plain_api_makes_the_ids_final_too() {
    use opentelemetry::propagation::TextMapPropagator;
    use spanweave_core::Sampler;
    use spanweave_core::propagation::Propagators;

    let fixture = fixture_with(|config| config.sampler = Sampler::always_off());
    let mut carrier = std::collections::HashMap::new();
    fixture.run(|| {
        let span = tracing::info_span!("client");
        let _entered = span.enter();
        Propagators::default().inject_context(&Context::current(), &mut carrier);
        assert_eq!(span.set_parent(remote()), Err(SetParentError::AlreadyUsed));
    });
    assert!(carrier["traceparent"].ends_with("-02"), "{carrier:?}");
}

#[test]
fn a_child_made_by_the_api_on_another_thread_freezes_the_root() {
    let fixture = fixture();
    let tracer = fixture.pipeline.tracer_provider().tracer("library");
    fixture.run(|| {
        let span = tracing::info_span!("root");
        let _entered = span.enter();
        let cx = Context::current();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(tracer.start_with_context("far", &cx)));
        });
        assert_eq!(span.set_parent(remote()), Err(SetParentError::AlreadyUsed));
    });
    let spans = fixture.finished();
    assert_child(named(&spans, "far"), named(&spans, "root"));
}

#[test]
fn a_dropped_trace_is_handed_on_where_one_of_its_spans_is_entered_alone() {
    use spanweave_core::Sampler;

    let fixture = fixture_with(|config| config.sampler = Sampler::always_off());
    fixture.run(|| {
        let root = tracing::info_span!("root");
        let child = tracing::info_span!(parent: &root, "child");
        let entered = child.enter();
        let current = Context::current().span().span_context().clone();
        assert_eq!(current.trace_id(), root.span_context().trace_id());
        assert_eq!(current.span_id(), child.span_context().span_id());
        assert!(!current.is_sampled());
        drop(entered);
        assert!(!Context::current().has_active_span());
    });
}

#[test]
fn the_last_parent_that_is_set_counts_alone() {
    let fixture = fixture();
    fixture.run(|| {
        let parent = tracing::info_span!("parent");
        let span = tracing::info_span!("span");
        assert_eq!(span.set_parent(remote()), Ok(()));
        assert_eq!(span.set_parent(parent.context()), Ok(()));
    });
    let spans = fixture.finished();
    assert_child(named(&spans, "span"), named(&spans, "parent"));
    assert!(!named(&spans, "span").parent_span_is_remote);
}
