//! Lines for people, in the form of `tracing-subscriber`'s default:
//! `time LEVEL span{field=value}: target: message field=value trace_id=… span_id=…`.

use std::fmt::Write;

use tracing_core::Level;

use super::Head;
use super::fields::Fields;

pub(super) fn line(
    head: &Head<'_>,
    spans: &[(&'static str, Fields)],
    fields: &Fields,
    colours: bool,
) -> String {
    let mut line = String::with_capacity(256);
    let paint = |line: &mut String, code: &str, text: &str| {
        if colours {
            line.extend(["\u{1b}[", code, "m", text, "\u{1b}[0m"]);
        } else {
            line.push_str(text);
        }
    };
    paint(&mut line, DIM, head.timestamp);
    let level = format!(" {:>5}", head.level.as_str());
    paint(&mut line, level_colour(head.level), &level);
    line.push(' ');
    for (name, fields) in spans {
        paint(&mut line, BOLD, name);
        if !fields.list.is_empty() {
            line.push('{');
            write_fields(&mut line, fields);
            line.push('}');
        }
        paint(&mut line, DIM, ":");
    }
    if !spans.is_empty() {
        line.push(' ');
    }
    paint(&mut line, DIM, head.target);
    paint(&mut line, DIM, ":");
    if let Some(message) = &fields.message {
        line.push(' ');
        line.push_str(&harmless(message));
    }
    if !fields.list.is_empty() {
        line.push(' ');
        write_fields(&mut line, fields);
    }
    if let Some((trace_id, span_id)) = &head.ids {
        line.extend([" trace_id=", trace_id, " span_id=", span_id]);
    }
    line.push('\n');
    line
}

fn write_fields(line: &mut String, fields: &Fields) {
    for (index, (name, value)) in fields.list.iter().enumerate() {
        if index > 0 {
            line.push(' ');
        }
        line.extend([name, "=", value]);
    }
}

/// Text without control characters that could change what a terminal shows; line ends and tabs
/// stay.
pub(super) fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            // Writing to a string does not fail.
            write!(harmless, "\\u{{{:x}}}", u32::from(c)).ok();
        } else {
            harmless.push(c);
        }
    }
    harmless
}

const BOLD: &str = "1";
const DIM: &str = "2";

fn level_colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "31",
        Level::WARN => "33",
        Level::INFO => "32",
        Level::DEBUG => "34",
        Level::TRACE => "35",
    }
}
