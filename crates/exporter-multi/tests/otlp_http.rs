//! OTLP/HTTP lanes against scripted servers.

mod support;

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use spanweave_core::SpanSink;
use spanweave_core::clock::{self, Deadline};
use spanweave_core::ledger::{BackendReport, DropReason};
use spanweave_exporter::{Backend, Compression, MultiExporter, RetryPolicy};
use support::{Answer, Server, batch, closed_port, ok, status, wait_until};

fn exporter(backends: impl IntoIterator<Item = Backend>) -> MultiExporter {
    backends
        .into_iter()
        .fold(MultiExporter::builder(), |b, backend| b.export_to(backend))
        .build()
        .unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

fn eager() -> RetryPolicy {
    RetryPolicy::default()
        .initial_delay(Duration::from_millis(5))
        .max_delay(Duration::from_millis(20))
}

fn dropped(report: &BackendReport, reason: DropReason) -> u64 {
    report.dropped.iter().find(|(of, _)| *of == reason).map_or(0, |(_, count)| *count)
}

#[test]
fn spans_arrive_with_the_headers_that_otlp_asks_for() {
    let server = Server::start(|_, _| ok());
    let backend = Backend::otlp_http(server.url()).header("api-key", "k").named("vendor");
    let exporter = exporter([backend]);
    exporter.accept(batch(0..3));
    exporter.accept(batch(3..5));
    let reports = exporter.flush(soon());
    assert_eq!(
        (reports[0].name.as_str(), reports[0].delivered, reports[0].pending),
        ("vendor", 5, 0)
    );
    assert_eq!(reports[0].kind, "otlp_http_span_exporter");
    let received = server.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].head[0], "POST /v1/traces HTTP/1.1");
    assert_eq!(received[0].header("content-type"), Some("application/x-protobuf"));
    assert_eq!(received[0].header("api-key"), Some("k"));
    assert!(received[0].header("user-agent").unwrap().starts_with("spanweave/"));
    assert!(received[0].header("user-agent").unwrap().contains(" OTel-OTLP-Exporter-Rust/"));
    let mut spans = [received[0].spans(), received[1].spans()].concat();
    spans.sort_unstable();
    assert_eq!(spans, [1, 2, 3, 4, 5]);
}

#[test]
fn gzip_is_readable_and_the_plain_lane_beside_it_stays_plain() {
    let (plain, zipped) = (Server::start(|_, _| ok()), Server::start(|_, _| ok()));
    let exporter = exporter([
        Backend::otlp_http(plain.url()),
        Backend::otlp_http(zipped.url()).compression(Compression::Gzip),
    ]);
    exporter.accept(batch(0..200));
    exporter.flush(soon());
    assert_eq!(plain.received()[0].header("content-encoding"), None);
    assert_eq!(zipped.received()[0].header("content-encoding"), Some("gzip"));
    assert_eq!(plain.received()[0].spans(), zipped.received()[0].spans());
    assert!(zipped.received()[0].body.len() < plain.received()[0].body.len() / 2);
}

#[test]
fn json_is_sent_where_it_is_asked_for_and_halved_where_it_is_too_large() {
    let server = Server::start(|_, request| {
        if request.json_spans().contains(&4) {
            return status(413);
        }
        let body = br#"{"partialSuccess":{"rejectedSpans":"1"}}"#.to_vec();
        Answer::Reply(200, vec![("content-type", "application/json".into())], body)
    });
    let backend = Backend::otlp_http(server.url()).json().compression(Compression::Gzip);
    let exporter = exporter([backend]);
    exporter.accept(batch(0..4));
    let report = exporter.flush(soon()).remove(0);
    assert_eq!(report.kind, "otlp_http_json_span_exporter");
    assert_eq!((report.delivered, report.pending), (1, 0), "{report:?}");
    assert_eq!(report.dropped, [(DropReason::Rejected, 2), (DropReason::TooLarge, 1)]);
    let received = server.received();
    assert_eq!(received[0].header("content-type"), Some("application/json"));
    let sizes: Vec<_> = received.iter().map(|request| request.json_spans()).collect();
    assert_eq!(sizes, [vec![1, 2, 3, 4], vec![1, 2], vec![3, 4], vec![3], vec![4]]);
}

#[test]
fn a_dead_or_hanging_backend_does_not_delay_the_others() {
    let (hanging, healthy) = (Server::start(|_, _| Answer::Hang), Server::start(|_, _| ok()));
    let exporter = exporter([
        Backend::otlp_http(format!("http://{}", closed_port())).named("dead"),
        Backend::otlp_http(hanging.url()).named("hanging"),
        Backend::otlp_http(healthy.url()).named("healthy"),
    ]);
    let start = clock::instant();
    for number in 0..20 {
        exporter.accept(batch(number * 10..number * 10 + 10));
    }
    assert!(start.elapsed() < Duration::from_millis(500), "handing over does not wait");
    wait_until("the healthy backend has all", || exporter.reports()[2].delivered == 200);
    assert!(start.elapsed() < Duration::from_millis(1000));
    let reports = exporter.shutdown(Deadline::after(Duration::from_millis(200)));
    assert!(start.elapsed() < Duration::from_millis(1900), "{:?}", start.elapsed());
    for report in &reports[..2] {
        assert_eq!((report.delivered, report.pending), (0, 0), "{report:?}");
        assert_eq!(dropped(report, DropReason::Shutdown), 200);
    }
    assert!(reports[0].down_since.is_some() && reports[0].last_error.is_some());
}

#[test]
fn an_attempt_ends_at_its_deadline_and_later_batches_are_delivered() {
    let server = Server::start(|number, _| if number == 0 { Answer::Hang } else { ok() });
    let backend =
        Backend::otlp_http(server.url()).timeout(Duration::from_millis(200)).retry(eager());
    let exporter = exporter([backend]);
    exporter.accept(batch(0..1));
    exporter.accept(batch(1..2));
    let start = clock::instant();
    let reports = exporter.flush(soon());
    assert_eq!((reports[0].delivered, reports[0].pending), (2, 0));
    let received = server.received();
    let hung = received[0].spans();
    let first: Vec<_> = received.iter().filter(|request| request.spans() == hung).collect();
    let attempt = first[1].at - first[0].at;
    assert!((195..400).contains(&attempt.as_millis()), "{attempt:?}");
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn what_failed_for_a_while_is_delivered_once() {
    for failure in [status(503), status(429), status(502), status(504), Answer::Close] {
        let server =
            Server::start(move |number, _| if number < 3 { failure.clone() } else { ok() });
        let exporter = exporter([Backend::otlp_http(server.url()).retry(eager())]);
        exporter.accept(batch(0..2));
        exporter.accept(batch(2..3));
        let report = exporter.flush(soon()).remove(0);
        assert_eq!((report.delivered, report.dropped_total(), report.pending), (3, 0, 0));
        assert_eq!(report.down_since, None);
        let received = server.received();
        assert_eq!(received.len(), 5);
        let mut last = [received[3].spans(), received[4].spans()];
        last.sort();
        assert_eq!(last, [vec![1, 2], vec![3]]);
    }
}

#[test]
fn what_is_refused_for_good_is_not_sent_again() {
    for code in [400, 401, 403, 404, 500, 501, 301] {
        let server = Server::start(move |number, _| if number == 0 { status(code) } else { ok() });
        let exporter = exporter([Backend::otlp_http(server.url()).retry(eager())]);
        exporter.accept(batch(0..2));
        exporter.flush(soon());
        exporter.accept(batch(2..3));
        let report = exporter.flush(soon()).remove(0);
        assert_eq!((report.delivered, dropped(&report, DropReason::Refused)), (1, 2), "{code}");
        assert_eq!(server.received().len(), 2);
        assert_eq!(report.last_error, Some(format!("HTTP {code}")));
    }
}

#[test]
fn a_partial_success_is_counted_and_never_resent() {
    // ExportTraceServiceResponse { partial_success { rejected_spans: 3, error_message: "no" } }
    let body = vec![0x0a, 0x06, 0x08, 0x03, 0x12, 0x02, b'n', b'o'];
    let server = Server::start(move |_, _| {
        Answer::Reply(200, vec![("content-type", "application/x-protobuf".into())], body.clone())
    });
    let exporter = exporter([Backend::otlp_http(server.url())]);
    exporter.accept(batch(0..10));
    let report = exporter.flush(soon()).remove(0);
    assert_eq!(
        (report.delivered, dropped(&report, DropReason::Rejected), report.pending),
        (7, 3, 0)
    );
    assert_eq!(server.received().len(), 1);
}

#[test]
fn a_request_that_is_too_large_is_halved_until_only_the_offender_is_dropped() {
    let server =
        Server::start(|_, request| if request.spans().contains(&4) { status(413) } else { ok() });
    let exporter = exporter([Backend::otlp_http(server.url())]);
    exporter.accept(batch(0..7));
    let report = exporter.flush(soon()).remove(0);
    assert_eq!(
        (report.delivered, dropped(&report, DropReason::TooLarge), report.pending),
        (6, 1, 0)
    );
    let delivered = server.received().into_iter().filter(|request| !request.spans().contains(&4));
    let mut delivered: Vec<_> = delivered.flat_map(|request| request.spans()).collect();
    delivered.sort_unstable();
    assert_eq!(delivered, [1, 2, 3, 5, 6, 7]);
}

#[test]
fn nothing_is_sent_before_the_time_that_the_backend_named() {
    let server = Server::start(|number, _| match number {
        0 => Answer::Reply(429, vec![("retry-after", "1".into())], Vec::new()),
        _ => ok(),
    });
    let exporter = exporter([Backend::otlp_http(server.url()).retry(eager())]);
    exporter.accept(batch(0..1));
    wait_until("the first request", || server.received().len() == 1);
    thread::sleep(Duration::from_millis(50));
    // A flush that could only end before that time does not wait for it, nor does it ask early.
    let start = clock::instant();
    let report = exporter.flush(Deadline::after(Duration::from_millis(500))).remove(0);
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    assert_eq!((report.delivered, report.pending), (0, 1));
    let report = exporter.flush(soon()).remove(0);
    assert_eq!((report.delivered, report.pending), (1, 0));
    let received = server.received();
    assert!(received[1].at - received[0].at >= Duration::from_secs(1));
}

#[test]
fn a_flush_does_not_wait_for_the_backoff() {
    let server = Server::start(|number, _| if number == 0 { status(503) } else { ok() });
    let slow = RetryPolicy::default()
        .initial_delay(Duration::from_secs(3600))
        .max_delay(Duration::from_secs(3600));
    let exporter = exporter([Backend::otlp_http(server.url()).retry(slow)]);
    exporter.accept(batch(0..1));
    wait_until("the first request failed", || exporter.reports()[0].last_error.is_some());
    let report = exporter.flush(Deadline::after(Duration::from_millis(500))).remove(0);
    assert_eq!((report.delivered, report.pending), (1, 0));
}

#[test]
fn a_flush_never_takes_longer_than_its_deadline() {
    let exporter = exporter([Backend::otlp_http(format!("http://{}", closed_port()))]);
    exporter.accept(batch(0..1));
    let start = clock::instant();
    let report = exporter.flush(Deadline::after(Duration::from_millis(200))).remove(0);
    assert_eq!(report.pending, 1);
    assert!((190..400).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[test]
fn a_full_queue_drops_the_newest_and_counts_them() {
    let server = Server::start(|_, _| Answer::Hang);
    let exporter = exporter([Backend::otlp_http(server.url()).queue_bytes(1000)]);
    for number in 0..100 {
        exporter.accept(batch(number..number + 1));
    }
    let report = exporter.reports().remove(0);
    let lost = dropped(&report, DropReason::BackendQueueFull);
    assert!((80..99).contains(&lost), "{report:?}");
    assert_eq!(report.pending + lost, 100);
    exporter.shutdown(Deadline::after(Duration::ZERO));
}

#[test]
fn retries_run_out_where_the_backend_answers_but_not_where_it_is_away() {
    let policy = eager().give_up_after(Some(Duration::from_millis(50)));
    let server = Server::start(|_, _| status(503));
    let exporter = exporter([
        Backend::otlp_http(server.url()).retry(policy),
        Backend::otlp_http(format!("http://{}", closed_port())).retry(policy),
    ]);
    exporter.accept(batch(0..1));
    wait_until("it is given up", || dropped(&exporter.reports()[0], DropReason::Refused) == 1);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(exporter.reports()[1].pending, 1);
    exporter.shutdown(Deadline::after(Duration::ZERO));
}

#[test]
fn a_hostile_response_costs_a_lane_little_and_is_a_delivery() {
    let server = Server::start(|_, _| Answer::Endless);
    let exporter = exporter([Backend::otlp_http(server.url())]);
    exporter.accept(batch(0..1));
    let report = exporter.flush(soon()).remove(0);
    assert_eq!((report.delivered, server.received().len()), (1, 1));
}

#[test]
fn a_compressed_answer_is_not_unpacked() {
    // 64 MiB of zeros in some 64 KiB; we asked for no compression.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut std::io::repeat(0).take(64 << 20), &mut encoder).unwrap();
    let bomb = encoder.finish().unwrap();
    let headers =
        vec![("content-encoding", "gzip".into()), ("content-type", "application/json".into())];
    let server = Server::start(move |_, _| Answer::Reply(200, headers.clone(), bomb.clone()));
    let exporter = exporter([Backend::otlp_http(server.url())]);
    let before = resident();
    exporter.accept(batch(0..3));
    assert_eq!(exporter.flush(soon())[0].delivered, 3);
    let grown = resident().saturating_sub(before);
    // Other tests of this process have memory, too.
    assert!(grown < 32 << 20, "{grown} bytes");
}

/// Resident memory in bytes, where the system tells it.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0) * 4096
}

#[test]
fn shutdown_twice_and_from_many_threads_gives_the_same_report() {
    let server = Server::start(|_, _| Answer::Hang);
    let exporter = Arc::new(exporter([Backend::otlp_http(server.url())]));
    exporter.accept(batch(0..5));
    let start = clock::instant();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let exporter = exporter.clone();
            thread::spawn(move || exporter.shutdown(Deadline::after(Duration::from_millis(200))))
        })
        .collect();
    let reports: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(start.elapsed() < Duration::from_millis(700), "{:?}", start.elapsed());
    assert!(reports.iter().all(|report| *report == reports[0]), "{reports:?}");
    assert_eq!(dropped(&reports[0][0], DropReason::Shutdown), 5);
    // What comes later is counted, and does not change the report.
    exporter.accept(batch(5..7));
    assert_eq!(exporter.shutdown(soon()), reports[0]);
    assert_eq!(dropped(&exporter.reports()[0], DropReason::AfterShutdown), 2);
}

#[test]
fn a_shutdown_ends_the_request_that_is_under_way() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let exporter = exporter([Backend::otlp_http(url)]);
    exporter.accept(batch(0..1));
    let (mut stream, _) = listener.accept().unwrap();
    let mut buffer = [0; 4096];
    assert!(stream.read(&mut buffer).unwrap() > 0);
    exporter.shutdown(Deadline::after(Duration::from_millis(50)));
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    // The connection ends, and does not run into the timeout of the request.
    while stream.read(&mut buffer).unwrap() > 0 {}
}

#[test]
fn shutdown_works_inside_and_outside_of_any_runtime() {
    let run = |name: &str| {
        let server = Server::start(|_, _| ok());
        let exporter = exporter([Backend::otlp_http(server.url())]);
        exporter.accept(batch(0..3));
        let report = exporter.shutdown(soon()).remove(0);
        assert_eq!((report.delivered, report.pending), (3, 0), "{name}");
    };
    run("no runtime");
    let current = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    current.block_on(async { run("current_thread") });
    let multi =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    multi.block_on(async {
        tokio::spawn(async move { run("one worker") }).await.unwrap();
        tokio::task::spawn_blocking(move || run("spawn_blocking")).await.unwrap();
    });
}

#[test]
fn a_connection_is_kept_and_used_again() {
    let server = Server::start(|_, _| ok());
    let exporter = exporter([Backend::otlp_http(server.url())]);
    for number in 0..5 {
        exporter.accept(batch(number..number + 1));
        exporter.flush(soon());
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.received().len(), 5);
    assert_eq!(server.connections(), 1);
}
