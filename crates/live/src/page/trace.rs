use super::html::{Escaped, document, service_class};
use super::index::{chip, put};
use crate::analysis::{Row, Trace, format_duration, rows};
use crate::model::{SpanKind, StoredSpan, Value};

/// More spans than this are cut off; the JSON has all.
const MAX_ROWS: usize = 2000;

pub(super) fn page(trace: &Trace) -> String {
    let summary = trace.summary();
    let services: String = summary.services.iter().map(|service| chip(service)).collect();
    let mut body = String::new();
    put(
        &mut body,
        format_args!(
            "<header><p class=\"crumbs\"><a href=\"/\">spanweave live</a> / <code>{id}</code> \
             <a href=\"/api/traces/{id}\">JSON</a></p><h1>{} <span>{}</span></h1>\
             <p class=\"facts\"><b>{}</b> · {} spans · <span class=\"{}\">{} errors</span>{} {services}</p></header><main>",
            Escaped(&summary.operation),
            Escaped(&summary.service),
            format_duration(summary.duration_ns),
            summary.spans,
            if summary.errors > 0 { "err" } else { "" },
            summary.errors,
            if summary.complete { "" } else { " · <span class=\"warn\">incomplete</span>" },
            id = summary.trace_id,
        ),
    );
    put(
        &mut body,
        format_args!(
            "<section class=\"waterfall\"><div class=\"row head\"><span>Span</span><span class=\"n\">Duration</span>\
             <span class=\"n\">Self</span><span class=\"axis\">{}</span></div>",
            axis(trace.duration_ns())
        ),
    );
    let rows = rows(trace);
    for row in rows.iter().take(MAX_ROWS) {
        span(&mut body, trace, row);
    }
    body.push_str("</section>");
    if rows.len() > MAX_ROWS {
        put(
            &mut body,
            format_args!("<p class=\"warn\">… and {} more spans</p>", rows.len() - MAX_ROWS),
        );
    }
    body.push_str(
        "<p class=\"legend\"><i class=\"critical\"></i> on the critical path <i class=\"other\"></i> off it \
         · click a span for its attributes and events</p></main>",
    );
    document(&format!("{} · {}", summary.operation, summary.service), 0, &body)
}

fn span(body: &mut String, trace: &Trace, row: &Row) {
    let span = &trace.spans()[row.index];
    put(
        body,
        format_args!(
            "<details><summary class=\"row{}{}\"><span class=\"label\"><i class=\"tree\">{}</i>{}{}{}</span>\
             <span class=\"n\">{}</span><span class=\"n self\">{}</span>{}</summary>",
            if span.is_error() { " bad" } else { "" },
            if row.critical.is_empty() { "" } else { " critical" },
            row.prefix,
            if row.shows_service { chip(&span.service) } else { String::new() },
            if span.is_error() { "<b class=\"err\">✗ </b>" } else { "" },
            Escaped(&span.name),
            format_duration(span.duration_ns()),
            format_duration(row.self_ns),
            bar(trace, span, row),
        ),
    );
    facts(body, trace, span);
    body.push_str("</details>");
}

/// Positions are attributes of SVG elements, so the page needs no inline style.
fn bar(trace: &Trace, span: &StoredSpan, row: &Row) -> String {
    let total = trace.duration_ns().max(1) as f64;
    let percent = |ns: u64| ns as f64 / total * 100.0;
    let x = |at: u64| percent(at.saturating_sub(trace.start_ns()));
    let mut svg = format!(
        "<svg class=\"bar {}\"><rect class=\"whole\" x=\"{:.3}%\" width=\"{:.3}%\" height=\"100%\" rx=\"2\"/>",
        service_class(&span.service),
        x(span.start_ns).min(99.7),
        percent(span.duration_ns()).max(0.3),
    );
    for &(from, to) in &row.critical {
        put(
            &mut svg,
            format_args!(
                "<rect class=\"hot\" x=\"{:.3}%\" width=\"{:.3}%\" height=\"100%\" rx=\"2\"/>",
                x(from),
                percent(to - from).max(0.15),
            ),
        );
    }
    for event in &span.events {
        let class = if event.name == "exception" { "tick err" } else { "tick" };
        put(
            &mut svg,
            format_args!(
                "<circle class=\"{class}\" cx=\"{:.3}%\" cy=\"50%\" r=\"2.5\"/>",
                x(event.time_ns).min(100.0)
            ),
        );
    }
    svg.push_str("</svg>");
    svg
}

fn axis(total: u64) -> String {
    [0, 25, 50, 75, 100]
        .map(|percent| {
            // 128 bits, because a duration of foreign clocks may be close to the largest.
            let at = u128::from(total) * percent / 100;
            match u64::try_from(at).unwrap_or(total) {
                0 => "<span>0</span>".to_owned(),
                at => format!("<span>{}</span>", format_duration(at)),
            }
        })
        .concat()
}

fn facts(body: &mut String, trace: &Trace, span: &StoredSpan) {
    body.push_str("<div class=\"facts\"><table>");
    let mut fact = |key: &str, value: &dyn std::fmt::Display| {
        put(body, format_args!("<tr><th>{}<td>{}</tr>", Escaped(key), Escaped(value)));
    };
    fact("span id", &span.span_id);
    if let Some(parent) = span.parent {
        fact("parent", &parent);
    }
    fact("service", &span.service);
    if span.kind != SpanKind::Unspecified {
        fact("kind", &span.kind);
    }
    if span.is_error() {
        fact("error", &span.error_message().unwrap_or("yes"));
    }
    let offset = span.start_ns.saturating_sub(trace.start_ns());
    fact("starts after", &format_duration(offset));
    if !span.scope.name.is_empty() {
        fact("scope", &span.scope.name);
    }
    if !span.trace_state.is_empty() {
        fact("tracestate", &span.trace_state);
    }
    for (key, value) in &span.attributes {
        fact(key, value);
    }
    for link in &span.links {
        fact("link", &format_args!("{} {}", link.trace_id, link.span_id));
    }
    body.push_str("</table>");
    if !span.events.is_empty() {
        body.push_str("<table class=\"events\">");
        for event in &span.events {
            put(
                body,
                format_args!(
                    "<tr><th>{}<td><b>{}</b> {}</tr>",
                    format_duration(event.time_ns.saturating_sub(span.start_ns)),
                    Escaped(&event.name),
                    Escaped(inline(&event.attributes)),
                ),
            );
        }
        body.push_str("</table>");
    }
    body.push_str("</div>");
}

fn inline(attributes: &[(String, Value)]) -> String {
    attributes.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("  ")
}
