//! What a run amounts to: as text for people, and as one JSON object.

mod text;

use std::collections::BTreeMap;

use serde::Serialize;
use spanweave_live::Trace;

use crate::load::Tally;
use crate::protocol::BackendLine;

/// All that there is to say about a run.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) tally: Tally,
    /// How long the requests took together.
    pub(crate) seconds: f64,
    /// What the collector has.
    pub(crate) traces: Vec<Trace>,
    /// Backends over all services, in their order.
    pub(crate) backends: Vec<BackendLine>,
    pub(crate) files: Vec<String>,
    /// The folder of the files.
    pub(crate) out: String,
    /// Service and URL.
    pub(crate) metrics: BTreeMap<String, String>,
    /// Spans that `/metrics` of all services counted; `None` if one could not be asked.
    pub(crate) counted: Option<u64>,
    /// The environment has a sampler or filter, or turns telemetry off.
    pub(crate) thinned: bool,
}

impl Findings {
    fn spans(&self) -> usize {
        self.traces.iter().map(Trace::len).sum()
    }

    /// Traces without exactly one root, or with spans whose parent is missing.
    fn broken(&self) -> usize {
        let whole = |trace: &&Trace| trace.roots().len() == 1 && trace.orphans().is_empty();
        self.traces.len() - self.traces.iter().filter(whole).count()
    }

    /// What must hold after a run, and whether it does. Counts of spans and traces are left out
    /// where a sampler or filter keeps spans from the collector on purpose.
    pub(crate) fn checks(&self) -> Vec<(bool, String)> {
        let mut checks = Vec::new();
        if !self.thinned {
            let (spans, traces) = (self.spans() as u64, self.traces.len() as u64);
            checks.push(match self.counted {
                Some(counted) => (
                    counted == spans,
                    format!("exact metrics: {counted} spans counted, {spans} received"),
                ),
                None => (false, "exact metrics: a service could not be asked".to_owned()),
            });
            let requests = self.tally.requests();
            checks
                .push((traces == requests, format!("one trace a request: {traces} of {requests}")));
            let broken = self.broken();
            checks.push((
                broken == 0,
                format!("whole traces: {broken} without one root or with missing spans"),
            ));
        }
        let unexpected = self.tally.unexpected;
        checks.push((unexpected == 0, format!("expected answers: {unexpected} others")));
        checks
    }

    /// As text of several lines.
    pub(crate) fn text(&self) -> String {
        text::text(self)
    }

    /// As JSON in one line.
    pub(crate) fn json(&self) -> String {
        #[derive(Serialize)]
        struct Backend {
            delivered: u64,
            dropped: u64,
            pending: u64,
        }
        #[derive(Serialize)]
        struct Summary<'a> {
            requests: u64,
            traces: usize,
            spans: usize,
            spans_by_service: BTreeMap<String, u64>,
            error_traces: usize,
            files: &'a [String],
            metrics: &'a BTreeMap<String, String>,
            backends: BTreeMap<&'a str, Backend>,
        }
        let backend = |line: &BackendLine| Backend {
            delivered: line.delivered,
            dropped: line.dropped,
            pending: line.pending,
        };
        let summary = Summary {
            requests: self.tally.requests(),
            traces: self.traces.len(),
            spans: self.spans(),
            spans_by_service: spanweave_live::spans_by_service(&self.traces),
            error_traces: spanweave_live::error_traces(&self.traces).len(),
            files: &self.files,
            metrics: &self.metrics,
            backends: self
                .backends
                .iter()
                .map(|line| (line.name.as_str(), backend(line)))
                .collect(),
        };
        // Maps with text for keys and numbers always have a form in JSON.
        serde_json::to_string(&summary).unwrap_or_default()
    }
}

/// Sums the services' backends by name, in the order in which they first come.
pub(crate) fn sum_backends(
    services: impl IntoIterator<Item = Vec<BackendLine>>,
) -> Vec<BackendLine> {
    let mut sums: Vec<BackendLine> = Vec::new();
    for line in services.into_iter().flatten() {
        match sums.iter_mut().find(|sum| sum.name == line.name) {
            Some(sum) => {
                sum.delivered += line.delivered;
                sum.dropped += line.dropped;
                sum.pending += line.pending;
                sum.last_error = sum.last_error.take().or(line.last_error);
            }
            None => sums.push(line),
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use spanweave_live::{SpanId, SpanKind, StatusCode, StoredSpan, TraceId, Transport};

    use super::*;

    const MS: u64 = 1_000_000;

    fn span(trace: u8, id: u8, parent: u8, service: &str, name: &str, ms: u64) -> StoredSpan {
        StoredSpan {
            trace_id: TraceId::from_bytes(&[trace; 16]).unwrap(),
            span_id: SpanId::from_bytes(&[id; 8]).unwrap(),
            parent: SpanId::from_bytes(&[parent; 8]),
            name: name.to_owned(),
            kind: SpanKind::Server,
            service: service.to_owned(),
            start_ns: 1_700_000_000_000 * MS,
            end_ns: (1_700_000_000_000 + ms) * MS,
            status: StatusCode::Unset,
            status_message: String::new(),
            attributes: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
            flags: 1,
            trace_state: String::new(),
            dropped_attributes: 0,
            dropped_events: 0,
            dropped_links: 0,
            scope: Arc::default(),
            resource: Arc::default(),
            via: Transport::Grpc,
        }
    }

    fn line(name: &str, delivered: u64, dropped: u64) -> BackendLine {
        BackendLine { name: name.to_owned(), delivered, dropped, pending: 1, last_error: None }
    }

    fn findings() -> Findings {
        let mut failed = span(2, 1, 0, "gateway", "POST /orders", 9);
        failed.status = StatusCode::Error;
        failed.attributes.push(("error.type".to_owned(), "500".into()));
        let spans = [
            span(1, 1, 0, "gateway", "GET /users/{id}", 20),
            span(1, 2, 1, "users", "GET /users/{id}", 10),
            failed,
        ];
        Findings {
            tally: Tally { ok: 1, failed: 1, ..Tally::default() },
            seconds: 0.5,
            traces: Trace::group(spans.map(Arc::new)),
            backends: vec![line("file", 3, 0), line("otlp", 0, 3)],
            files: vec!["out/gateway.jsonl".to_owned()],
            out: "out".to_owned(),
            metrics: BTreeMap::from([("users".to_owned(), "http://m".to_owned())]),
            counted: Some(3),
            thinned: false,
        }
    }

    #[test]
    fn the_json_has_exactly_the_promised_keys() {
        let json: serde_json::Value = serde_json::from_str(&findings().json()).unwrap();
        let expected = serde_json::json!({
            "requests": 2,
            "traces": 2,
            "spans": 3,
            "spans_by_service": { "gateway": 2, "users": 1 },
            "error_traces": 1,
            "files": ["out/gateway.jsonl"],
            "metrics": { "users": "http://m" },
            "backends": {
                "file": { "delivered": 3, "dropped": 0, "pending": 1 },
                "otlp": { "delivered": 0, "dropped": 3, "pending": 1 },
            },
        });
        assert_eq!(json, expected);
        assert!(!findings().json().contains('\n'));
    }

    #[test]
    fn the_text_says_what_matters() {
        let text = findings().text();
        for part in [
            "2 requests",
            "2 traces, 3 spans",
            "gateway 2",
            "POST /orders",
            "exact metrics: 3 spans counted",
            "3 dropped",
            "http://m",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("WRONG"), "{text}");
    }

    #[test]
    fn a_check_that_fails_is_shown() {
        let mut orphan = findings();
        orphan.counted = Some(4);
        orphan.traces = Trace::group([Arc::new(span(1, 2, 1, "users", "x", 1))]);
        let text = orphan.text();
        assert_eq!(text.matches("WRONG").count(), 3, "{text}");
    }

    #[test]
    fn a_run_without_traces_has_a_summary_too() {
        let empty = Findings { traces: Vec::new(), tally: Tally::default(), ..findings() };
        assert!(empty.text().contains("0 requests"));
        assert!(serde_json::from_str::<serde_json::Value>(&empty.json()).is_ok());
    }

    #[test]
    fn backends_are_summed_by_name_over_the_services() {
        let sums = sum_backends([
            vec![line("a", 1, 0), line("b", 2, 0)],
            vec![line("a", 10, 5), line("b", 20, 0)],
        ]);
        let figures: Vec<_> =
            sums.iter().map(|sum| (&*sum.name, sum.delivered, sum.dropped, sum.pending)).collect();
        assert_eq!(figures, [("a", 11, 5, 2), ("b", 22, 0, 2)]);
    }
}
