//! What a `tracing::Span` can do besides: the OpenTelemetry side of it.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use opentelemetry::trace::{SpanContext, Status, TraceContextExt};
use opentelemetry::{Context, Key, KeyValue, Value};
use tracing::Span;

use super::Capture;
use super::layer::{Layer, Mode};
use super::local::SpanInfo;
use super::spans::Activation;
use crate::clock;
use crate::propagation;
use crate::span::{Attributes, ErrorSource, SpanRecord, Text};

/// Why a parent could not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetParentError {
    /// The span's ids are final: it has a parent in this process, or a child, or its context has
    /// been asked for or injected; or it is entered on another thread or more than once, or another
    /// span has become current since it was entered.
    AlreadyUsed,
    /// The span is disabled, closed, or no layer of spanweave sees it.
    Disabled,
    /// The context holds no valid span, nor baggage, nor a decision.
    NoSpan,
}

impl fmt::Display for SetParentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyUsed => "the span's identity has been used already; set the parent before",
            Self::Disabled => "the span is disabled, closed or not seen by a layer of spanweave",
            Self::NoSpan => "the context holds no valid span",
        })
    }
}

impl Error for SetParentError {}

/// The OpenTelemetry side of a [`tracing::Span`].
///
/// All methods do nothing on a span that is disabled or that no layer of spanweave sees.
///
/// ```
/// use spanweave_core::SpanExt;
/// let span = tracing::info_span!("CreateUser");
/// span.set_attribute("validation.errors", opentelemetry::Value::Array(
///     opentelemetry::Array::String(vec!["name is empty".into()])));
/// if let Err(error) = "x".parse::<u8>() {
///     span.record_error(&error);
/// }
/// ```
pub trait SpanExt {
    /// Makes the span a child of the span in `cx`, usually one in another process.
    ///
    /// What else a propagator has put into `cx` goes along: baggage becomes current where this
    /// span or a child of it is entered, and is injected with it. A context without a span can
    /// still hold baggage, or a caller's decision (`b3: 0`) that the sampler follows like that of
    /// a parent.
    ///
    /// # Errors
    /// [`SetParentError`]; the span then stays as it is.
    fn set_parent(&self, cx: Context) -> Result<(), SetParentError>;

    /// The current context with this span in it. Makes the span's ids final.
    fn context(&self) -> Context;

    /// The span's own context; invalid for a span that is not seen. Makes the span's ids final.
    fn span_context(&self) -> SpanContext;

    /// Links to another span.
    fn add_link(&self, cx: SpanContext);

    /// Sets an attribute, in place of an earlier value of the key.
    fn set_attribute(&self, key: impl Into<Key>, value: impl Into<Value>);

    /// Sets the status, by the rules of the OpenTelemetry API.
    fn set_status(&self, status: Status);

    /// Records an error: an `exception` event, status Error with its message, and its type as
    /// `error.type`.
    fn record_error<E: Error + 'static>(&self, error: &E);

    /// Records an error whose type is not known: like [`record_error`](Self::record_error), with
    /// the class of the first well-known error of its source chain.
    fn record_dyn_error(&self, error: &(dyn Error + 'static));
}

/// Runs `act` with the capture that sees `span` and the span's id in the subscriber.
fn with_capture<R>(span: &Span, act: impl FnOnce(&Arc<Capture>, u64) -> R) -> Option<R> {
    span.with_subscriber(|(id, dispatch)| match dispatch.downcast_ref::<Layer>()?.mode() {
        Mode::Native(capture) => Some(act(capture, id.into_u64())),
        #[cfg(feature = "bridge")]
        Mode::Bridge(_) => None,
    })
    .flatten()
}

fn change(span: &Span, change: impl FnOnce(&Capture, &mut SpanRecord)) -> bool {
    with_capture(span, |capture, id| {
        capture.table.with(id, |record| change(capture, record)).is_some()
    })
    .unwrap_or(false)
}

impl SpanExt for Span {
    fn set_parent(&self, cx: Context) -> Result<(), SetParentError> {
        let says_something = cx.span().span_context().is_valid()
            || propagation::decision_without_ids(&cx).is_some()
            || propagation::carries_more(&cx);
        if !says_something {
            return Err(SetParentError::NoSpan);
        }
        #[cfg(feature = "bridge")]
        if let Some(set) = super::bridge::set_parent(self, &cx) {
            return set;
        }
        with_capture(self, |capture, id| capture.set_parent(id, &cx))
            .unwrap_or(Err(SetParentError::Disabled))
    }

    fn context(&self) -> Context {
        #[cfg(feature = "bridge")]
        if let Some(cx) = super::bridge::context(self) {
            return cx;
        }
        let info = with_capture(self, |capture, id| {
            let info = capture.open(id)?;
            capture.renew(id, &info);
            let span = super::active::ActiveSpan::new(capture, id, &info);
            Some(super::spans::base_context(&info, |cx| cx.with_span(span)))
        });
        info.flatten().unwrap_or_else(Context::current)
    }

    fn span_context(&self) -> SpanContext {
        #[cfg(feature = "bridge")]
        if let Some(cx) = super::bridge::context(self) {
            return cx.span().span_context().clone();
        }
        let info = with_capture(self, |capture, id| {
            let info = capture.open(id)?;
            capture.renew(id, &info);
            Some(info)
        });
        info.flatten().map_or(SpanContext::NONE, |info: SpanInfo| info.context())
    }

    fn add_link(&self, cx: SpanContext) {
        #[cfg(feature = "bridge")]
        if super::bridge::add_link(self, &cx) {
            return;
        }
        change(self, |capture, record| capture.add_link(record, cx, Vec::new()));
    }

    fn set_attribute(&self, key: impl Into<Key>, value: impl Into<Value>) {
        let attribute = KeyValue::new(key.into(), value.into());
        #[cfg(feature = "bridge")]
        if super::bridge::set_attribute(self, &attribute) {
            return;
        }
        change(self, |capture, record| capture.set_attribute(record, attribute));
    }

    fn set_status(&self, status: Status) {
        #[cfg(feature = "bridge")]
        if super::bridge::set_status(self, &status) {
            return;
        }
        change(self, |_, record| record.set_status(&status));
    }

    fn record_error<E: Error + 'static>(&self, error: &E) {
        record(self, error, Some(std::any::type_name::<E>()));
    }

    fn record_dyn_error(&self, error: &(dyn Error + 'static)) {
        record(self, error, None);
    }
}

/// What an error says, worked out before any lock is taken.
struct Told {
    class: Option<String>,
    source: ErrorSource,
    message: String,
    chain: String,
}

impl Told {
    fn of(error: &(dyn Error + 'static), type_name: Option<&str>) -> Self {
        const MAX_CHAIN: usize = 32;
        let told = catch_unwind(AssertUnwindSafe(|| {
            let mut chain = String::new();
            let mut next = error.source();
            for _ in 0..MAX_CHAIN {
                let Some(current) = next else { break };
                if !chain.is_empty() {
                    chain.push('\n');
                }
                chain.push_str("Caused by: ");
                chain.push_str(&current.to_string());
                next = current.source();
            }
            (error.to_string(), chain, crate::span::class_of_error(error))
        }));
        let (message, chain, class) = told.unwrap_or_default();
        match type_name {
            Some(name) => {
                let class = Some(without_generics(name));
                Self { class, source: ErrorSource::RecordedType, message, chain }
            }
            None => Self { class, source: ErrorSource::Downcast, message, chain },
        }
    }

    fn apply(&self, capture: &Capture, record: &mut SpanRecord, now: u64) {
        let limits = &capture.core.limits;
        if let Some(class) = &self.class {
            record.error_type.offer(self.source, class);
        }
        let message = super::visit::cut(&self.message, limits.value_bytes);
        record.set_error(message);
        if !record.head.recording {
            return;
        }
        let mut list = Attributes::default();
        for (key, value) in self.attributes() {
            let value = list.append(super::visit::cut(value, limits.value_bytes));
            list.push(Text::Static(key), crate::span::Stored::Text(value));
        }
        record.add_event(Text::Static("exception"), now, &list, limits.events);
    }

    fn attributes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let class = self.class.as_deref().map(|class| ("exception.type", class));
        let message = Some(("exception.message", self.message.as_str()));
        let chain = (!self.chain.is_empty()).then_some(("exception.stacktrace", &*self.chain));
        [class, message, chain].into_iter().flatten()
    }
}

fn record(span: &Span, error: &(dyn Error + 'static), type_name: Option<&str>) {
    if span.is_disabled() {
        return;
    }
    let told = Told::of(error, type_name);
    #[cfg(feature = "bridge")]
    {
        let attributes =
            || told.attributes().map(|(key, value)| KeyValue::new(key, value.to_owned())).collect();
        if super::bridge::add_event(span, "exception", attributes) {
            super::bridge::set_status(span, &Status::error(told.message.clone()));
            return;
        }
    }
    let now = clock::now();
    change(span, |capture, record| told.apply(capture, record, now));
}

/// A type's path without its parameters, which may be of any number and length.
fn without_generics(name: &str) -> String {
    name.split('<').next().unwrap_or(name).to_owned()
}

impl Capture {
    fn set_parent(self: &Arc<Self>, id: u64, cx: &Context) -> Result<(), SetParentError> {
        let entered_here = self
            .local(|local| local.stack.iter().filter(|entered| entered.id == id).count())
            .unwrap_or(0);
        let own = self.table.with(id, |record| {
            let elsewhere = record.head.timing.entered as usize > entered_here;
            (record.head.span_id, record.head.frozen || elsewhere)
        });
        let Some((span_id, used)) = own else { return Err(SetParentError::Disabled) };
        if used {
            return Err(SetParentError::AlreadyUsed);
        }
        if entered_here > 0 && self.activation {
            let current = Context::map_current(|cx| cx.span().span_context().span_id());
            // Of several entries only the last one's context could be corrected.
            if current != span_id || entered_here > 1 {
                return Err(SetParentError::AlreadyUsed);
            }
        }
        // A parent of ours is frozen by its child, as any parent is.
        let ours = super::active::settle(cx).filter(|(capture, _)| capture.id == self.id);
        let parent = super::active::parent_in(cx);
        // Of an earlier call. Kept until no lock is held: what a context holds may be foreign.
        let mut earlier = None;
        let info = self.table.with(id, |record| {
            if record.head.frozen {
                return Err(SetParentError::AlreadyUsed);
            }
            earlier = record.head.carried.take();
            if parent.is_some() {
                record.head.parent_is_remote = false;
                record.head.caller = None;
                record.head.asked = None;
            }
            match (&ours, &parent) {
                (Some((_, parent)), _) => self.make_child(record, parent),
                (None, Some(parent)) => self.make_child_of(record, parent),
                (None, None) => record.head.asked = propagation::decision_without_ids(cx),
            }
            if propagation::carries_more(cx) {
                record.head.carried = Some(Arc::new(cx.clone()));
                self.describe_baggage(record, cx);
            }
            let recording = record.head.recording;
            self.set_recording(record, recording);
            Ok((SpanInfo::of(record), self.activation_of(record)))
        });
        let (info, activation) = info.unwrap_or(Err(SetParentError::Disabled))?;
        self.renew(id, &info);
        if entered_here > 0 {
            self.reactivate(id, &info, activation);
        }
        drop(earlier);
        Ok(())
    }

    /// Puts a corrected context in place of the one that was attached when the span was entered
    /// on this thread.
    fn reactivate(self: &Arc<Self>, id: u64, info: &SpanInfo, activation: Activation) {
        let mut guard = self.activate(id, info, activation);
        let old = self.local(|local| {
            let entered = local.stack.iter_mut().rev().find(|entered| entered.id == id)?;
            std::mem::replace(&mut entered.guard, guard.take())
        });
        // Detached outside the borrow: what a context holds may be foreign.
        drop((old, guard));
    }
}
