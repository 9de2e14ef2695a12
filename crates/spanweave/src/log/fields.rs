//! Fields of spans and events, rendered.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use spanweave_core::masking::{MASK, Masker};
use tracing_core::Field;
use tracing_core::field::Visit;

use super::json::quoted;
use super::text::harmless;

/// How values are rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Text { colours: bool },
    Json,
}

/// Names and rendered values, each name once, and the message. Values are text as it stands in the
/// line: with its quotes, escaped.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) message: Option<String>,
    pub(super) list: Vec<(String, String)>,
}

impl Fields {
    /// The fields that `record` shows to a visitor. Runs the application's `Debug` and `Display`;
    /// where one panics, the fields up to it are kept and `log.panicked` says so.
    pub(super) fn of(style: Style, masker: &Masker, record: impl FnOnce(&mut dyn Visit)) -> Self {
        let mut visitor = Visitor { style, masker, fields: Self::default() };
        let visited = catch_unwind(AssertUnwindSafe(|| record(&mut visitor)));
        let mut fields = visitor.fields;
        if visited.is_err() {
            fields.set("log.panicked", "true".to_owned());
        }
        fields
    }

    /// Takes over newer values.
    pub(super) fn replace(&mut self, newer: Self) {
        for (name, value) in newer.list {
            self.set(&name, value);
        }
        if newer.message.is_some() {
            self.message = newer.message;
        }
    }

    fn set(&mut self, name: &str, value: String) {
        match self.list.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.list.push((name.to_owned(), value)),
        }
    }
}

/// What `tracing-log` adds to a record; the metadata say it already.
const LOG_FIELDS: [&str; 4] = ["log.target", "log.module_path", "log.file", "log.line"];

struct Visitor<'a> {
    style: Style,
    masker: &'a Masker,
    fields: Fields,
}

impl Visitor<'_> {
    /// A value that is written as it is.
    fn bare(&mut self, field: &Field, value: String) {
        self.set(field, value.clone(), value);
    }

    /// A value that JSON has in quotes.
    fn text(&mut self, field: &Field, value: &str) {
        let rendered = match self.style {
            Style::Text { .. } => harmless(value),
            Style::Json => quoted(value),
        };
        self.set(field, value.to_owned(), rendered);
    }

    fn set(&mut self, field: &Field, raw: String, rendered: String) {
        // `r#type = …` is the field `type`.
        match field.name().trim_start_matches("r#") {
            "message" => self.fields.message = Some(raw),
            name if LOG_FIELDS.contains(&name) => {}
            name if self.masker.is_sensitive_key(name) => {
                let mask = match self.style {
                    Style::Text { .. } => MASK.to_owned(),
                    Style::Json => quoted(MASK),
                };
                self.fields.set(name, mask);
            }
            name => self.fields.set(name, rendered),
        }
    }
}

impl Visit for Visitor<'_> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = format!("{value:?}");
        if value.is_finite() { self.bare(field, text) } else { self.text(field, &text) }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match self.style {
            Style::Text { .. } => self.set(field, value.to_owned(), format!("{value:?}")),
            Style::Json => self.text(field, value),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.text(field, &value.to_string());
        let mut sources = Vec::new();
        let mut source = value.source();
        while let Some(cause) = source {
            sources.push(cause.to_string());
            source = cause.source();
        }
        if !sources.is_empty() && !self.masker.is_sensitive_key(field.name()) {
            let rendered = match self.style {
                Style::Text { .. } => format!("[{}]", harmless(&sources.join(", "))),
                Style::Json => {
                    let list: Vec<_> = sources.iter().map(|source| quoted(source)).collect();
                    format!("[{}]", list.join(","))
                }
            };
            self.fields.set(&format!("{}.sources", field.name()), rendered);
        }
    }

    /// 128-bit integers come here too: as text, since few readers of JSON take such numbers.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}
