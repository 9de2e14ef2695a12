//! The `tracing-subscriber` layer.

use std::sync::Arc;

use tracing_core::span::{Attributes, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Dispatch, Event, LevelFilter, Metadata, Subscriber, dispatcher};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Capture;
#[cfg(feature = "bridge")]
use super::bridge::BridgeLayer;

/// Which capture the layer uses.
pub(crate) enum Mode {
    Native(Arc<Capture>),
    #[cfg(feature = "bridge")]
    Bridge(BridgeLayer),
}

/// The layer that turns spans of `tracing` into spans of the pipeline.
///
/// Compose it with a registry: `tracing_subscriber::registry().with(layer)`. Under
/// `tracing_subscriber::reload::Layer` the extensions of [`SpanExt`](crate::SpanExt) cannot reach
/// it. A filter of the subscriber that disables a span keeps it from this layer as well.
pub struct Layer {
    mode: Mode,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer").finish_non_exhaustive()
    }
}

impl Layer {
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode }
    }

    pub(super) fn mode(&self) -> &Mode {
        &self.mode
    }

    fn capture(&self) -> &Arc<Capture> {
        match &self.mode {
            Mode::Native(capture) => capture,
            #[cfg(feature = "bridge")]
            Mode::Bridge(bridge) => &bridge.capture,
        }
    }
}

/// Runs `act` on the capture of the default subscriber, if it has one of ours.
pub(super) fn current<R>(act: impl FnOnce(&Arc<Capture>) -> R) -> Option<R> {
    let mut act = Some(act);
    dispatcher::get_default(|dispatch| match dispatch.downcast_ref::<Layer>()?.mode() {
        Mode::Native(capture) => act.take().map(|act| act(capture)),
        #[cfg(feature = "bridge")]
        Mode::Bridge(_) => None,
    })
}

/// The registry's current span, asked for only where the thread's own stack knows none.
fn current_of<S>(cx: &Context<'_, S>) -> Option<u64>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    cx.lookup_current().map(|span| span.id().into_u64())
}

/// Calls the bridge's layer with the arguments, where there is one.
macro_rules! bridged {
    ($self:ident, |$bridge:ident, $layer:ident| $call:expr) => {
        #[cfg(feature = "bridge")]
        if let Mode::Bridge($bridge) = &$self.mode {
            if let Some($layer) = $bridge.get::<S>() {
                $call;
            }
            return;
        }
    };
}

impl<S> tracing_subscriber::Layer<S> for Layer
where
    // A dispatcher asks for `Send` and `Sync` of every subscriber anyway.
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        // Only the first one: a layer belongs to one subscriber.
        drop(self.capture().core.dispatch.set(subscriber.downgrade()));
    }

    fn on_layer(&mut self, subscriber: &mut S) {
        let _ = subscriber;
        #[cfg(feature = "bridge")]
        if let Mode::Bridge(bridge) = &mut self.mode {
            bridge.attach::<S>();
        }
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Looked at now, so that no span has to wait for it. What this layer does not want may
        // be wanted by another one, so the answer is always yes.
        self.capture().callsites.get(metadata);
        Interest::always()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        None
    }

    fn on_new_span(&self, attrs: &Attributes<'_>, id: &Id, cx: Context<'_, S>) {
        bridged!(self, |bridge, layer| {
            if bridge.wants(attrs.metadata()) {
                layer.on_new_span(attrs, id, cx)
            }
        });
        self.capture().new_span(id.into_u64(), attrs, || current_of(&cx));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, cx: Context<'_, S>) {
        bridged!(self, |bridge, layer| layer.on_record(id, values, cx));
        let _ = cx;
        self.capture().record(id.into_u64(), values);
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, cx: Context<'_, S>) {
        bridged!(self, |bridge, layer| layer.on_follows_from(id, follows, cx));
        let _ = cx;
        self.capture().follows_from(id.into_u64(), follows.into_u64());
    }

    fn on_event(&self, event: &Event<'_>, cx: Context<'_, S>) {
        bridged!(self, |bridge, layer| {
            if bridge.wants(event.metadata()) {
                layer.on_event(event, cx)
            }
        });
        self.capture().event(event, || current_of(&cx));
    }

    fn on_enter(&self, id: &Id, cx: Context<'_, S>) {
        bridged!(self, |bridge, layer| layer.on_enter(id, cx));
        let _ = cx;
        self.capture().enter(id.into_u64());
    }

    fn on_exit(&self, id: &Id, cx: Context<'_, S>) {
        bridged!(self, |bridge, layer| layer.on_exit(id, cx));
        let _ = cx;
        self.capture().exit(id.into_u64());
    }

    fn on_close(&self, id: Id, cx: Context<'_, S>) {
        bridged!(self, |bridge, layer| layer.on_close(id, cx));
        let _ = cx;
        self.capture().close(id.into_u64());
    }

    // The bridge's own extension finds its layer in this way.
    #[cfg(feature = "bridge")]
    #[allow(unsafe_code)]
    // SAFETY: the pointer is to `self`, or to what a layer inside `self` points to; both live as
    // long as `self`, as the contract of `downcast_raw` asks.
    unsafe fn downcast_raw(&self, id: std::any::TypeId) -> Option<*const ()> {
        if id == std::any::TypeId::of::<Self>() {
            return Some(std::ptr::from_ref(self).cast());
        }
        match &self.mode {
            Mode::Native(_) => None,
            Mode::Bridge(bridge) => {
                let layer = bridge.get::<S>()?;
                // SAFETY: as above; the same contract.
                unsafe { tracing_subscriber::Layer::<S>::downcast_raw(layer, id) }
            }
        }
    }
}
