//! The tools tested with each other, over real sockets.

// Delays are checked by the clock.
#![allow(clippy::disallowed_methods)]

use std::net::TcpStream;
use std::time::{Duration, Instant};

use spanweave_testkit::{
    ScriptedServer, TcpProxy, TestCollector, Transport, Verdict, assert_attribute, assert_child_of,
    assert_error, assert_no_attribute, assert_root, assert_same_trace, assert_within, eventually,
    http,
};

/// `count` spans of one trace, the first the root and the others under it.
fn spans(count: u64) -> Vec<u8> {
    let spans: Vec<_> = (1..=count)
        .map(|n| {
            serde_json::json!({
                "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
                "spanId": format!("{n:016x}"),
                "parentSpanId": if n > 1 { "0000000000000001" } else { "" },
                "name": format!("op{n}"),
                "startTimeUnixNano": (1000 + n).to_string(),
                "endTimeUnixNano": (2000 - n).to_string(),
                "attributes": [{ "key": "n", "value": { "intValue": n.to_string() } }],
                "status": if n == 2 { serde_json::json!({ "code": 2 }) } else { serde_json::json!({}) },
                "events": [{ "name": "exception", "timeUnixNano": "1500", "attributes": [
                    { "key": "exception.type", "value": { "stringValue": "Broken" } }
                ]}],
            })
        })
        .collect();
    serde_json::json!({ "resourceSpans": [{
        "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "users" } }] },
        "scopeSpans": [{ "spans": spans }],
    }]})
    .to_string()
    .into_bytes()
}

fn send(endpoint: &str, count: u64) -> std::io::Result<u16> {
    http::send(
        "POST",
        &format!("{endpoint}/v1/traces"),
        &[("Content-Type", "application/json")],
        &spans(count),
    )
    .map(|answer| answer.status)
}

#[test]
fn expectations_hold_where_they_should_and_panic_where_not() {
    let collector = TestCollector::start();
    assert_eq!(send(&collector.http_endpoint(), 2).unwrap(), 200);
    assert_eq!(collector.wait_for_spans(2).len(), 2);
    let (root, child) = (collector.span_named("op1"), collector.wait_for_span("op2"));
    assert_root(&root);
    assert_child_of(&child, &root);
    assert_within(&child, &root);
    assert_same_trace([&*root, &*child]);
    assert_attribute(&child, "n", 2);
    assert_no_attribute(&child, "m");
    assert_error(&child, "Broken");
    assert_eq!(collector.trace_of(&child).len(), 2);

    for broken in [
        std::panic::catch_unwind(|| assert_root(&child)),
        std::panic::catch_unwind(|| assert_child_of(&root, &child)),
        std::panic::catch_unwind(|| assert_within(&root, &child)),
        std::panic::catch_unwind(|| assert_attribute(&child, "n", "2")),
        std::panic::catch_unwind(|| assert_no_attribute(&child, "n")),
        std::panic::catch_unwind(|| assert_error(&root, "Broken")),
    ] {
        assert!(broken.is_err());
    }
}

#[test]
fn a_script_is_followed_and_every_request_recorded() {
    let server = ScriptedServer::start([
        Verdict::http_status(503).header("Retry-After", "1"),
        Verdict::partial_success(1, "one").after(Duration::from_millis(40)),
    ]);
    let endpoint = server.http_endpoint();
    assert_eq!(send(&endpoint, 3).unwrap(), 503);
    let before = Instant::now();
    assert_eq!(send(&endpoint, 3).unwrap(), 200);
    assert!(before.elapsed() >= Duration::from_millis(40));
    server.answer_always(Verdict::http_status(400).body("no"));
    assert_eq!(send(&endpoint, 1).unwrap(), 400);

    let requests = server.wait_for_requests(3);
    assert_eq!(requests[0].spans.len(), 3);
    assert_eq!(requests[0].transport, Transport::HttpJson);
    assert_eq!(requests[0].headers["content-type"], "application/json");
    assert_eq!(server.gaps().len(), 2);
    assert!(server.gaps()[1] >= Duration::from_millis(40));
    let sent = server.sent_spans();
    assert_eq!((sent.unique(), sent.total(), sent.duplicates()), (3, 7, 4));
    assert_eq!(server.collector().store().len(), 2);
}

#[test]
fn a_proxy_passes_delays_cuts_and_refuses() {
    let collector = TestCollector::start();
    let proxy = TcpProxy::to(&collector.http_endpoint());
    let endpoint = proxy.endpoint();
    assert_eq!(send(&endpoint, 1).unwrap(), 200);
    assert_eq!(proxy.connections(), 1);
    assert!(proxy.bytes_to_server() > 300 && proxy.bytes_to_client() > 20);

    proxy.delay(Duration::from_millis(50));
    let before = Instant::now();
    assert_eq!(send(&endpoint, 2).unwrap(), 200);
    assert!(before.elapsed() >= Duration::from_millis(100), "there and back");
    proxy.delay(Duration::ZERO);

    proxy.down();
    assert!(send(&endpoint, 1).is_err());
    assert!(TcpStream::connect(proxy.address()).is_err());
    proxy.up();
    assert_eq!(send(&endpoint, 3).unwrap(), 200);
    assert_eq!(collector.unique_spans(), 3);
}

#[test]
fn a_blackhole_holds_bytes_back_and_a_cut_ends_it() {
    let collector = TestCollector::start();
    let proxy = TcpProxy::to(&collector.http_endpoint());
    let endpoint = proxy.endpoint();

    proxy.blackhole(true);
    let sender = std::thread::spawn({
        let endpoint = endpoint.clone();
        move || send(&endpoint, 1)
    });
    eventually("the connection is accepted", || proxy.connections() == 1);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!((proxy.bytes_to_server(), collector.counts().messages), (0, 0));
    proxy.blackhole(false);
    assert_eq!(sender.join().unwrap().unwrap(), 200);

    proxy.blackhole(true);
    let sender = std::thread::spawn(move || send(&endpoint, 2));
    eventually("the connection is accepted", || proxy.connections() == 2);
    proxy.cut();
    assert!(sender.join().unwrap().is_err());
    assert_eq!(collector.unique_spans(), 1);
}
