//! Fields into records.
//!
//! A visitor writes into a record that its caller owns: no lock is held and no thread state
//! borrowed while a field's `Debug` runs, so that it may open spans or log itself. A `Debug` that
//! panics leaves a note in place of its value.

use std::error::Error;
use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use opentelemetry::trace::SpanKind;
use opentelemetry::{Array, StringValue};
use tracing_core::field::{Field, Visit};

use super::callsite::{CallsiteInfo, FieldClass};
use crate::masking::MASK;
use crate::span::{ErrorSource, SpanLimits, SpanRecord, StatusCode, Stored, Text};

/// What stands in place of a value whose `Debug` panicked.
const PANICKED: &str = "<panicked while formatting>";
/// What a list of attributes tells of an error. A later error replaces all of it: the message of
/// one and the trace of another do not go together.
pub(super) const EXCEPTION: [&str; 3] =
    ["exception.message", "exception.type", "exception.stacktrace"];
/// Errors of a source chain that are looked at; a cyclic chain must end.
const MAX_CHAIN: usize = 32;

/// Special fields that were set.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Touched {
    pub(crate) name: bool,
    pub(crate) kind: bool,
    pub(crate) status: bool,
    /// An error value was recorded. The message of an event's error goes to the span as well.
    pub(crate) exception: bool,
}

pub(crate) struct FieldVisitor<'a> {
    record: &'a mut SpanRecord,
    callsite: &'a CallsiteInfo,
    limits: &'a SpanLimits,
    limit: usize,
    recording: bool,
    pub(crate) touched: Touched,
    /// The name of an event, once it is known.
    pub(crate) message: Option<Text>,
}

impl<'a> FieldVisitor<'a> {
    pub(crate) fn span(
        record: &'a mut SpanRecord,
        callsite: &'a CallsiteInfo,
        limits: &'a SpanLimits,
        recording: bool,
    ) -> Self {
        Self {
            record,
            callsite,
            limits,
            limit: limits.attributes,
            recording,
            touched: Touched::default(),
            message: None,
        }
    }

    /// The event's attributes become those of `record`, which is a scratch one.
    pub(crate) fn event(
        record: &'a mut SpanRecord,
        callsite: &'a CallsiteInfo,
        limits: &'a SpanLimits,
        recording: bool,
    ) -> Self {
        let limit = limits.attributes_per_event;
        Self { limit, ..Self::span(record, callsite, limits, recording) }
    }

    fn class(&self, field: &Field) -> FieldClass {
        self.callsite.fields.get(field.index()).copied().unwrap_or(FieldClass::Plain)
    }

    fn wants(&self, class: FieldClass) -> bool {
        self.recording || class == FieldClass::Observed
    }

    fn put(&mut self, key: &'static str, value: Stored) {
        if self.record.attributes.len() >= self.limit {
            self.record.attributes.add_dropped(1);
        } else {
            self.record.attributes.push(Text::Static(key), value);
        }
    }

    fn put_text(&mut self, key: &'static str, value: &str) {
        let text = self.text(value);
        self.put(key, Stored::Text(text));
    }

    fn put_owned_key(&mut self, key: &str, value: Stored) {
        if self.record.attributes.len() >= self.limit {
            self.record.attributes.add_dropped(1);
        } else {
            let key = self.record.attributes.append(key);
            self.record.attributes.push(key, value);
        }
    }

    fn text(&mut self, value: &str) -> Text {
        let cut = cut(value, self.limits.value_bytes);
        self.record.head.truncated |= cut.len() < value.len();
        self.record.attributes.append(cut)
    }

    /// Formats `value` to the end of the record's text.
    fn format(&mut self, value: &dyn fmt::Debug) -> Text {
        let (mut is_cut, limit) = (false, self.limits.value_bytes);
        let text =
            self.record.attributes.append_with(|text| is_cut = write_bounded(text, limit, value));
        self.record.head.truncated |= is_cut;
        text
    }

    fn format_owned(&mut self, value: &dyn fmt::Debug) -> String {
        let mut text = String::new();
        self.record.head.truncated |= write_bounded(&mut text, self.limits.value_bytes, value);
        text
    }

    /// A value that is neither text nor formatted.
    fn scalar(&mut self, field: &Field, value: Stored) {
        let class = self.class(field);
        match class {
            FieldClass::Plain | FieldClass::Observed | FieldClass::Error => {
                if self.wants(class) {
                    self.put(field.name(), value);
                }
            }
            FieldClass::Sensitive => self.masked(field),
            FieldClass::Log => {}
            _ => {
                let text = match value {
                    Stored::Bool(value) => value.to_string(),
                    Stored::I64(value) => value.to_string(),
                    Stored::F64(value) => value.to_string(),
                    Stored::Text(_) | Stored::Array(_) => return,
                };
                self.special(field, class, &text);
            }
        }
    }

    fn masked(&mut self, field: &Field) {
        if self.recording {
            self.put(field.name(), Stored::Text(Text::Static(MASK)));
        }
    }

    fn special(&mut self, field: &Field, class: FieldClass, value: &str) {
        match class {
            FieldClass::OtelName => {
                self.record.set_name(cut(value, self.limits.value_bytes));
                self.touched.name = true;
            }
            FieldClass::OtelKind => {
                if let Some(kind) = kind_of(value) {
                    self.record.head.kind = kind;
                    self.touched.kind = true;
                }
            }
            FieldClass::OtelStatusCode => {
                self.touched.status = true;
                if value.eq_ignore_ascii_case("ok") {
                    self.record.head.status = StatusCode::Ok;
                    self.record.status_message.clear();
                } else if value.eq_ignore_ascii_case("error") {
                    self.record.head.status = StatusCode::Error;
                } else {
                    self.touched.status = false;
                }
            }
            FieldClass::OtelStatusDescription => {
                self.touched.status = true;
                self.record.set_error(cut(value, self.limits.value_bytes));
            }
            FieldClass::Message => {
                let text = self.text(value);
                self.told(text);
            }
            FieldClass::Error if self.message.is_none() => self.error_text(value),
            _ => self.put_text(field.name(), value),
        }
    }

    /// An empty message is none: the event keeps its own name.
    fn told(&mut self, message: Text) {
        if !self.record.attributes.resolve(message).is_empty() {
            self.message = Some(message);
        }
    }

    /// `#[instrument(err)]` and its kin: an event with `error` and no message.
    fn error_text(&mut self, value: &str) {
        let value = cut(value, self.limits.value_bytes);
        self.record.set_error(value);
        self.record.error_type.offer_debug(value);
        self.message = Some(Text::Static("exception"));
        if self.recording {
            if let Some(class) = self.record.error_type.get().map(str::to_owned) {
                self.put_text("exception.type", &class);
            }
            self.put_text("exception.message", value);
        }
    }
}

impl Visit for FieldVisitor<'_> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.scalar(field, Stored::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.scalar(field, Stored::I64(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.scalar(field, Stored::I64(value)),
            Err(_) => self.record_str(field, &value.to_string()),
        }
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.record_str(field, &value.to_string());
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.record_str(field, &value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.scalar(field, Stored::F64(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match self.class(field) {
            class @ (FieldClass::Plain | FieldClass::Observed) => {
                if self.wants(class) {
                    self.put_text(field.name(), value);
                }
            }
            FieldClass::Sensitive => self.masked(field),
            FieldClass::Log => {}
            class => self.special(field, class, value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match self.class(field) {
            class @ (FieldClass::Plain | FieldClass::Observed) => {
                if self.wants(class) {
                    let text = self.format(value);
                    self.put(field.name(), Stored::Text(text));
                }
            }
            FieldClass::Sensitive => self.masked(field),
            FieldClass::Log => {}
            FieldClass::Message if !self.recording => self.message = Some(Text::Static("")),
            FieldClass::Message => {
                let text = self.format(value);
                self.told(text);
            }
            class => {
                let text = self.format_owned(value);
                self.special(field, class, &text);
            }
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        if self.class(field) == FieldClass::Sensitive {
            return self.masked(field);
        }
        let class = catch_unwind(AssertUnwindSafe(|| crate::span::type_of_error(value)));
        if let Ok(Some(class)) = &class {
            self.record.error_type.offer(ErrorSource::Downcast, class);
        } else {
            let rendering = self.format_owned(&value);
            self.record.error_type.offer_debug(&rendering);
        }
        self.touched.exception = true;
        if !self.recording {
            return;
        }
        let message = self.format_owned(&Displayed(value));
        let chain = catch_unwind(AssertUnwindSafe(|| self.chain(value))).unwrap_or_default();
        for key in EXCEPTION {
            self.record.attributes.remove(key);
        }
        self.put_text("exception.message", &message);
        if let Ok(Some(class)) = &class {
            self.put_text("exception.type", class);
        }
        if !chain.is_empty() {
            let trace: Vec<&str> = chain.iter().map(StringValue::as_str).collect();
            self.put_text("exception.stacktrace", &trace.join("\n"));
        }
        self.put_text(field.name(), &message);
        let chain = self.record.attributes.store_array(Array::String(chain));
        self.put_owned_key(&format!("{}.chain", field.name()), chain);
    }
}

impl FieldVisitor<'_> {
    fn chain(&mut self, error: &(dyn Error + 'static)) -> Vec<StringValue> {
        let mut chain = Vec::new();
        let mut next = error.source();
        while let Some(current) = next {
            if chain.len() >= MAX_CHAIN {
                break;
            }
            chain.push(self.format_owned(&Displayed(current)).into());
            next = current.source();
        }
        chain
    }
}

/// Shows an error by its `Display`.
struct Displayed<'a>(&'a (dyn Error + 'static));

impl fmt::Debug for Displayed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)
    }
}

/// Appends the `Debug` of `value`, never more than `limit` bytes of it; whether it was cut.
fn write_bounded(text: &mut String, limit: usize, value: &dyn fmt::Debug) -> bool {
    let start = text.len();
    let mut out = Bounded { text, end: start.saturating_add(limit), cut: false };
    // An error only says that the rest was cut off.
    let written = catch_unwind(AssertUnwindSafe(|| write!(out, "{value:?}").is_ok()));
    let is_cut = out.cut;
    if written.is_err() {
        text.truncate(start);
        text.push_str(PANICKED);
    }
    is_cut
}

struct Bounded<'a> {
    text: &'a mut String,
    end: usize,
    cut: bool,
}

impl Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let kept = cut(text, self.end.saturating_sub(self.text.len()));
        self.text.push_str(kept);
        if kept.len() < text.len() {
            self.cut = true;
            // The rest need not be formatted.
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// The longest beginning of `text` of at most `limit` bytes that ends between characters.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A kind, in any case of letters.
fn kind_of(text: &str) -> Option<SpanKind> {
    let kinds = [
        ("server", SpanKind::Server),
        ("client", SpanKind::Client),
        ("producer", SpanKind::Producer),
        ("consumer", SpanKind::Consumer),
        ("internal", SpanKind::Internal),
    ];
    kinds.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("é", 0), "");
    }
}
