//! What backends answer.

use std::time::Duration;

use spanweave::{Backend, DropReason};
use spanweave_testkit::{CollectorConfig, ScriptedServer, TestCollector, Verdict};

use crate::support::{T, eager, limits, line, make, now, telemetry};

#[test]
fn the_time_that_a_server_asks_for_is_given_to_it() {
    let wait = Duration::from_secs(2);
    for status in [429, 503] {
        let server = ScriptedServer::start([Verdict::http_status(status).retry_after(wait)]);
        let (telemetry, dispatch) =
            telemetry([Backend::otlp_http(server.http_endpoint()).named("a").retry(eager())]);
        make(&dispatch, 100);
        // Nobody who waits makes it earlier.
        let report = telemetry.shutdown(T);
        assert_eq!((line(&report, "a").delivered, line(&report, "a").dropped_total()), (100, 0));
        assert!(server.gaps()[0] >= wait, "{:?}", server.gaps());
    }
}

#[test]
fn a_day_is_not_waited_for_and_does_not_hold_up_a_shutdown() {
    let server = ScriptedServer::start([
        Verdict::http_status(429).header("retry-after", "86400"),
        Verdict::http_status(429).header("retry-after", "86400"),
    ]);
    let (telemetry, dispatch) =
        telemetry([Backend::otlp_http(server.http_endpoint()).named("a").retry(eager())]);
    make(&dispatch, 100);
    server.wait_for_requests(1);
    let start = now();
    let report = telemetry.shutdown(Duration::from_secs(1));
    assert!(start.elapsed() < Duration::from_millis(1300));
    assert_eq!(line(&report, "a").dropped, [(DropReason::Shutdown, 100)]);
    assert_eq!(server.requests().len(), 1, "no early request");
}

#[test]
fn many_clients_back_off_each_in_its_own_time() {
    let server = ScriptedServer::start([]);
    server.answer_always(Verdict::http_status(503));
    let clients: Vec<_> = (0..20)
        .map(|_| telemetry([Backend::otlp_http(server.http_endpoint()).named("a")]))
        .collect();
    clients.iter().for_each(|(_, dispatch)| make(dispatch, 10));
    std::thread::sleep(Duration::from_secs(4));
    let requests = server.requests();
    let start = requests[0].at;
    let in_second = |second: u64| {
        let range = Duration::from_secs(second)..Duration::from_secs(second + 1);
        requests.iter().filter(|request| range.contains(&(request.at - start))).count()
    };
    assert!(in_second(3) < in_second(0), "{} then {}", in_second(0), in_second(3));
    // Not in step: the retries fall into many different tenths of a second.
    let mut tenths: Vec<u128> =
        requests[20..].iter().map(|request| (request.at - start).as_millis() / 100).collect();
    tenths.dedup();
    assert!(tenths.len() > 8, "{tenths:?}");
    for (telemetry, _) in clients {
        telemetry.shutdown(Duration::ZERO);
    }
}

#[test]
fn of_a_request_that_is_too_large_only_the_offending_span_is_lost() {
    let config = CollectorConfig::default().hook(|request| {
        let offending = request.spans.iter().any(|span| &*span.name == "offending");
        if offending { Verdict::http_status(413) } else { Verdict::accept() }
    });
    let server = TestCollector::start_with(limits(config));
    let (telemetry, dispatch) =
        telemetry([Backend::otlp_http(server.http_endpoint()).named("a").retry(eager())]);
    make(&dispatch, 500);
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info_span!("offending").in_scope(|| ());
    });
    make(&dispatch, 499);
    let report = line(&telemetry.shutdown(T), "a");
    assert_eq!(report.dropped, [(DropReason::TooLarge, 1)], "{report:?}");
    assert_eq!((report.delivered, server.unique_spans()), (999, 999));
    assert_eq!(server.store().counts().duplicates, 0);
}

#[test]
fn what_a_partial_success_rejects_is_counted_and_not_sent_again() {
    let server = ScriptedServer::start([Verdict::partial_success(7, "seven are bad")]);
    let (telemetry, dispatch) =
        telemetry([Backend::otlp_http(server.http_endpoint()).named("a").retry(eager())]);
    make(&dispatch, 100);
    let report = line(&telemetry.shutdown(T), "a");
    assert_eq!((report.delivered, report.dropped), (93, vec![(DropReason::Rejected, 7)]));
    assert_eq!(server.sent_spans().duplicates(), 0);
}

#[test]
fn grpc_codes_follow_the_table_of_otlp_on_the_wire() {
    for code in 1..=16 {
        let retried = matches!(code, 1 | 4 | 10 | 11 | 14 | 15);
        let server = ScriptedServer::start([Verdict::grpc_code(code, "no")]);
        let (telemetry, dispatch) =
            telemetry([Backend::otlp_grpc(server.grpc_endpoint()).named("a").retry(eager())]);
        make(&dispatch, 100);
        let report = line(&telemetry.shutdown(T), "a");
        let expected = if retried { (100, 0) } else { (0, 100) };
        assert_eq!((report.delivered, report.dropped_total()), expected, "code {code}");
    }
    let exhausted = Verdict::grpc_code(8, "later").retry_after(Duration::from_millis(300));
    let server = ScriptedServer::start([exhausted]);
    let (telemetry, dispatch) =
        telemetry([Backend::otlp_grpc(server.grpc_endpoint()).named("a").retry(eager())]);
    make(&dispatch, 100);
    assert_eq!(line(&telemetry.shutdown(T), "a").delivered, 100);
    assert!(server.gaps()[0] >= Duration::from_millis(300), "{:?}", server.gaps());
}
