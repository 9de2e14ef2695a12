//! Serves the page with made-up traces of a small shop, to look at: `cargo run -p spanweave-live --example page`.
//! An argument is the port, 4318 by default. Ends with Ctrl-C.

#![allow(clippy::print_stdout)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use spanweave_live::{
    Collector, CollectorConfig, Event, SpanId, SpanKind, StatusCode, StoredSpan, TraceId,
    Transport, Value, render_trace,
};

const US: u64 = 1_000;

/// One trace being made up; times are microseconds from its start.
struct Story {
    trace_id: TraceId,
    start_ns: u64,
    spans: Vec<StoredSpan>,
}

impl Story {
    fn new(n: u64) -> Self {
        let id = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) | 1;
        Self {
            trace_id: TraceId::from_bytes(&id.to_be_bytes()).expect("not zero"),
            start_ns: 1_700_000_000_000_000_000 + n * 250_000 * US,
            spans: Vec::new(),
        }
    }

    fn span(
        &mut self,
        parent: Option<usize>,
        service: &str,
        name: &str,
        kind: SpanKind,
        from: u64,
        to: u64,
    ) -> usize {
        let n = self.spans.len() as u64 + 1;
        self.spans.push(StoredSpan {
            trace_id: self.trace_id,
            span_id: SpanId::from_bytes(&n.to_be_bytes()).expect("not zero"),
            parent: parent.map(|parent| self.spans[parent].span_id),
            name: name.to_owned(),
            kind,
            service: service.to_owned(),
            start_ns: self.start_ns + from * US,
            end_ns: self.start_ns + to * US,
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
        });
        self.spans.len() - 1
    }

    fn query(&mut self, parent: usize, service: &str, text: &str, from: u64, to: u64) -> usize {
        let name = text.split(" WHERE").next().unwrap_or(text).to_owned();
        let span = self.span(Some(parent), service, &name, SpanKind::Client, from, to);
        self.set(span, "db.system.name", "sqlite");
        self.set(span, "db.query.text", text);
        span
    }

    fn set(&mut self, span: usize, key: &str, value: impl Into<Value>) {
        self.spans[span].attributes.push((key.to_owned(), value.into()));
    }

    fn fail(&mut self, span: usize, error_type: &str, message: &str) {
        self.set(span, "error.type", error_type);
        let span = &mut self.spans[span];
        span.status = StatusCode::Error;
        message.clone_into(&mut span.status_message);
        span.events.push(Event {
            name: "exception".to_owned(),
            time_ns: span.end_ns - (span.end_ns - span.start_ns) / 8,
            attributes: vec![("exception.message".to_owned(), message.into())],
        });
    }
}

/// A checkout: look up the user, then the order with its items one by one.
fn checkout(n: u64) -> Vec<StoredSpan> {
    let mut story = Story::new(n);
    let jitter = n * 7919 % 23 * 900;
    let total = 74_000 + jitter;
    let root = story.span(None, "gateway", "POST /checkout", SpanKind::Server, 0, total);
    story.set(root, "http.request.method", "POST");
    story.set(root, "http.route", "/checkout");
    story.set(root, "http.response.status_code", 200);
    let get = story.span(Some(root), "gateway", "GET", SpanKind::Client, 1_800, 14_000);
    let user = story.span(Some(get), "users", "GET /users/{id}", SpanKind::Server, 2_600, 13_300);
    story.query(user, "users", "SELECT users WHERE id = ?", 3_400, 9_900);
    story.span(Some(root), "gateway", "audit", SpanKind::Internal, 9_000, 31_000);
    let post = story.span(Some(root), "gateway", "POST", SpanKind::Client, 16_000, total - 3_000);
    let order =
        story.span(Some(post), "orders", "POST /orders", SpanKind::Server, 17_000, total - 4_000);
    let place =
        story.span(Some(order), "orders", "place_order", SpanKind::Internal, 18_000, total - 5_000);
    for item in 0..6 {
        let from = 19_000 + item * 4_100;
        story.query(
            place,
            "orders",
            "SELECT items WHERE order_id = ? AND line = ?",
            from,
            from + 3_300,
        );
    }
    let insert = story.query(place, "orders", "INSERT orders", 44_500, total - 7_000 - n % 3 * 900);
    if n.is_multiple_of(5) {
        story.fail(insert, "sqlite::Busy", "database is locked");
        for span in [place, order, post, root] {
            story.fail(span, "500", "");
        }
    }
    story.spans
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(4318), |port| port.parse())?;
    let collector = Collector::start(
        CollectorConfig::default().http_address(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
    )?;
    for n in 1..=24 {
        collector.store().add(checkout(n));
        if n % 3 == 0 {
            let mut story = Story::new(1000 + n);
            let root = story.span(None, "gateway", "GET /health", SpanKind::Server, 0, 900);
            story.set(root, "http.route", "/health");
            collector.store().add(story.spans);
        }
    }
    if let Some(trace) = collector.store().traces().first() {
        println!("{}", render_trace(trace, 120));
    }
    println!("{}/", collector.http_endpoint());
    loop {
        std::thread::park();
    }
}
