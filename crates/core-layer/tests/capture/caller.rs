//! What a caller sends besides its ids: baggage, the debug flag, a bare decision.

use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Tracer, TracerProvider};
use spanweave_core::propagation::{Propagator, Propagators};
use spanweave_core::{Sampler, SpanExt};
use std::collections::HashMap;

use crate::support::{fixture, fixture_with, text, value};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn all() -> Propagators {
    Propagators::new(
        ["tracecontext", "baggage", "b3"].into_iter().filter_map(Propagator::from_name),
    )
}

fn caller(headers: &[(&str, &str)]) -> Context {
    let map: HashMap<_, _> =
        headers.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    all().extract(&map)
}

fn baggage(key: &str) -> Option<String> {
    Context::map_current(|cx| cx.baggage().get(key).map(ToString::to_string))
}

#[test]
fn a_parents_baggage_is_current_in_the_span_and_its_children_on_every_thread() {
    let fixture = fixture();
    fixture.run(|| {
        let root = tracing::info_span!("root");
        root.set_parent(caller(&[("traceparent", PARENT), ("baggage", "k=v")])).unwrap();
        let child = root.in_scope(|| {
            assert_eq!(baggage("k").as_deref(), Some("v"));
            tracing::info_span!("child")
        });
        assert_eq!(baggage("k"), None);
        let dispatch = fixture.dispatch();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tracing::dispatcher::with_default(&dispatch, || {
                    let _entered = child.enter();
                    assert_eq!(baggage("k").as_deref(), Some("v"));
                    // What the application sets inside is not undone by a deeper span.
                    let own =
                        Context::current_with_baggage([opentelemetry::KeyValue::new("k", "w")]);
                    let _attached = own.attach();
                    tracing::info_span!("deeper").in_scope(|| {
                        assert_eq!(baggage("k").as_deref(), Some("w"));
                    });
                });
            });
        });
        assert_eq!(
            root.context().baggage().get("k").map(ToString::to_string).as_deref(),
            Some("v")
        );
    });
}

#[test]
fn baggage_goes_on_without_activated_contexts_too() {
    let fixture = fixture_with(|config| config.context_activation = false);
    fixture.run(|| {
        let root = tracing::info_span!("root");
        root.set_parent(caller(&[("traceparent", PARENT), ("baggage", "k=v")])).unwrap();
        let mut headers = http::HeaderMap::new();
        root.in_scope(|| spanweave_core::propagation::inject(&mut headers));
        assert_eq!(headers["baggage"], "k=v");
    });
}

#[test]
fn the_debug_flag_of_b3_goes_on() {
    let fixture = fixture();
    fixture.run(|| {
        let root = tracing::info_span!("root");
        let b3 = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-d";
        root.set_parent(caller(&[("b3", b3)])).unwrap();
        let mut out = HashMap::new();
        root.in_scope(|| Propagator::b3().inject_context(&Context::current(), &mut out));
        assert!(out["b3"].ends_with("-d"), "{out:?}");
    });
}

#[test]
fn a_caller_that_asks_not_to_sample_is_followed_like_a_parent() {
    let sampled = |sampler: Sampler, b3: &str, how: usize| {
        let fixture = fixture_with(|config| config.sampler = sampler);
        let tracer = fixture.pipeline.tracer_provider().tracer("library");
        fixture.run(|| {
            let cx = caller(&[("b3", b3)]);
            match how {
                0 => {
                    let root = tracing::info_span!("root");
                    root.set_parent(cx).unwrap();
                    root.in_scope(|| drop(tracing::info_span!("child")));
                }
                1 => {
                    let _attached = cx.attach();
                    tracing::info_span!("root").in_scope(|| drop(tracing::info_span!("child")));
                }
                _ => drop(tracer.start_with_context("root", &cx)),
            }
        });
        !fixture.finished().is_empty()
    };
    for how in 0..3 {
        assert!(!sampled(Sampler::always_on().parent_based(), "0", how), "{how}");
        assert!(sampled(Sampler::always_off().parent_based(), "1", how), "{how}");
        assert!(
            sampled(Sampler::always_on(), "0", how),
            "a sampler that is not parent-based, {how}"
        );
    }
}

#[test]
fn chosen_baggage_becomes_masked_attributes_of_local_roots() {
    let fixture = fixture_with(|config| {
        config.baggage_attributes = vec!["tenant".to_owned(), "api_key".to_owned()];
    });
    let headers = [("traceparent", PARENT), ("baggage", "tenant=a%20b,api_key=hunter2,other=1")];
    let tracer = fixture.pipeline.tracer_provider().tracer("library");
    fixture.run(|| {
        let root = tracing::info_span!("by parent");
        root.set_parent(caller(&headers)).unwrap();
        root.in_scope(|| drop(tracing::info_span!("child")));
        let _attached = caller(&headers).attach();
        drop(tracing::info_span!("by context"));
        drop(tracer.start_with_context("by the API", &caller(&headers)));
        drop(tracing::info_span!(parent: None, "new trace"));
    });
    for name in ["by parent", "by context", "by the API"] {
        let span = fixture.only(name);
        assert_eq!(text(&span.attributes, "tenant"), "a b", "{name}");
        assert_eq!(text(&span.attributes, "api_key"), "[masked]", "{name}");
        assert_eq!(value(&span.attributes, "other"), None);
    }
    assert_eq!(value(&fixture.only("child").attributes, "tenant"), None);
}

#[test]
fn a_custom_propagators_values_reach_its_injection() {
    #[derive(Debug)]
    struct Tenant;
    #[derive(Debug)]
    struct Value(String);
    impl TextMapPropagator for Tenant {
        fn inject_context(
            &self,
            cx: &Context,
            injector: &mut dyn opentelemetry::propagation::Injector,
        ) {
            if let Some(Value(tenant)) = cx.get() {
                injector.set("tenant", tenant.clone());
            }
        }
        fn extract_with_context(
            &self,
            cx: &Context,
            extractor: &dyn opentelemetry::propagation::Extractor,
        ) -> Context {
            match extractor.get("tenant") {
                Some(tenant) => cx.with_value(Value(tenant.to_owned())),
                None => cx.clone(),
            }
        }
        fn fields(&self) -> opentelemetry::propagation::text_map_propagator::FieldIter<'_> {
            opentelemetry::propagation::text_map_propagator::FieldIter::new(&[])
        }
    }
    let own = Propagators::new([Propagator::trace_context(), Propagator::custom(Tenant)]);
    let fixture = fixture();
    fixture.run(|| {
        let headers: HashMap<_, _> =
            [("traceparent".to_owned(), PARENT.to_owned()), ("tenant".to_owned(), "a".to_owned())]
                .into();
        let root = tracing::info_span!("root");
        root.set_parent(own.extract(&headers)).unwrap();
        let mut out = HashMap::new();
        root.in_scope(|| own.inject_context(&Context::current(), &mut out));
        assert_eq!(out["tenant"], "a");
        assert_ne!(out["traceparent"], PARENT);
    });
}
