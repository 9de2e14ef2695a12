//! The lane of the console: spans as a tree, for development.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use opentelemetry::trace::{SpanId, SpanKind, TraceId};
use spanweave_core::MaskedBatch;
use spanweave_core::MaskedSpan;
use spanweave_core::ledger::DropReason;
use spanweave_core::span::{AttributeValue, StatusCode};

use super::queue::{Fate, Queue};
use crate::encode::duration_text;

/// What the thread of a console lane owns.
pub(crate) struct ConsoleLane;

impl ConsoleLane {
    /// Writes to stderr: stdout belongs to the application's output.
    pub(crate) fn run(&mut self, queue: &Arc<Queue<Arc<MaskedBatch>>>) {
        while let Some(front) = queue.front_blocking() {
            let count = front.item.len() as u64;
            queue.account().begin_request(count);
            let written = std::io::stderr().write_all(tree(front.item.spans()).as_bytes());
            queue.account().end_request(count);
            let fate = match written {
                Ok(()) => Fate::Delivered,
                Err(error) => {
                    queue.account().fail(error);
                    Fate::Dropped(DropReason::Io)
                }
            };
            queue.settle(front.number, fate, count);
        }
    }
}

/// The spans of a batch as trees, by start time. A span whose parent is not in the batch starts
/// a tree of its own.
fn tree(spans: &[MaskedSpan]) -> String {
    let known: HashSet<(TraceId, SpanId)> =
        spans.iter().map(|span| (span.trace_id(), span.span_id())).collect();
    let mut children: HashMap<(TraceId, SpanId), Vec<&MaskedSpan>> = HashMap::new();
    let mut roots = Vec::new();
    for span in spans {
        let parent = span.parent_span_id().map(|parent| (span.trace_id(), parent));
        match parent.filter(|(_, id)| *id != span.span_id()).filter(|key| known.contains(key)) {
            Some(parent) => children.entry(parent).or_default().push(span),
            None => roots.push(span),
        }
    }
    for list in children.values_mut().chain([&mut roots]) {
        list.sort_by_key(|span| span.start_unix_nano());
    }
    let mut out = String::new();
    for root in roots {
        // Writing to memory does not fail.
        writeln!(out, "trace {}", root.trace_id()).ok();
        // Ids that form a circle have no root, so each span is written once at most.
        let mut open = vec![(root, 1)];
        while let Some((span, depth)) = open.pop() {
            write_span(&mut out, span, depth);
            let below = children.remove(&(span.trace_id(), span.span_id())).unwrap_or_default();
            open.extend(below.into_iter().rev().map(|child| (child, depth + 1)));
        }
    }
    out
}

fn write_span(out: &mut String, span: &MaskedSpan, depth: usize) {
    let indent = depth * 2;
    write!(out, "{:indent$}", "").ok();
    write_text(out, span.name());
    write!(out, "  {}", duration_text(span.duration_nanos())).ok();
    let kind = match span.kind() {
        SpanKind::Internal => "",
        SpanKind::Server => "  server",
        SpanKind::Client => "  client",
        SpanKind::Producer => "  producer",
        SpanKind::Consumer => "  consumer",
    };
    out.push_str(kind);
    if span.status() == StatusCode::Error {
        out.push_str("  ERROR");
        if !span.status_message().is_empty() {
            out.push_str(": ");
            write_text(out, span.status_message());
        }
    }
    write_fields(out, span.attributes().iter());
    out.push('\n');
    for event in span.events() {
        let offset = event.time_unix_nano().saturating_sub(span.start_unix_nano());
        write!(out, "{:indent$}· +{} ", "", duration_text(offset), indent = indent + 2).ok();
        write_text(out, event.name());
        write_fields(out, event.attributes());
        out.push('\n');
    }
}

fn write_fields<'a>(
    out: &mut String,
    attributes: impl Iterator<Item = (&'a str, AttributeValue<'a>)>,
) {
    for (key, value) in attributes {
        out.push_str("  ");
        write_text(out, key);
        out.push('=');
        write_text(out, &value.to_string());
    }
}

/// Control characters are escaped: a value neither moves the cursor nor starts a line.
fn write_text(out: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{batch, span_data};
    use std::time::Duration;

    #[test]
    fn children_stand_under_their_parents_with_durations() {
        let mut root = span_data(1, 1, None, "GET /users");
        root.end_time = root.start_time + Duration::from_millis(150);
        let mut child = span_data(1, 2, Some(1), "query\x1b[2J");
        child.end_time = child.start_time + Duration::from_micros(250);
        child.status = opentelemetry::trace::Status::error("no such table");
        let text = tree(batch(vec![child, root]).spans());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].starts_with("  GET /users  150ms"), "{text}");
        assert!(lines[2].starts_with("    query\\u{1b}[2J  250µs  ERROR: no such table"), "{text}");
    }
}
