use std::collections::BTreeMap;

use serde::Serialize;

use super::operations::percentile;
use super::tree::Trace;
use crate::model::{SpanKind, StoredSpan};

/// Calls from one service to another, or to something that sends no spans. Times are nanoseconds, as the
/// caller sees them where its span is here, else as the callee does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceEdge {
    /// The calling service.
    pub caller: String,
    /// The called service, or the database or host.
    pub callee: String,
    /// What the callee is.
    pub kind: EdgeKind,
    /// Number of calls.
    pub calls: u64,
    /// Of those with status Error on either side.
    pub errors: u64,
    /// Median duration, exact.
    pub p50_ns: u64,
    /// 95th percentile, exact.
    pub p95_ns: u64,
}

/// What is at the far end of a [`ServiceEdge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EdgeKind {
    /// A service whose spans are here.
    Service,
    /// A database, by `db.system.name` and `db.namespace`.
    Database,
    /// Another callee without spans, by `service.peer.name` or `server.address`.
    External,
}

/// The dependency map: by caller, then callee.
///
/// A SERVER or CONSUMER span whose parent belongs to another service is a call between them. A CLIENT or
/// PRODUCER span that no such span answered is a call to a database or to an external host.
#[must_use]
pub fn service_edges(traces: &[Trace]) -> Vec<ServiceEdge> {
    #[derive(Default)]
    struct Sums {
        durations: Vec<u64>,
        errors: u64,
    }
    let mut edges: BTreeMap<(String, String, EdgeKind), Sums> = BTreeMap::new();
    let mut add = |caller: &str, callee: String, kind, duration, error| {
        let sums = edges.entry((caller.to_owned(), callee, kind)).or_default();
        sums.durations.push(duration);
        sums.errors += u64::from(error);
    };
    for trace in traces {
        for (index, span) in trace.spans().iter().enumerate() {
            if is_incoming(span)
                && let Some(parent) = trace.parent(index).map(|parent| &trace.spans()[parent])
                && parent.service != span.service
            {
                let seen = if is_outgoing(parent) { parent } else { span };
                add(
                    &parent.service,
                    span.service.clone(),
                    EdgeKind::Service,
                    seen.duration_ns(),
                    span.is_error() || (is_outgoing(parent) && parent.is_error()),
                );
            }
            let answered =
                || trace.children(index).iter().any(|&child| is_incoming(&trace.spans()[child]));
            if is_outgoing(span)
                && !answered()
                && let Some((callee, kind)) = silent_callee(span)
            {
                add(&span.service, callee, kind, span.duration_ns(), span.is_error());
            }
        }
    }
    edges
        .into_iter()
        .map(|((caller, callee, kind), mut sums)| {
            sums.durations.sort_unstable();
            ServiceEdge {
                caller,
                callee,
                kind,
                calls: sums.durations.len() as u64,
                errors: sums.errors,
                p50_ns: percentile(&sums.durations, 50),
                p95_ns: percentile(&sums.durations, 95),
            }
        })
        .collect()
}

pub(super) fn is_outgoing(span: &StoredSpan) -> bool {
    matches!(span.kind, SpanKind::Client | SpanKind::Producer)
}

fn is_incoming(span: &StoredSpan) -> bool {
    matches!(span.kind, SpanKind::Server | SpanKind::Consumer)
}

fn silent_callee(span: &StoredSpan) -> Option<(String, EdgeKind)> {
    if let Some(system) = span.text("db.system.name").or_else(|| span.text("db.system")) {
        let callee = match span.text("db.namespace") {
            Some(namespace) => format!("{system} {namespace}"),
            None => system.to_owned(),
        };
        return Some((callee, EdgeKind::Database));
    }
    ["service.peer.name", "peer.service", "server.address"]
        .iter()
        .find_map(|key| span.text(key))
        .map(|callee| (callee.to_owned(), EdgeKind::External))
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::trace;
    use super::*;
    use crate::model::sample::{MS, span};

    #[test]
    fn client_and_server_spans_make_an_edge_and_silent_callees_too() {
        let edges = service_edges(&[trace([
            span(1, 0, 0, 100).of("gateway", "GET /", SpanKind::Server),
            span(2, 1, 10, 30).of("gateway", "GET", SpanKind::Client),
            span(3, 2, 12, 28).of("users", "GET /users/{id}", SpanKind::Server).failed(""),
            span(4, 3, 13, 20)
                .of("users", "SELECT users", SpanKind::Client)
                .with("db.system.name", "sqlite"),
            span(5, 1, 40, 50)
                .of("gateway", "GET", SpanKind::Client)
                .with("server.address", "api.example.com"),
            span(6, 1, 60, 70).of("gateway", "inner", SpanKind::Server),
        ])]);
        let seen: Vec<_> = edges
            .iter()
            .map(|edge| (&*edge.caller, &*edge.callee, edge.kind, edge.errors, edge.p50_ns / MS))
            .collect();
        assert_eq!(
            seen,
            [
                ("gateway", "api.example.com", EdgeKind::External, 0, 10),
                ("gateway", "users", EdgeKind::Service, 1, 20),
                ("users", "sqlite", EdgeKind::Database, 0, 7),
            ]
        );
    }

    #[test]
    fn a_server_under_a_foreign_span_that_is_no_client_is_still_a_call() {
        let edges = service_edges(&[trace([
            span(1, 0, 0, 9).of("cron", "job", SpanKind::Internal),
            span(2, 1, 1, 8).of("mail", "send", SpanKind::Consumer),
        ])]);
        assert_eq!(edges.len(), 1);
        assert_eq!((&*edges[0].caller, &*edges[0].callee), ("cron", "mail"));
        assert_eq!(edges[0].p95_ns, 7 * MS);
    }
}
