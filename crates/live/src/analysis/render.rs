use std::fmt::Write;

use super::critical_path::critical_path;
use super::self_time::self_times;
use super::tree::Trace;
use crate::model::SpanId;

/// More rows than this are cut off, and the text says how many.
const MAX_ROWS: usize = 200;

/// Below this many columns there is no room for a tree and a bar.
const MIN_WIDTH: usize = 60;

/// A tree deeper than this many levels is drawn flat, with the level as a number.
const MAX_INDENT: usize = 12;

/// `" ● 123.4 ms  123.4 ms "`: marks, duration and self time with the spaces around them.
const FIXED_COLUMNS: usize = 2 + 1 + 9 + 1 + 9 + 1;

/// A trace as text: a tree with duration, self time and a waterfall, `●` on spans of the critical path
/// and `✗` on errors. In the waterfall `█` is time on the critical path and `░` other time of the span.
///
/// No line has more than `width` characters (at least 60); control characters are replaced, so a span's
/// name cannot steer the terminal. At most 200 spans are shown.
///
/// ```text
/// gateway POST /checkout · 80.3 ms · 5 spans · 3 services · 4bf92f3577b34da6a3ce929d0e0e4736
/// ● critical path  ✗ error                   total      self
/// gateway POST /checkout              ●    80.3 ms   8.80 ms █░░░░░░██░░░░░░░░░░░░░░░░░░░░░░█
/// ├─ GET                              ●    12.2 ms   1.50 ms █░░░░█
/// │  └─ users GET /users/{id}         ●    10.7 ms   10.7 ms  ████
/// ├─ audit                                 22.0 ms   22.0 ms    ░░░░░░░░░
/// └─ orders POST /orders              ●    59.3 ms   59.3 ms        ███████████████████████
/// ```
#[must_use]
pub fn render_trace(trace: &Trace, width: usize) -> String {
    let width = width.max(MIN_WIDTH);
    let label_width = (width - FIXED_COLUMNS) * 11 / 20;
    let bar_width = width - FIXED_COLUMNS - label_width;
    let mut text = String::new();
    push_line(&mut text, &headline(trace), width);
    let header =
        format!("{:label_width$}    {:>9} {:>9}", "● critical path  ✗ error", "total", "self");
    push_line(&mut text, header.trim_end(), width);

    let rows = rows(trace);
    for row in rows.iter().take(MAX_ROWS) {
        let span = &trace.spans()[row.index];
        let label = if row.shows_service {
            format!("{}{} {}", row.prefix, span.service, span.name)
        } else {
            format!("{}{}", row.prefix, span.name)
        };
        let line = format!(
            "{} {}{} {:>9} {:>9} {}",
            fit(&label, label_width),
            if row.critical.is_empty() { ' ' } else { '●' },
            if span.is_error() { '✗' } else { ' ' },
            format_duration(span.duration_ns()),
            format_duration(row.self_ns),
            bar(trace, row, bar_width),
        );
        push_line(&mut text, line.trim_end(), width);
    }
    if rows.len() > MAX_ROWS {
        push_line(&mut text, &format!("… and {} more spans", rows.len() - MAX_ROWS), width);
    }
    text
}

/// A duration with a unit that fits it and about four digits: `812 ns`, `4.21 ms`, `12.0 s`.
#[must_use]
pub fn format_duration(ns: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")];
    for (unit, name) in UNITS {
        if ns >= unit {
            let value = ns as f64 / unit as f64;
            let decimals = match value {
                ..10.0 => 2,
                ..1000.0 => 1,
                _ => 0,
            };
            return format!("{value:.decimals$} {name}");
        }
    }
    format!("{ns} ns")
}

/// A span's line in a waterfall.
pub(crate) struct Row {
    pub(crate) index: usize,
    /// The lines of the tree.
    pub(crate) prefix: String,
    /// Whether the service is another one than the parent's.
    pub(crate) shows_service: bool,
    pub(crate) self_ns: u64,
    /// Where the span is on the critical path: start and end in absolute nanoseconds.
    pub(crate) critical: Vec<(u64, u64)>,
}

/// The spans depth first with all that a waterfall shows.
pub(crate) fn rows(trace: &Trace) -> Vec<Row> {
    let self_times = self_times(trace);
    let path = critical_path(trace);
    let origin = trace.spans()[trace.main_root()].start_ns;
    let mut critical: std::collections::HashMap<SpanId, Vec<(u64, u64)>> =
        std::collections::HashMap::new();
    for segment in path.segments {
        let start = origin + segment.offset_ns;
        critical.entry(segment.span_id).or_default().push((start, start + segment.duration_ns));
    }
    // Whether more siblings follow, for each level above the current span.
    let mut follows: Vec<bool> = Vec::new();
    trace
        .walk()
        .into_iter()
        .map(|(index, depth)| {
            let span = &trace.spans()[index];
            let parent = trace.parent(index);
            let is_last = parent.is_none_or(|parent| trace.children(parent).last() == Some(&index));
            follows.truncate(depth);
            follows.push(!is_last);
            Row {
                index,
                prefix: prefix(&follows),
                shows_service: parent
                    .is_none_or(|parent| trace.spans()[parent].service != span.service),
                self_ns: self_times[index],
                critical: critical.remove(&span.span_id).unwrap_or_default(),
            }
        })
        .collect()
}

fn prefix(follows: &[bool]) -> String {
    let depth = follows.len() - 1;
    if depth > MAX_INDENT {
        return format!("[{depth}] ");
    }
    let Some((own, above)) = follows.get(1..).and_then(<[bool]>::split_last) else {
        return String::new();
    };
    let mut prefix = String::new();
    for more in above {
        prefix.push_str(if *more { "│  " } else { "   " });
    }
    prefix.push_str(if *own { "├─ " } else { "└─ " });
    prefix
}

fn headline(trace: &Trace) -> String {
    let summary = trace.summary();
    let mut line = format!(
        "{} {} · {} · {} · {}",
        summary.service,
        summary.operation,
        format_duration(summary.duration_ns),
        count(summary.spans, "span"),
        count(summary.services.len(), "service"),
    );
    if summary.errors > 0 {
        // Writing to a String cannot fail.
        write!(line, " · {}", count(summary.errors, "error")).ok();
    }
    if !summary.complete {
        line.push_str(" · incomplete");
    }
    write!(line, " · {}", summary.trace_id).ok();
    line
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn bar(trace: &Trace, row: &Row, width: usize) -> String {
    let span = &trace.spans()[row.index];
    let origin = trace.start_ns();
    let total = trace.duration_ns().max(1);
    // The cell that a time falls in; 128 bits because nanoseconds times columns may not fit 64.
    let cell = |ns: u64| {
        let scaled = u128::from(ns.saturating_sub(origin)) * width as u128 / u128::from(total);
        usize::try_from(scaled).unwrap_or(width).min(width)
    };
    // Every span gets a cell, however short it is.
    let first = cell(span.start_ns).min(width.saturating_sub(1));
    let last = cell(span.end_ns).max(first + 1).min(width);
    let mut cells = vec![' '; width];
    cells[first..last].fill('░');
    for (from, to) in &row.critical {
        let from = cell(*from).clamp(first, last - 1);
        let to = cell(*to).clamp(from + 1, last);
        cells[from..to].fill('█');
    }
    cells.into_iter().collect()
}

/// Exactly `width` characters.
fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return format!("{text:width$}");
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn push_line(text: &mut String, line: &str, width: usize) {
    text.extend(line.chars().take(width).map(|c| if c.is_control() { '\u{fffd}' } else { c }));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tree::tests::{any_trace, trace};
    use super::*;
    use crate::model::SpanKind;
    use crate::model::sample::span;

    fn checkout() -> Trace {
        trace([
            span(1, 0, 0, 100).of("gateway", "GET /checkout", SpanKind::Server),
            span(2, 1, 20, 80).of("gateway", "GET", SpanKind::Client),
            span(3, 2, 25, 75).of("orders", "POST /orders", SpanKind::Server).failed("no stock"),
            span(4, 1, 5, 15).of("gateway", "audit", SpanKind::Internal),
            span(5, 1, 0, 60).of("gateway", "prefetch", SpanKind::Internal),
        ])
    }

    #[test]
    fn a_trace_reads_as_a_tree_with_a_waterfall() {
        let text = render_trace(&checkout(), 100);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].starts_with(
                "gateway GET /checkout · 100.0 ms · 5 spans · 2 services · 1 error · "
            ),
            "{text}"
        );
        assert!(lines[2].starts_with("gateway GET /checkout "), "{text}");
        assert!(lines[2].contains("●"), "{text}");
        assert!(lines[3].starts_with("├─ prefetch "), "{text}");
        assert!(!lines[3].contains("●") && lines[3].contains('░'), "{text}");
        assert!(lines[4].starts_with("├─ audit "), "{text}");
        assert!(lines[5].starts_with("└─ GET "), "{text}");
        assert!(lines[6].starts_with("   └─ orders POST /orders "), "{text}");
        assert!(lines[6].contains("●✗   50.0 ms   50.0 ms"), "{text}");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let text =
            render_trace(&trace([span(1, 0, 0, 1).of("a\x1b[2J", "b\nc", SpanKind::Server)]), 80);
        assert!(!text.contains('\x1b'));
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn a_huge_trace_is_cut_and_says_so() {
        let text = render_trace(&trace((1..=500).map(|id| span(id, id - 1, id, 1000 - id))), 80);
        assert_eq!(text.lines().count(), 2 + MAX_ROWS + 1);
        assert!(text.ends_with("… and 300 more spans\n"));
        assert!(text.contains("[13] op14"));
    }

    #[test]
    fn durations_have_a_fitting_unit() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_500, "1.50 µs"),
            (12_340_000, "12.3 ms"),
            (999_949_999, "999.9 ms"),
            (12_000_000_000, "12.0 s"),
            (5_000_000_000_000, "5000 s"),
        ] {
            assert_eq!(format_duration(ns), text);
        }
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_asked(trace in any_trace(), width in 0usize..200) {
            for line in render_trace(&trace, width).lines() {
                prop_assert!(line.chars().count() <= width.max(MIN_WIDTH));
            }
        }
    }
}
