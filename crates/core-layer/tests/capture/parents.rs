//! The right parent, whatever the program does.

use std::time::Duration;

use tracing::Instrument;

use crate::support::{assert_child, assert_root, fixture, named, spans_of};

#[test]
fn a_span_inside_another_is_its_child() {
    let spans = spans_of(|| {
        let _create = tracing::info_span!("CreateUser").entered();
        let _validate = tracing::info_span!("ValidateUser").entered();
        let _insert = tracing::info_span!("InsertUser").entered();
    });
    assert_root(named(&spans, "CreateUser"));
    assert_child(named(&spans, "ValidateUser"), named(&spans, "CreateUser"));
    assert_child(named(&spans, "InsertUser"), named(&spans, "ValidateUser"));
}

#[test]
fn an_explicit_parent_wins_and_none_starts_a_trace() {
    let spans = spans_of(|| {
        let chosen = tracing::info_span!(parent: None, "chosen");
        let _around = tracing::info_span!("around").entered();
        drop(tracing::info_span!(parent: &chosen, "child"));
        drop(tracing::info_span!(parent: None, "apart"));
    });
    assert_child(named(&spans, "child"), named(&spans, "chosen"));
    assert_root(named(&spans, "apart"));
    let around = named(&spans, "around").span_context.trace_id();
    assert_ne!(named(&spans, "apart").span_context.trace_id(), around);
}

#[test]
fn interleaved_tasks_keep_their_own_parents() {
    let fixture = fixture();
    fixture.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let task = |name: &'static str| {
                let span = tracing::info_span!("task", otel.name = name);
                async move {
                    for _ in 0..5 {
                        let step = tracing::info_span!("step", of = name);
                        tokio::time::sleep(Duration::from_millis(1)).instrument(step).await;
                    }
                }
                .instrument(span)
            };
            tokio::join!(task("a"), task("b"), task("c"));
        });
    });
    let spans = fixture.finished();
    for name in ["a", "b", "c"] {
        let parent = named(&spans, name);
        let steps = spans.iter().filter(|span| {
            span.name == "step" && crate::support::text(&span.attributes, "of") == name
        });
        assert_eq!(steps.inspect(|step| assert_child(step, parent)).count(), 5);
    }
}

#[test]
fn a_span_that_is_entered_on_another_thread_is_the_parent_there() {
    let fixture = fixture();
    fixture.run(|| {
        let span = tracing::info_span!("moved");
        let dispatch = fixture.dispatch();
        std::thread::spawn(move || {
            tracing::dispatcher::with_default(&dispatch, || {
                let _entered = span.enter();
                drop(tracing::info_span!("there"));
            });
        })
        .join()
        .unwrap();
    });
    let spans = fixture.finished();
    assert_child(named(&spans, "there"), named(&spans, "moved"));
}

#[test]
fn spans_may_be_left_in_any_order() {
    let spans = spans_of(|| {
        let (first, second) = (tracing::info_span!("first"), tracing::info_span!("second"));
        let first_entered = first.clone().entered();
        let second_entered = second.clone().entered();
        drop(first_entered);
        drop(tracing::info_span!("inside second"));
        drop(second_entered);
        drop(tracing::info_span!("outside"));
        // Entered twice, with another one between.
        let _one = first.enter();
        let _two = second.enter();
        let again = first.enter();
        drop(tracing::info_span!("inside first again"));
        drop(again);
        drop(tracing::info_span!("inside second again"));
    });
    assert_child(named(&spans, "inside second"), named(&spans, "second"));
    assert_root(named(&spans, "outside"));
    assert_child(named(&spans, "inside first again"), named(&spans, "first"));
    assert_child(named(&spans, "inside second again"), named(&spans, "second"));
}

#[test]
fn without_context_activation_parents_are_the_registrys() {
    let fixture = crate::support::fixture_with(|config| config.context_activation = false);
    fixture.run(|| {
        let _outer = tracing::info_span!("outer").entered();
        let _inner = tracing::info_span!("inner").entered();
        drop(tracing::info_span!("leaf"));
    });
    let spans = fixture.finished();
    assert_child(named(&spans, "inner"), named(&spans, "outer"));
    assert_child(named(&spans, "leaf"), named(&spans, "inner"));
}

#[test]
fn a_thousand_open_spans_in_a_row_are_a_chain() {
    let spans = spans_of(|| {
        let mut open = Vec::new();
        for depth in 0..1000 {
            open.push(tracing::info_span!("deep", depth).entered());
        }
        while let Some(last) = open.pop() {
            drop(last);
        }
    });
    assert_eq!(spans.len(), 1000);
    for pair in spans.windows(2) {
        assert_child(&pair[0], &pair[1]);
    }
}
