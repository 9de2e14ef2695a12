//! A layer that sees only what its filter wants.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Dispatch, Event, Metadata, Subscriber, subscriber::Interest};
use tracing_log::NormalizeEvent;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::directives::Directives;
use super::table::{Table, Verdict};

/// Forwards to `inner` what the directives want and disables nothing for others.
pub(crate) struct Gated<L> {
    inner: L,
    directives: Arc<Directives>,
    table: Table,
}

impl<L> Gated<L> {
    pub(crate) fn new(inner: L, directives: Arc<Directives>) -> Self {
        Self { inner, directives, table: Table::new() }
    }

    fn verdict(&self, metadata: &'static Metadata<'static>) -> Verdict {
        self.table.get(metadata, || {
            if is_log_callsite(metadata) { Verdict::Ask } else { self.directives.verdict(metadata) }
        })
    }

    /// Whether an event or a span is wanted; `metadata` are its real ones.
    fn wants<S: Subscriber>(
        &self,
        verdict: Verdict,
        metadata: &Metadata<'_>,
        cx: &Context<'_, S>,
    ) -> bool {
        match verdict {
            Verdict::Off => false,
            Verdict::On => true,
            Verdict::Ask => self.directives.filter().enabled(metadata, cx.clone()),
        }
    }

    /// Tells directives that look at spans what happens to them. They run the `Debug` of fields,
    /// whose panic is not the application's.
    fn tell(&self, act: impl FnOnce(&EnvFilter)) {
        if self.directives.is_dynamic() {
            catch_unwind(AssertUnwindSafe(|| act(self.directives.filter()))).ok();
        }
    }
}

/// The callsites through which `tracing-log` sends all records of a level: their own target says
/// nothing.
fn is_log_callsite(metadata: &Metadata<'_>) -> bool {
    metadata.target() == "log" && metadata.name() == "log event"
}

impl<S, L> Layer<S> for Gated<L>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    L: Layer<S>,
{
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.inner.on_register_dispatch(dispatch);
    }

    fn on_layer(&mut self, subscriber: &mut S) {
        self.inner.on_layer(subscriber);
    }

    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::always()
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: Context<'_, S>) {
        self.tell(|filter| filter.on_new_span(attributes, id, cx.clone()));
        let metadata = attributes.metadata();
        if self.wants(self.verdict(metadata), metadata, &cx) {
            self.inner.on_new_span(attributes, id, cx);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, cx: Context<'_, S>) {
        self.tell(|filter| filter.on_record(id, values, cx.clone()));
        let metadata = cx.metadata(id);
        if metadata.is_some_and(|metadata| self.verdict(metadata) != Verdict::Off) {
            self.inner.on_record(id, values, cx);
        }
    }

    fn on_event(&self, event: &Event<'_>, cx: Context<'_, S>) {
        let verdict = self.verdict(event.metadata());
        if verdict == Verdict::Off {
            return;
        }
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        if self.wants(verdict, metadata, &cx) {
            self.inner.on_event(event, cx);
        }
    }

    // The log does nothing when spans are entered, left or closed; the filter may.

    fn on_enter(&self, id: &Id, cx: Context<'_, S>) {
        self.tell(|filter| filter.on_enter(id, cx));
    }

    fn on_exit(&self, id: &Id, cx: Context<'_, S>) {
        self.tell(|filter| filter.on_exit(id, cx));
    }

    fn on_close(&self, id: Id, cx: Context<'_, S>) {
        self.tell(|filter| filter.on_close(id, cx));
    }
}
