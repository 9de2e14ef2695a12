use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;

use super::html::{Escaped, document, service_class};
use super::map;
use crate::analysis::{
    EdgeKind, Trace, error_traces, format_duration, operations, repeated_calls, service_edges,
    spans_by_service,
};
use crate::store::StoreCounts;

/// Rows of each table; the JSON has all.
const ROWS: usize = 20;
/// Findings of each kind.
const FINDINGS: usize = 6;

/// Which traces the list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Order {
    #[default]
    Latest,
    Slowest,
    Failed,
}

impl Order {
    const ALL: [Self; 3] = [Self::Latest, Self::Slowest, Self::Failed];

    /// By the query of the page's address; anything unknown is the default.
    pub(super) fn of(query: Option<&str>) -> Self {
        Self::ALL.into_iter().find(|order| Some(order.query()) == query).unwrap_or_default()
    }

    fn query(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Slowest => "slowest",
            Self::Failed => "failed",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Slowest => "slowest",
            Self::Failed => "with errors",
        }
    }

    fn apply(self, traces: &[Trace]) -> Vec<&Trace> {
        let mut shown: Vec<_> = traces.iter().rev().collect();
        match self {
            Self::Latest => {}
            Self::Slowest => shown.sort_by_key(|trace| Reverse(trace.duration_ns())),
            Self::Failed => shown.retain(|trace| trace.errors() > 0),
        }
        shown.truncate(ROWS);
        shown
    }
}

/// `traces` oldest first.
pub(super) fn page(traces: &[Trace], counts: StoreCounts, order: Order) -> String {
    let mut body = String::new();
    let errors = error_traces(traces);
    put(
        &mut body,
        format_args!(
            "<header><h1>spanweave <span>live</span></h1><dl class=\"tiles\">{}{}{}{}</dl></header><main>",
            tile("traces", traces.len() as u64, false),
            tile("spans", counts.stored, false),
            tile("services", spans_by_service(traces).len() as u64, false),
            tile("traces with errors", errors.len() as u64, !errors.is_empty()),
        ),
    );
    if traces.is_empty() {
        body.push_str(
            "<p class=\"empty\">No spans yet. Send OTLP to <code>/v1/traces</code> on this port.</p>",
        );
    } else {
        list(&mut body, traces, order);
        body.push_str("<div class=\"pair\">");
        services(&mut body, traces);
        findings(&mut body, traces);
        body.push_str("</div>");
        slowest(&mut body, traces);
    }
    put(
        &mut body,
        format_args!(
            "</main><footer>{} spans received · {} duplicates · {} evicted · {} refused · \
             <a href=\"/api/traces\">traces</a> <a href=\"/api/operations\">operations</a> \
             <a href=\"/api/services\">services</a> as JSON</footer>",
            counts.received, counts.duplicates, counts.evicted_spans, counts.refused
        ),
    );
    document("spanweave live", 5, &body)
}

fn list(body: &mut String, traces: &[Trace], order: Order) {
    let links: String = Order::ALL
        .iter()
        .map(|other| {
            format!(
                "<a{} href=\"/?{}\">{}</a>",
                if *other == order { " class=\"on\"" } else { "" },
                other.query(),
                other.title(),
            )
        })
        .collect();
    put(
        body,
        format_args!(
            "<section><nav>{links}</nav><h2>Traces</h2><div class=\"scroll\"><table><thead><tr><th>Root<th>Services\
             <th class=\"n\">Spans<th class=\"n\">Errors<th class=\"n\">Duration<th class=\"bar\"></tr></thead><tbody>"
        ),
    );
    let shown = order.apply(traces);
    let longest =
        shown.iter().map(|trace| trace.duration_ns()).max().map_or(1, |longest| longest.max(1));
    for trace in shown {
        let summary = trace.summary();
        let services: String = summary.services.iter().map(|service| chip(service)).collect();
        put(
            body,
            format_args!(
                "<tr{}><td><a href=\"/trace/{}\">{}</a> <small>{}{}</small><td>{services}<td class=\"n\">{}\
                 <td class=\"n err\">{}<td class=\"n\">{}<td class=\"bar\">{}</tr>",
                if summary.errors > 0 { " class=\"bad\"" } else { "" },
                summary.trace_id,
                Escaped(&summary.operation),
                Escaped(&summary.service),
                if summary.complete { "" } else { " · incomplete" },
                summary.spans,
                if summary.errors > 0 { summary.errors.to_string() } else { String::new() },
                format_duration(summary.duration_ns),
                meter(summary.duration_ns, longest, &service_class(&summary.service)),
            ),
        );
    }
    body.push_str("</tbody></table></div></section>");
}

fn services(body: &mut String, traces: &[Trace]) {
    let edges = service_edges(traces);
    put(
        body,
        format_args!(
            "<section><h2>Who calls whom</h2>{}<table><thead><tr><th>Caller<th>Callee<th class=\"n\">Calls\
             <th class=\"n\">Errors<th class=\"n\">p50<th class=\"n\">p95</tr></thead><tbody>",
            map::svg(&edges)
        ),
    );
    for edge in edges.iter().take(ROWS) {
        let callee = match edge.kind {
            EdgeKind::Service => chip(&edge.callee),
            EdgeKind::Database => {
                format!("<span class=\"silent\">⛁ {}</span>", Escaped(&edge.callee))
            }
            EdgeKind::External => {
                format!("<span class=\"silent\">↗ {}</span>", Escaped(&edge.callee))
            }
        };
        put(
            body,
            format_args!(
                "<tr><td>{}<td>→ {callee}<td class=\"n\">{}<td class=\"n err\">{}<td class=\"n\">{}<td class=\"n\">{}</tr>",
                chip(&edge.caller),
                edge.calls,
                if edge.errors > 0 { edge.errors.to_string() } else { String::new() },
                format_duration(edge.p50_ns),
                format_duration(edge.p95_ns),
            ),
        );
    }
    body.push_str("</tbody></table></section>");
}

fn findings(body: &mut String, traces: &[Trace]) {
    body.push_str("<section><h2>Findings</h2><ul class=\"findings\">");
    let (errors, repeated) = (error_traces(traces), repeated_calls(traces));
    if errors.is_empty() && repeated.is_empty() {
        body.push_str("<li>No errors, no repeated calls.");
    }
    let errors =
        grouped(errors.iter().map(|error| {
            ((&error.origin_service, &error.origin_operation, &error.error_type), error)
        }));
    for (count, error) in errors.into_iter().take(FINDINGS) {
        put(
            body,
            format_args!(
                "<li><b class=\"err\">✗ {}</b> in {}<a href=\"/trace/{}\">{}</a> <small>{}</small><small class=\"line\">{}</small>",
                Escaped(error.error_type.as_deref().unwrap_or("error")),
                chip(&error.origin_service),
                error.trace_id,
                Escaped(&error.origin_operation),
                in_traces(count),
                Escaped(error.message.as_deref().unwrap_or_default()),
            ),
        );
    }
    let repeated = grouped(
        repeated.iter().map(|calls| ((&calls.service, &calls.operation, &calls.call), calls)),
    );
    for (count, calls) in repeated.into_iter().take(FINDINGS) {
        put(
            body,
            format_args!(
                "<li><b>N+1: {} calls, {}</b> in {}<a href=\"/trace/{}\">{}</a> <small>{}</small><small class=\"line\">{}</small>",
                calls.count,
                format_duration(calls.total_ns),
                chip(&calls.service),
                calls.trace_id,
                Escaped(&calls.operation),
                in_traces(count),
                Escaped(&calls.call),
            ),
        );
    }
    body.push_str("</ul></section>");
}

/// Equal findings as one, the most frequent first; the last of each stands for it.
fn grouped<K: Ord, T>(findings: impl IntoIterator<Item = (K, T)>) -> Vec<(usize, T)> {
    let mut groups: BTreeMap<K, (usize, T)> = BTreeMap::new();
    for (key, finding) in findings {
        let count = groups.get(&key).map_or(0, |(count, _)| *count);
        groups.insert(key, (count + 1, finding));
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|(count, _)| Reverse(*count));
    groups
}

fn in_traces(count: usize) -> String {
    if count == 1 { String::new() } else { format!("{count} times") }
}

fn slowest(body: &mut String, traces: &[Trace]) {
    body.push_str(
        "<section><h2>Operations by self time</h2><div class=\"scroll\"><table class=\"operations\"><thead><tr><th>Service<th>Operation<th>Kind\
         <th class=\"n\">Count<th class=\"n\">Errors<th class=\"n\">p50<th class=\"n\">p95<th class=\"n\">p99\
         <th class=\"n\">Self<th class=\"bar\"></tr></thead><tbody>",
    );
    let stats = operations(traces);
    let most = stats.first().map_or(1, |stats| stats.self_ns.max(1));
    for stats in stats.iter().take(ROWS) {
        put(
            body,
            format_args!(
                "<tr><td>{}<td>{}<td><small>{}</small><td class=\"n\">{}<td class=\"n err\">{}<td class=\"n\">{}\
                 <td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"bar\">{}</tr>",
                chip(&stats.service),
                Escaped(&stats.operation),
                stats.kind,
                stats.count,
                if stats.errors > 0 { stats.errors.to_string() } else { String::new() },
                format_duration(stats.p50_ns),
                format_duration(stats.p95_ns),
                format_duration(stats.p99_ns),
                format_duration(stats.self_ns),
                meter(stats.self_ns, most, &service_class(&stats.service)),
            ),
        );
    }
    body.push_str("</tbody></table></div></section>");
}

fn tile(name: &str, value: u64, bad: bool) -> String {
    format!("<div{}><dt>{name}<dd>{value}</div>", if bad { " class=\"bad\"" } else { "" })
}

pub(super) fn chip(service: &str) -> String {
    format!("<span class=\"chip {}\">{}</span>", service_class(service), Escaped(service))
}

fn meter(value: u64, most: u64, class: &str) -> String {
    format!(
        "<svg class=\"meter {class}\"><rect width=\"{:.2}%\" height=\"100%\" rx=\"2\"/></svg>",
        (value as f64 / most as f64 * 100.0).max(0.5)
    )
}

/// Writing to a String cannot fail.
pub(super) fn put(body: &mut String, text: std::fmt::Arguments<'_>) {
    body.write_fmt(text).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::sample_traces;

    #[test]
    fn the_order_decides_which_traces_are_listed() {
        let traces = sample_traces();
        let ids = |order: Order| {
            order
                .apply(&traces)
                .iter()
                .map(|trace| u128::from_be_bytes(*trace.id().as_bytes()))
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(Order::of(None)), [3, 2, 1]);
        assert_eq!(ids(Order::of(Some("slowest"))), [2, 1, 3]);
        assert_eq!(ids(Order::of(Some("failed"))), [1]);
        assert_eq!(Order::of(Some("<x>")), Order::Latest);
    }

    #[test]
    fn equal_findings_are_one_and_the_most_frequent_comes_first() {
        let found = grouped([("a", 1), ("b", 2), ("b", 3)]);
        assert_eq!(found, [(2, 3), (1, 1)]);
    }
}
