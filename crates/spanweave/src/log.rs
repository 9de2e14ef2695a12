//! Log lines: text or JSON on standard error, with the ids of the span around them.
//!
//! Standard output stays the program's own. The stock `fmt` layer is not used: it formats fields
//! while it holds the span's extensions, where a field whose `Debug` logs itself waits for ever,
//! and one that panics breaks the span. Here everything foreign runs first, and is caught.

// What a line is made of.
mod fields;

mod json;
mod text;

use std::io::{IsTerminal, Write as _};
use std::sync::Arc;

use spanweave_core::masking::Masker;
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::env::LogFormat;
use crate::filter::{Directives, Gated};
use fields::{Fields, Style};

/// The layer that writes what `directives` want to standard error; none for [`LogFormat::Off`].
pub(crate) fn layer(
    format: LogFormat,
    directives: Arc<Directives>,
    masker: Arc<Masker>,
) -> Option<Gated<Lines>> {
    // The convention of https://no-color.org.
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = !plain && std::io::stderr().is_terminal();
    layer_to(format, directives, masker, colours, |line| {
        // Nobody is left to tell when standard error is gone.
        std::io::stderr().write_all(line).ok();
    })
}

fn layer_to(
    format: LogFormat,
    directives: Arc<Directives>,
    masker: Arc<Masker>,
    colours: bool,
    write: impl Fn(&[u8]) + Send + Sync + 'static,
) -> Option<Gated<Lines>> {
    let style = match format {
        LogFormat::Text => Style::Text { colours },
        LogFormat::Json => Style::Json,
        LogFormat::Off => return None,
    };
    Some(Gated::new(Lines { style, masker, write: Box::new(write) }, directives))
}

/// Writes a line for each event, in one call of `write`.
pub(crate) struct Lines {
    style: Style,
    masker: Arc<Masker>,
    write: Write,
}

/// Takes a whole line.
type Write = Box<dyn Fn(&[u8]) + Send + Sync>;

/// The fields of a span, in its extensions.
struct SpanFields(Fields);

/// What is said of an event besides its fields.
struct Head<'a> {
    timestamp: &'a str,
    level: tracing_core::Level,
    target: &'a str,
    /// Trace and span.
    ids: Option<(String, String)>,
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: Context<'_, S>) {
        let fields = Fields::of(self.style, &self.masker, |visitor| attributes.record(visitor));
        if let Some(span) = cx.span(id) {
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, cx: Context<'_, S>) {
        let fields = Fields::of(self.style, &self.masker, |visitor| values.record(visitor));
        if let Some(span) = cx.span(id)
            && let Some(own) = span.extensions_mut().get_mut::<SpanFields>()
        {
            own.0.replace(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, cx: Context<'_, S>) {
        let fields = Fields::of(self.style, &self.masker, |visitor| event.record(visitor));
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let mut timestamp = String::new();
        // Writing to a string does not fail.
        SystemTime.format_time(&mut Writer::new(&mut timestamp)).ok();
        // The ids are those of the current span, so an event that was given another one, or was put
        // at the root, on purpose has none.
        let is_current = match event.parent() {
            Some(parent) => cx.lookup_current().is_some_and(|current| current.id() == *parent),
            None => !event.is_root(),
        };
        let ids = is_current.then(spanweave_core::current_ids).flatten();
        let head = Head {
            timestamp: &timestamp,
            level: *metadata.level(),
            target: metadata.target(),
            ids: ids.map(|(trace_id, span_id)| (trace_id.to_string(), span_id.to_string())),
        };
        let mut spans = Vec::new();
        for span in cx.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<SpanFields>().map(|fields| fields.0.clone());
            spans.push((span.name(), fields.unwrap_or_default()));
        }
        let line = match self.style {
            Style::Text { colours } => text::line(&head, &spans, &fields, colours),
            Style::Json => json::line(&head, &spans, &fields),
        };
        (self.write)(line.as_bytes());
    }
}

#[cfg(test)]
mod tests;
