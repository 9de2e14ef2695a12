//! Runs a program over one way from `tracing` to exported spans.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context as TaskContext, Poll, Waker};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, ContextGuard, KeyValue};
use tracing::instrument::Instrumented;
use tracing::span::EnteredSpan;
use tracing::{Id, Instrument, Span};

use crate::emit::{Parent, emit, open};
use crate::facts::{By, Facts};
use crate::program::{Call, Choice, Datum, EventFields, Fields, Hang, Level, Op, Pick, Program};
use crate::run::Run;
use crate::workers::Workers;

/// What all threads of a program share.
struct Machine {
    run: Arc<Run>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    facts: Facts,
    /// Handles of spans of `tracing`, with the span's number.
    handles: Vec<(i64, Span)>,
    /// The subscriber's ids of all spans there ever were.
    former: Vec<(i64, Id)>,
    /// Contexts that were kept.
    contexts: Vec<Context>,
    /// Contexts of open spans of the API.
    apis: Vec<Context>,
    tasks: Vec<(i64, Task)>,
    /// The numbers of spans by their OpenTelemetry ids.
    numbers: HashMap<SpanId, i64>,
    spans: i64,
    events: i64,
}

/// What a program holds on one thread.
#[derive(Default)]
struct Held {
    /// What is entered, guarded or polled, innermost last.
    entered: Vec<Entered>,
    guards: Vec<(i64, EnteredSpan)>,
    attached: Vec<ContextGuard>,
}

struct Entered {
    number: i64,
    /// It was entered already.
    again: bool,
}

thread_local! {
    static HELD: RefCell<Held> = RefCell::default();
}

type Task = Pin<Box<Instrumented<Steps>>>;

/// A future that runs what is put into it at each poll.
struct Steps {
    machine: Arc<Machine>,
    number: i64,
    next: Arc<Mutex<Vec<Op>>>,
}

impl Future for Steps {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<()> {
        self.machine.learn_current(self.number);
        let ops = std::mem::take(&mut *self.next.lock().unwrap());
        self.machine.perform(&ops);
        Poll::Pending
    }
}

/// Runs `program` and says what it did. Nothing of it is left behind.
pub(crate) fn execute(run: &Arc<Run>, workers: &Workers, program: &Program) -> Facts {
    let machine = Arc::new(Machine { run: run.clone(), state: Mutex::default() });
    let mut used = [true, false, false];
    for (thread, ops) in program {
        used[*thread] = true;
        let (machine, ops) = (machine.clone(), ops.clone());
        on(workers, *thread, move || machine.run.scope(|| machine.perform(&ops)));
    }
    for thread in (0..used.len()).rev().filter(|thread| used[*thread]) {
        let machine = machine.clone();
        on(workers, thread, move || machine.run.scope(leave));
    }
    run.scope(|| machine.clean())
}

fn on(workers: &Workers, thread: usize, job: impl FnOnce() + Send + 'static) {
    match thread.checked_sub(1) {
        Some(worker) => workers.run(worker, job),
        None => job(),
    }
}

/// Exits and detaches what is left on this thread.
fn leave() {
    let Held { mut guards, mut attached, .. } = HELD.take();
    while guards.pop().is_some() {}
    while attached.pop().is_some() {}
}

fn choose<T>(list: &[T], pick: Pick) -> Option<&T> {
    list.get(usize::from(pick).checked_rem(list.len())?)
}

fn take<T>(list: &mut Vec<T>, pick: Pick) -> Option<T> {
    let index = usize::from(pick).checked_rem(list.len())?;
    Some(list.remove(index))
}

fn current_id() -> SpanId {
    Context::map_current(|cx| cx.span().span_context().span_id())
}

/// The span that is current on this thread: with us the one that was entered last, in the
/// registry the last one that was not entered again.
fn current() -> (Option<i64>, Option<i64>) {
    HELD.with_borrow(|held| {
        let number = |entered: &Entered| entered.number;
        let first = held.entered.iter().rev().find(|entered| !entered.again);
        (held.entered.last().map(number), first.map(number))
    })
}

impl Machine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn span(&self, pick: Pick) -> Option<(i64, Span)> {
        choose(&self.state().handles, pick).cloned()
    }

    /// The current context is that of span `number`, where contexts are activated.
    fn learn_current(&self, number: i64) {
        if self.run.activation {
            self.state().numbers.insert(current_id(), number);
        }
    }

    /// The ids of a span are in use from now on.
    fn start(&self, number: i64) {
        self.state().fact(number).started = true;
    }

    fn perform(self: &Arc<Self>, ops: &[Op]) {
        for op in ops {
            // Nothing to choose from is nothing to do.
            self.step(op);
        }
    }

    fn step(self: &Arc<Self>, op: &Op) -> Option<()> {
        match op {
            Op::Open(hang, level, fields) => self.open(*hang, *level, fields)?,
            Op::Enter(pick) => {
                let (number, span) = self.span(*pick)?;
                self.start(number);
                let guard = span.entered();
                self.learn_current(number);
                push(number);
                HELD.with_borrow_mut(|held| held.guards.push((number, guard)));
            }
            Op::Exit(pick) => {
                let (number, guard) = HELD.with_borrow_mut(|held| take(&mut held.guards, *pick))?;
                drop(guard);
                pop(number);
            }
            Op::CloneHandle(pick) => {
                let handle = self.span(*pick)?;
                self.state().handles.push(handle);
            }
            Op::DropHandle(pick) => {
                let handle = take(&mut self.state().handles, *pick)?;
                drop(handle);
            }
            Op::Record(pick, key, datum) => {
                let (_, span) = self.span(*pick)?;
                span.record(*key, datum.value());
            }
            Op::RecordSpecial(pick, key, value) => {
                let (number, span) = self.span(*pick)?;
                span.record(*key, *value);
                self.state().fact(number).set_special(key, value);
            }
            Op::Event(hang, level, fields) => self.event(*hang, *level, fields)?,
            Op::FollowsFrom(from, to) => {
                let (from, (number, to)) = (self.span(*from)?, self.span(*to)?);
                self.follow(&from, number, to.id());
            }
            Op::FollowsFormer(from, to) => self.follows_former(*from, *to)?,
            Op::SetAttribute(pick, key, value) => {
                let (_, span) = self.span(*pick)?;
                self.run.set_attribute(&span, key, (*value).into());
            }
            Op::SetStatus(pick, choice) => {
                let (number, span) = self.span(*pick)?;
                self.run.set_status(&span, status(*choice));
                self.state().fact(number).set_status(By::Other, status(*choice));
            }
            Op::AddLink(from, to) => {
                let ((_, from), (number, to)) = (self.span(*from)?, self.span(*to)?);
                let context = self.run.span_context(&to);
                self.start(number);
                self.run.add_link(&from, context);
            }
            Op::SetParent(pick, parent) => self.set_parent(*pick, *parent)?,
            Op::RecordError(pick, failure) => {
                let (number, span) = self.span(*pick)?;
                self.run.record_error(&span, failure);
                let status = Status::error(failure.to_string());
                self.state().fact(number).set_status(By::Other, status);
            }
            Op::KeepCurrent => {
                let cx = Context::current();
                self.state().contexts.push(cx);
            }
            Op::KeepContext(pick) => {
                let (number, span) = self.span(*pick)?;
                let cx = self.run.context(&span);
                let mut state = self.state();
                state.fact(number).started = true;
                state.numbers.insert(cx.span().span_context().span_id(), number);
                state.contexts.push(cx);
            }
            Op::KeepRemote(remote) => {
                let pairs = remote.state.then_some(("vendor", "x"));
                let cx = Context::new().with_remote_span_context(SpanContext::new(
                    TraceId::from(u128::from(remote.trace)),
                    SpanId::from(u64::from(remote.trace)),
                    TraceFlags::default().with_sampled(remote.sampled),
                    true,
                    TraceState::from_key_value(pairs).unwrap(),
                ));
                self.state().contexts.push(cx);
            }
            Op::Attach(pick) => {
                let cx = choose(&self.state().contexts, *pick).cloned()?;
                attach(cx);
            }
            Op::Detach(pick) => {
                let guard = HELD.with_borrow_mut(|held| take(&mut held.attached, *pick))?;
                drop(guard);
            }
            Op::Api(attached) => self.api(*attached),
            Op::ApiEnd(pick) => {
                let cx = take(&mut self.state().apis, *pick)?;
                cx.span().end();
            }
            Op::Call(call) => self.call(*call),
            Op::Task(pick) => {
                let (number, span) = self.span(*pick)?;
                let steps = Steps { machine: self.clone(), number, next: Arc::default() };
                self.state().tasks.push((number, Box::pin(steps.instrument(span))));
            }
            Op::Poll(pick, ops) => self.poll(*pick, ops)?,
            Op::DropTask(pick) => {
                let (number, task) = take(&mut self.state().tasks, *pick)?;
                // It is entered for that.
                self.start(number);
                drop(task);
            }
        }
        Some(())
    }

    fn open(&self, hang: Hang, level: Level, fields: &Fields) -> Option<()> {
        let parent = self.parent(hang)?;
        let by_subscriber = !self.run.activation && matches!(hang, Hang::Contextual);
        let (ours, theirs) = current();
        if by_subscriber && ours != theirs {
            // Without activation the parent differs where the target of an event does.
            return None;
        }
        let number = self.state().next_span();
        let span = open(&hung(hang, parent.as_ref()), level, number, fields);
        let is_local_root = match hang {
            Hang::Contextual if by_subscriber && ours.is_some() => false,
            Hang::Contextual => Context::map_current(|cx| {
                let span = cx.span();
                !span.span_context().is_valid() || span.span_context().is_remote()
            }),
            Hang::Root => true,
            Hang::Under(_) => false,
        };
        let mut state = self.state();
        state.former.extend(span.id().map(|id| (number, id)));
        state.handles.push((number, span));
        if let Some((parent, _)) = parent {
            state.fact(parent).started = true;
        }
        let facts = state.fact(number);
        facts.is_local_root = is_local_root;
        let special = [
            ("otel.status_code", fields.status_code),
            ("otel.status_description", fields.status_description),
        ];
        for (key, value) in special {
            if let Some(value) = value {
                facts.set_special(key, value);
            }
        }
        Some(())
    }

    /// The explicit parent that `hang` asks for. `None` if there is none to choose.
    fn parent(&self, hang: Hang) -> Option<Option<(i64, Span)>> {
        match hang {
            Hang::Under(pick) => self.span(pick).map(Some),
            Hang::Contextual | Hang::Root => Some(None),
        }
    }

    fn event(&self, hang: Hang, level: Level, fields: &EventFields) -> Option<()> {
        let parent = self.parent(hang)?;
        let number = {
            let mut state = self.state();
            state.events += 1;
            state.events
        };
        let (ours, theirs) = match hang {
            Hang::Contextual => current(),
            Hang::Root => (None, None),
            Hang::Under(_) => {
                let parent = parent.as_ref().map(|(number, _)| *number);
                (parent, parent)
            }
        };
        // What an event says of errors goes to its span: nothing, where it is not clear to which.
        let silent = EventFields::default();
        let fields = if ours == theirs { fields } else { &silent };
        emit(&hung(hang, parent.as_ref()), level, number, fields);
        let has_message = fields.message.as_ref().is_some_and(|message| match message {
            Datum::Failure(_) => false,
            other => other.as_error_text().is_none_or(|text| !text.is_empty()),
        });
        let error = fields.error.as_ref().and_then(Datum::as_error_text);
        let told = error.filter(|_| !has_message);
        let is_error = level == Level::Error || told.is_some();
        let mut state = self.state();
        if ours != theirs {
            state.facts.displaced.insert(number);
            for span in [ours, theirs].into_iter().flatten().filter(|_| is_error) {
                state.fact(span).blur_status();
            }
        } else if let Some(span) = ours.filter(|_| is_error) {
            let status = Status::error(told.unwrap_or_default());
            state.fact(span).set_status(By::Event, status);
        }
        Some(())
    }

    fn follows_former(&self, from: Pick, to: Pick) -> Option<()> {
        let from = self.span(from)?;
        let (number, to) = choose(&self.state().former, to).cloned()?;
        self.follow(&from, number, Some(to));
        Some(())
    }

    fn follow(&self, (own, from): &(i64, Span), number: i64, to: Option<Id>) {
        // `tracing-opentelemetry` deadlocks where a span follows from itself.
        if *own != number {
            from.follows_from(to);
            self.start(number);
        }
    }

    /// Sets the parent where both sides let it be set: on a local root whose ids nobody knows.
    fn set_parent(&self, pick: Pick, parent: Pick) -> Option<()> {
        let (number, span) = self.span(pick)?;
        let cx = choose(&self.state().contexts, parent).cloned()?;
        let parent = cx.span().span_context().clone();
        let facts = self.state().fact(number).clone();
        if facts.started || !facts.is_local_root || !parent.is_valid() {
            return None;
        }
        assert!(self.run.set_parent(&span, cx), "the parent of {number} could not be set");
        self.state().fact(number).is_local_root = parent.is_remote();
        Some(())
    }

    fn api(&self, attached: bool) {
        let number = self.state().next_span();
        let span = self
            .run
            .tracer
            .span_builder("api")
            .with_kind(SpanKind::Client)
            .with_attributes([KeyValue::new("n", number)])
            .start_with_context(&self.run.tracer, &Context::current());
        let cx = Context::current().with_span(span);
        {
            let mut state = self.state();
            state.apis.push(cx.clone());
            state.contexts.push(cx.clone());
        }
        if attached {
            attach(cx);
        }
    }

    fn call(&self, call: Call) {
        let cx = Context::current();
        let span = cx.span();
        let is_open = span.is_recording();
        match call {
            Call::SetAttribute(key, value) => span.set_attribute(KeyValue::new(key, value)),
            Call::AddEvent(name) => span.add_event(name, vec![KeyValue::new("by", "api")]),
            Call::SetStatus(choice) => span.set_status(status(choice)),
            Call::UpdateName(name) => span.update_name(name),
        }
        let mut state = self.state();
        let number = state.numbers.get(&span.span_context().span_id()).copied();
        let Some(number) = number.filter(|_| is_open) else { return };
        match call {
            Call::SetAttribute(..) | Call::AddEvent(_) => {}
            Call::SetStatus(choice) => state.fact(number).set_status(By::Other, status(choice)),
            Call::UpdateName(_) => state.fact(number).late_name = None,
        }
    }

    fn poll(self: &Arc<Self>, pick: Pick, ops: &[Op]) -> Option<()> {
        let (number, mut task) = take(&mut self.state().tasks, pick)?;
        self.start(number);
        *task.inner().next.lock().unwrap() = ops.to_vec();
        push(number);
        let polled = task.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        pop(number);
        self.state().tasks.push((number, task));
        Some(())
    }

    /// Drops what is left, one thing after another.
    fn clean(&self) -> Facts {
        let mut state = std::mem::take(&mut *self.state());
        for (number, task) in state.tasks.drain(..) {
            state.facts.spans.entry(number).or_default().started = true;
            drop(task);
        }
        state.handles.drain(..).for_each(drop);
        state.apis.drain(..).for_each(|cx| cx.span().end());
        state.facts
    }
}

impl State {
    fn fact(&mut self, number: i64) -> &mut crate::facts::SpanFacts {
        self.facts.spans.entry(number).or_default()
    }

    fn next_span(&mut self) -> i64 {
        self.spans += 1;
        self.spans
    }
}

fn hung(hang: Hang, parent: Option<&(i64, Span)>) -> Parent<'_> {
    match (hang, parent) {
        (Hang::Contextual, _) => Parent::Contextual,
        (Hang::Root | Hang::Under(_), None) => Parent::Root,
        (_, Some((_, span))) => Parent::Under(span),
    }
}

fn status(choice: Choice) -> Status {
    match choice {
        Choice::Unset => Status::Unset,
        Choice::Ok => Status::Ok,
        Choice::Error(text) => Status::error(text),
    }
}

/// Notes that a span is entered on this thread.
fn push(number: i64) {
    HELD.with_borrow_mut(|held| {
        let again = held.entered.iter().any(|entered| entered.number == number);
        held.entered.push(Entered { number, again });
    });
}

/// Notes that a span is exited on this thread: it leaves the innermost of its entries.
fn pop(number: i64) {
    HELD.with_borrow_mut(|held| {
        let innermost = held.entered.iter().rposition(|entered| entered.number == number);
        held.entered.remove(innermost.unwrap());
    });
}

fn attach(cx: Context) {
    let guard = cx.attach();
    HELD.with_borrow_mut(|held| held.attached.push(guard));
}
