//! The freezing rule against a small model, over random orders of what may happen to a root.
//!
//! Before any id is given away, a root can get another parent; afterwards nothing about its
//! identity changes, and what was given away is what is exported.

use std::sync::Arc;

use http::HeaderMap;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, ContextGuard};
use opentelemetry_sdk::trace::SpanData;
use proptest::collection::vec;
use proptest::prelude::*;
use spanweave_core::propagation::{extract, inject};
use spanweave_core::{SetParentError, SpanExt};
use tracing::Span;
use tracing::span::EnteredSpan;

use crate::run::{Kind, Run};
use crate::seed::for_all;
use crate::workers::Workers;

#[derive(Clone, Copy, Debug)]
enum Step {
    Enter,
    /// Leaves the last entry.
    Exit,
    /// The root becomes entered on another thread, or is exited there.
    Elsewhere,
    /// The context of another span becomes the current one, or ceases to be.
    Cover,
    /// A child: of the current span, where that is the root, else by name.
    Child,
    ApiChild,
    Inject,
    SetParent(u8),
    SpanContext,
    Context,
    Follow,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Enter),
        2 => Just(Step::Exit),
        1 => Just(Step::Elsewhere),
        1 => Just(Step::Cover),
        1 => Just(Step::Child),
        1 => Just(Step::ApiChild),
        1 => Just(Step::Inject),
        5 => (1..5u8).prop_map(Step::SetParent),
        1 => Just(Step::SpanContext),
        1 => Just(Step::Context),
        1 => Just(Step::Follow),
    ]
}

fn caller(number: u8) -> Context {
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from(u128::from(number)),
        SpanId::from(u64::from(number)),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    ))
}

#[test]
fn ids_that_were_given_away_never_change() {
    let run = Arc::new(Run::new(Kind::Native, true));
    let workers = Workers::new(1);
    let steps = (proptest::option::of(1..5u8), vec(step(), 1..16));
    for_all(
        1000,
        steps,
        |case| format!("{case:?}"),
        |(parent, steps)| {
            let mut model = Model { parent, ..Model::default() };
            run.scope(|| model.play(&run, &workers, &steps))?;
            model.check(&run.finished())
        },
    );
}

/// What is known of the root.
#[derive(Default)]
struct Model {
    frozen: bool,
    /// The caller that was set last.
    parent: Option<u8>,
    /// The ids that were given away.
    given: Vec<(TraceId, SpanId)>,
    children: usize,
}

/// What is held while the steps are played; dropped in this order.
#[derive(Default)]
struct Held {
    /// The context of another span, above so many entries.
    cover: Option<(usize, ContextGuard)>,
    entered: Vec<EnteredSpan>,
    elsewhere: bool,
}

thread_local! {
    static ELSEWHERE: std::cell::RefCell<Option<EnteredSpan>> = const {
        std::cell::RefCell::new(None)
    };
}

impl Model {
    fn play(&mut self, run: &Arc<Run>, workers: &Workers, steps: &[Step]) -> Result<(), String> {
        let root = {
            let _attached = self.parent.map(|parent| caller(parent).attach());
            tracing::info_span!("root")
        };
        let mut held = Held::default();
        for (index, step) in steps.iter().enumerate() {
            self.step(run, workers, &root, &mut held, *step)
                .map_err(|problem| format!("step {index}: {problem}"))?;
        }
        if held.elsewhere {
            workers.run(0, || drop(ELSEWHERE.take()));
        }
        Ok(())
    }

    fn step(
        &mut self,
        run: &Arc<Run>,
        workers: &Workers,
        root: &Span,
        held: &mut Held,
        step: Step,
    ) -> Result<(), String> {
        // The root is what the current context holds.
        let covered =
            held.cover.as_ref().is_some_and(|(entries, _)| held.entered.len() == *entries);
        let is_current = !held.entered.is_empty() && !covered;
        match step {
            Step::Enter => held.entered.push(root.clone().entered()),
            Step::Exit => {
                if held.cover.as_ref().is_some_and(|(entries, _)| held.entered.len() <= *entries) {
                    held.cover = None;
                }
                held.entered.pop();
            }
            Step::Elsewhere => {
                held.elsewhere = !held.elsewhere;
                let (run, enter, root) = (run.clone(), held.elsewhere, root.clone());
                workers.run(0, move || {
                    run.scope(|| {
                        let entered = enter.then(|| root.entered());
                        ELSEWHERE.with_borrow_mut(|elsewhere| *elsewhere = entered);
                    });
                });
            }
            Step::Cover if held.cover.is_none() => {
                held.cover = Some((held.entered.len(), caller(9).attach()));
            }
            Step::Cover => held.cover = None,
            Step::Child => {
                if is_current {
                    drop(tracing::info_span!("child"));
                } else {
                    drop(tracing::info_span!(parent: root, "child"));
                }
                self.frozen = true;
                self.children += 1;
            }
            Step::ApiChild if is_current => {
                run.tracer.in_span("child", |_| {});
                self.frozen = true;
                self.children += 1;
            }
            Step::Inject if is_current => {
                let mut headers = HeaderMap::new();
                inject(&mut headers);
                self.give(extract(&headers).span().span_context());
            }
            Step::ApiChild | Step::Inject => {}
            Step::SetParent(number) => self.set_parent(root, held, is_current, number)?,
            Step::SpanContext => self.give(&SpanExt::span_context(root)),
            Step::Context => self.give(SpanExt::context(root).span().span_context()),
            Step::Follow => {
                let follower = tracing::info_span!(parent: None, "follower");
                follower.follows_from(root);
                self.frozen = true;
            }
        }
        Ok(())
    }

    fn give(&mut self, context: &SpanContext) {
        self.frozen = true;
        self.given.push((context.trace_id(), context.span_id()));
    }

    fn set_parent(
        &mut self,
        root: &Span,
        held: &Held,
        is_current: bool,
        number: u8,
    ) -> Result<(), String> {
        let is_covered = !held.entered.is_empty() && !is_current;
        let is_nested = held.entered.len() > 1;
        let expected = if self.frozen || held.elsewhere || is_covered || is_nested {
            Err(SetParentError::AlreadyUsed)
        } else {
            Ok(())
        };
        let set = SpanExt::set_parent(root, caller(number));
        if set != expected {
            return Err(format!("set_parent gave {set:?}, not {expected:?}"));
        }
        if set.is_ok() {
            self.parent = Some(number);
            let current = Context::current().span().span_context().trace_id();
            if is_current && current != TraceId::from(u128::from(number)) {
                return Err("the current context was not corrected".into());
            }
        }
        Ok(())
    }

    fn check(&self, exported: &[SpanData]) -> Result<(), String> {
        let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        let root = exported.iter().find(|span| span.name == "root").ok_or("no root")?;
        let ids = (root.span_context.trace_id(), root.span_context.span_id());
        for given in &self.given {
            expect(*given == ids, "other ids were exported than given away")?;
        }
        let parent = self.parent.map_or(SpanId::INVALID, |number| SpanId::from(u64::from(number)));
        expect(root.parent_span_id == parent, "the root has another parent")?;
        if let Some(number) = self.parent {
            expect(ids.0 == TraceId::from(u128::from(number)), "the root is in another trace")?;
        }
        let children: Vec<_> = exported.iter().filter(|span| span.name == "child").collect();
        expect(children.len() == self.children, "not all children were exported")?;
        for child in children {
            let is_child = (child.span_context.trace_id(), child.parent_span_id) == ids;
            expect(is_child, "a child has another parent than the root")?;
        }
        Ok(())
    }
}
