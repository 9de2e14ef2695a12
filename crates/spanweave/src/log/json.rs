//! Lines for machines, in the form of `tracing-subscriber`'s JSON: `timestamp`, `level`, `fields`
//! with the `message`, `target`; then `trace_id`, `span_id` and `spans`, the spans around the event
//! from the root on, each with its `name` and its fields.

use std::fmt::Write;

use super::Head;
use super::fields::Fields;

pub(super) fn line(head: &Head<'_>, spans: &[(&'static str, Fields)], fields: &Fields) -> String {
    let mut line = String::with_capacity(512);
    let level = head.level.as_str();
    line.extend([r#"{"timestamp":""#, head.timestamp, r#"","level":""#, level, r#"","fields":"#]);
    write_object(&mut line, fields.message.as_deref().map(|message| ("message", message)), fields);
    line.push_str(r#","target":"#);
    write_quoted(&mut line, head.target);
    if let Some((trace_id, span_id)) = &head.ids {
        line.extend([r#","trace_id":""#, trace_id, r#"","span_id":""#, span_id, "\""]);
    }
    if !spans.is_empty() {
        line.push_str(r#","spans":["#);
        for (index, (name, fields)) in spans.iter().enumerate() {
            if index > 0 {
                line.push(',');
            }
            write_object(&mut line, Some(("name", name)), fields);
        }
        line.push(']');
    }
    line.push_str("}\n");
    line
}

/// The object of `first` and the fields. A field with the name of the first is left out: most
/// readers take the last of two.
fn write_object(line: &mut String, first: Option<(&str, &str)>, fields: &Fields) {
    line.push('{');
    let mut separator = "";
    if let Some((name, value)) = first {
        write_quoted(line, name);
        line.push(':');
        write_quoted(line, value);
        separator = ",";
    }
    for (name, value) in &fields.list {
        if first.is_some_and(|(first, _)| first == name) {
            continue;
        }
        line.push_str(separator);
        write_quoted(line, name);
        line.push(':');
        line.push_str(value);
        separator = ",";
    }
    line.push('}');
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    write_quoted(&mut quoted, text);
    quoted
}

fn write_quoted(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if c < ' ' || c == '\u{7f}' => {
                // Writing to a string does not fail.
                write!(line, "\\u{:04x}", u32::from(c)).ok();
            }
            c => line.push(c),
        }
    }
    line.push('"');
}
