//! What a thread holds: its stack of entered spans, its outbox, spare records.
//!
//! No foreign code runs while the thread's state is borrowed: contexts are attached and detached,
//! fields formatted and hooks called outside.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};

use opentelemetry::trace::{SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, ContextGuard};
use tracing_core::Metadata;

use super::Capture;
use super::callsite::{CallsiteInfo, address};
use crate::pipeline::{Outbox, bump};
use crate::span::{RawSpan, SpanRecord};

/// What a child takes from its parent.
#[derive(Clone, Debug)]
pub(crate) struct SpanInfo {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) flags: TraceFlags,
    pub(crate) local_root: SpanId,
    pub(crate) trace_state: Option<Arc<TraceState>>,
    pub(crate) carried: Option<Arc<Context>>,
    pub(crate) head_sampled: bool,
    pub(crate) recording: bool,
    /// Nothing of this can change any more.
    pub(crate) frozen: bool,
    /// What the caller of a local root decided.
    pub(crate) asked: Option<bool>,
}

impl SpanInfo {
    pub(crate) fn of(record: &SpanRecord) -> Self {
        Self {
            trace_id: record.head.trace_id,
            span_id: record.head.span_id,
            flags: record.head.flags,
            local_root: record.head.local_root,
            trace_state: record.head.trace_state.clone(),
            carried: record.head.carried.clone(),
            head_sampled: record.head.head_sampled,
            recording: record.head.recording,
            frozen: record.head.frozen,
            asked: record.asked(),
        }
    }
}

/// A span that is entered on this thread.
pub(crate) struct Entered {
    pub(crate) id: u64,
    pub(crate) info: SpanInfo,
    /// The thread was unwinding already when it was entered.
    pub(crate) unwinding: bool,
    /// Its context, if it was made current.
    pub(crate) guard: Option<ContextGuard>,
}

/// What is found on a thread for a new span, in one look.
pub(crate) struct Start {
    pub(crate) callsite: &'static CallsiteInfo,
    pub(crate) record: RawSpan,
    pub(crate) top: Top,
}

/// What is found on a thread for an event.
pub(crate) struct StartEvent {
    pub(crate) callsite: &'static CallsiteInfo,
    pub(crate) current: Option<u64>,
    pub(crate) scratch: RawSpan,
}

/// What the thread's stack says of the current span.
pub(crate) enum Top {
    /// The stack is empty, or a span of somebody else has become current since.
    Unknown,
    Span(u64, SpanInfo),
}

/// The state of this thread for one pipeline.
pub(crate) struct Local {
    capture_id: u64,
    capture: Weak<Capture>,
    pub(crate) stack: Vec<Entered>,
    pub(crate) outbox: Arc<Outbox>,
    /// Empty records: the last one used is the next one taken.
    spare: Vec<RawSpan>,
    thread: (u64, Option<&'static str>),
    /// Direct-mapped by the address of the metadata.
    callsites: Box<[Option<(usize, &'static CallsiteInfo)>]>,
}

/// Slots of the callsite cache of a thread; a power of two.
const CALLSITES: usize = 128;
/// Empty records that a thread keeps.
const SPARE: usize = 64;

impl Local {
    fn new(capture: &Arc<Capture>) -> Self {
        // The stack of contexts is touched first, so that it outlives this value at the end of
        // the thread: thread-locals are destroyed in the reverse order of their creation.
        Context::map_current(|_| ());
        Self {
            capture_id: capture.id,
            capture: Arc::downgrade(capture),
            stack: Vec::new(),
            outbox: capture.core.handoff.open(),
            spare: Vec::new(),
            thread: thread(),
            callsites: vec![None; CALLSITES].into(),
        }
    }

    pub(crate) fn callsite(
        &mut self,
        capture: &Capture,
        metadata: &'static Metadata<'static>,
    ) -> &'static CallsiteInfo {
        let key = address(metadata);
        // Metadata is at least 16 bytes apart.
        let slot = &mut self.callsites[(key >> 4) % CALLSITES];
        match slot {
            Some((known, info)) if *known == key => info,
            _ => slot.insert((key, capture.callsites.get(metadata))).1,
        }
    }

    /// Prepares a span that is about to be created; `None` if it is not wanted.
    pub(crate) fn start(
        &mut self,
        capture: &Capture,
        metadata: &'static Metadata<'static>,
        contextual: bool,
    ) -> Option<Start> {
        let callsite = self.callsite(capture, metadata);
        if !callsite.enabled {
            return None;
        }
        // Reading the current context runs no foreign code.
        let (suppressed, current) = current();
        if suppressed {
            return None;
        }
        let top = if contextual { self.top_under(capture, current) } else { Top::Unknown };
        bump(&self.outbox.counts.started);
        let mut record = self.record();
        (record.head.thread_id, record.head.thread_name) = self.thread;
        Some(Start { callsite, record, top })
    }

    /// Prepares an event; `None` if it is not wanted.
    pub(crate) fn start_event(
        &mut self,
        capture: &Capture,
        metadata: &'static Metadata<'static>,
    ) -> Option<StartEvent> {
        let callsite = self.callsite(capture, metadata);
        if !callsite.enabled && callsite.claimed_by.is_none() {
            return None;
        }
        // Nothing becomes a span where none is wanted.
        if callsite.claimed_by.is_some() && current().0 {
            return None;
        }
        let current = self.stack.last().map(|top| top.id);
        Some(StartEvent { callsite, current, scratch: self.record() })
    }

    /// What the stack says of the current span.
    pub(crate) fn top(&mut self, capture: &Capture) -> Top {
        self.top_under(capture, current().1)
    }

    fn top_under(&self, capture: &Capture, current: SpanId) -> Top {
        match self.stack.last() {
            Some(top) if !capture.activation || current == self.active() => {
                Top::Span(top.id, top.info.clone())
            }
            _ => Top::Unknown,
        }
    }

    /// The span whose context we made current last.
    fn active(&self) -> SpanId {
        let innermost = self.stack.iter().rev().find(|entered| entered.guard.is_some());
        innermost.map_or(SpanId::INVALID, |entered| entered.info.span_id)
    }

    /// An empty record.
    pub(crate) fn record(&mut self) -> RawSpan {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes an empty record back.
    pub(crate) fn recycle(&mut self, record: RawSpan) {
        if self.spare.len() < SPARE {
            self.spare.push(record);
        }
    }
}

/// Whether telemetry is suppressed, and the current OpenTelemetry span. Reading them runs no
/// foreign code.
fn current() -> (bool, SpanId) {
    Context::map_current(|cx| (cx.is_telemetry_suppressed(), cx.span().span_context().span_id()))
}

impl Drop for Local {
    fn drop(&mut self) {
        for entered in self.stack.drain(..) {
            // The thread is over and its stack of contexts with it.
            std::mem::forget(entered.guard);
        }
        if let Some(capture) = self.capture.upgrade() {
            capture.core.handoff.close(&self.outbox);
        }
    }
}

thread_local! {
    static LOCALS: RefCell<Vec<Local>> = const { RefCell::new(Vec::new()) };
    static THREAD: Cell<Option<(u64, Option<&'static str>)>> = const { Cell::new(None) };
}

/// Runs `act` on the thread's state for the pipeline. `None` where there is none any more (the
/// thread is ending).
pub(crate) fn with_local<R>(
    capture: &Arc<Capture>,
    act: impl FnOnce(&mut Local) -> R,
) -> Option<R> {
    LOCALS
        .try_with(|locals| {
            let mut locals = locals.try_borrow_mut().ok()?;
            if let Some(local) = locals.iter_mut().find(|local| local.capture_id == capture.id) {
                return Some(act(local));
            }
            // Pipelines that are gone leave nothing behind.
            locals.retain(|local| local.capture.strong_count() > 0 || !local.stack.is_empty());
            locals.push(Local::new(capture));
            locals.last_mut().map(act)
        })
        .ok()
        .flatten()
}

/// The span with that id, if it is entered on this thread.
pub(crate) fn entered(span_id: SpanId) -> Option<(Arc<Capture>, u64)> {
    let find = |local: &Local| {
        let entered = local.stack.iter().rev().find(|entered| entered.info.span_id == span_id)?;
        Some((local.capture.upgrade()?, entered.id))
    };
    LOCALS.try_with(|locals| locals.try_borrow().ok()?.iter().find_map(find)).ok().flatten()
}

/// Number and name of the thread. Names are few; each is kept once for the process, up to a bound.
pub(crate) fn thread() -> (u64, Option<&'static str>) {
    THREAD
        .try_with(|cached| {
            if let Some(known) = cached.get() {
                return known;
            }
            let current = std::thread::current();
            let known = (number(current.id()), current.name().and_then(intern));
            cached.set(Some(known));
            known
        })
        .unwrap_or((0, None))
}

/// The number in `ThreadId(7)`: the standard library has no other way to it.
fn number(id: std::thread::ThreadId) -> u64 {
    let text = format!("{id:?}");
    text.bytes()
        .filter(u8::is_ascii_digit)
        .fold(0, |sum: u64, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
}

fn intern(name: &str) -> Option<&'static str> {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    /// Programs that name each thread differently lose the names above this number.
    const MOST: usize = 1024;
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = crate::sync::lock(&NAMES);
    if let Some(known) = names.get(name) {
        return Some(known);
    }
    if names.len() >= MOST {
        return None;
    }
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(name);
    Some(name)
}
