//! Durable backends.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spanweave_core::SpanSink;
use spanweave_core::clock::{self, Deadline};
use spanweave_core::ledger::DropReason;
use spanweave_exporter::{Backend, MultiExporter, Policy, RetryPolicy, replay};
use support::{Server, batch, closed_port, ok, status, wait_until, wide_batch};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

fn exporter(backends: impl IntoIterator<Item = Backend>) -> MultiExporter {
    let builder = MultiExporter::builder();
    backends
        .into_iter()
        .fold(builder, |builder, backend| builder.export_to(backend))
        .build()
        .unwrap()
}

fn quick() -> RetryPolicy {
    let delay = Duration::from_millis(20);
    RetryPolicy::default().initial_delay(delay).max_delay(delay).give_up_after(None)
}

fn received(server: &Server) -> Vec<u64> {
    let mut all: Vec<u64> = server.received().iter().flat_map(|r| r.spans()).collect();
    all.sort_unstable();
    all
}

#[test]
fn what_a_process_leaves_is_delivered_by_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let down = || Backend::otlp_http(format!("http://{}", closed_port())).durable(folder.path());
    let first = exporter([down().retry(quick())]);
    for number in 0..20 {
        first.accept(batch(number * 50..(number + 1) * 50));
    }
    let report = first.shutdown(Deadline::after(Duration::from_millis(100))).remove(0);
    assert_eq!((report.delivered, report.dropped_total(), report.pending), (0, 0, 1000));

    let server = Server::start(|_, _| ok());
    let second = exporter([Backend::otlp_http(server.url()).durable(folder.path())]);
    wait_until("all are delivered", || second.reports()[0].delivered == 1000);
    let report = second.shutdown(soon()).remove(0);
    assert_eq!((report.recovered, report.pending), (1000, 0));
    assert!(report.is_balanced() && report.ended == 0, "{report:?}");
    assert_eq!(received(&server), (1..=1000).collect::<Vec<_>>());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left on disk");
}

#[test]
fn a_backend_that_is_down_holds_up_no_other_one_on_the_same_spool() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| ok());
    let exporter = exporter([
        Backend::otlp_http(format!("http://{}", closed_port()))
            .named("down")
            .durable(folder.path()),
        Backend::otlp_http(server.url()).named("up").durable(folder.path()),
    ]);
    for number in 0..10 {
        exporter.accept(batch(number * 10..(number + 1) * 10));
    }
    wait_until("the other has all", || exporter.reports()[1].delivered == 100);
    let reports = exporter.shutdown(Deadline::after(Duration::from_millis(50)));
    assert_eq!((reports[0].pending, reports[1].pending), (100, 0));
    assert_eq!(received(&server), (1..=100).collect::<Vec<_>>());
}

#[test]
fn a_flush_of_a_durable_backend_waits_for_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let up = Arc::new(AtomicBool::new(false));
    let is_up = up.clone();
    let server =
        Server::start(move |_, _| if is_up.load(Ordering::Relaxed) { ok() } else { status(503) });
    let exporter =
        exporter([Backend::otlp_http(server.url()).durable(folder.path()).retry(quick())]);
    exporter.accept(batch(0..10));
    let early = exporter.flush(Deadline::after(Duration::from_millis(100))).remove(0);
    assert_eq!((early.delivered, early.pending), (0, 10));
    up.store(true, Ordering::Relaxed);
    let done = exporter.flush(soon()).remove(0);
    assert_eq!((done.delivered, done.pending), (10, 0));
}

#[test]
fn records_are_at_most_a_mebibyte_and_larger_spans_are_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| ok());
    let exporter = exporter([Backend::otlp_http(server.url()).durable(folder.path())]);
    exporter.accept(wide_batch(0..40, 100_000));
    exporter.accept(wide_batch(40..41, 3_000_000));
    let report = exporter.shutdown(soon()).remove(0);
    assert_eq!((report.delivered, report.pending), (41, 0));
    let sizes: Vec<usize> = server.received().iter().map(|r| r.body.len()).collect();
    assert_eq!(sizes.iter().filter(|size| **size > 1024 * 1024).count(), 1, "{sizes:?}");
    assert_eq!(received(&server), (1..=41).collect::<Vec<_>>());
}

#[test]
fn a_directory_that_cannot_be_used_means_memory_and_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let server = Server::start(|_, _| ok());
    let exporter = exporter([Backend::otlp_http(server.url()).durable(file.join("spool"))]);
    exporter.accept(batch(0..10));
    let report = exporter.shutdown(soon()).remove(0);
    assert_eq!((report.delivered, report.pending), (10, 0));
}

#[test]
fn backends_with_policies_share_a_spool_and_get_their_own_spans() {
    let folder = tempfile::tempdir().unwrap();
    let (all, none) = (Server::start(|_, _| ok()), Server::start(|_, _| ok()));
    let exporter = exporter([
        Backend::otlp_http(all.url()).named("all").durable(folder.path()),
        Backend::otlp_http(none.url())
            .named("errors")
            .durable(folder.path())
            .policy(Policy::new().only_errors()),
        Backend::otlp_http(all.url()).json().named("json").durable(folder.path()),
    ]);
    for number in 0..10 {
        exporter.accept(batch(number * 10..(number + 1) * 10));
    }
    let reports = exporter.shutdown(soon());
    let delivered: Vec<u64> = reports.iter().map(|report| report.delivered).collect();
    assert_eq!(delivered, [100, 0, 100], "{reports:?}");
    assert_eq!((reports[1].sampled_out, none.received().len()), (100, 0));
    let json = all.received();
    let json = json.iter().filter(|r| r.header("content-type") == Some("application/json"));
    assert_eq!(json.flat_map(|r| r.json_spans()).collect::<BTreeSet<_>>().len(), 100);
}

#[test]
fn the_size_limit_is_counted_by_reason() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::otlp_http(format!("http://{}", closed_port()));
    let exporter = exporter([backend.durable(folder.path()).spool_bytes(256 * 1024)]);
    for number in 0..100 {
        exporter.accept(wide_batch(number..number + 1, 20_000));
    }
    let report = exporter.shutdown(Deadline::after(Duration::from_millis(50))).remove(0);
    let full = report.dropped.iter().find(|(reason, _)| *reason == DropReason::SpoolFull);
    assert!(full.is_some_and(|(_, count)| (80..100).contains(count)), "{report:?}");
    assert_eq!(report.dropped_total() + report.pending, 100);
}

#[test]
fn the_age_limit_holds_while_the_only_backend_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::otlp_http(format!("http://{}", closed_port()));
    let aged = backend.durable(folder.path()).spool_age(Duration::from_millis(500));
    let exporter = exporter([aged]);
    for number in 0..20 {
        exporter.accept(batch(number * 10..(number + 1) * 10));
    }
    // Some are with the lane already.
    wait_until("the others expire", || exporter.reports()[0].pending <= 40);
    let report = exporter.shutdown(Deadline::after(Duration::ZERO)).remove(0);
    let expired = report.dropped.iter().find(|(reason, _)| *reason == DropReason::SpoolExpired);
    assert!(expired.is_some_and(|(_, count)| *count >= 160), "{report:?}");
    assert_eq!(report.dropped_total() + report.pending, 200, "{report:?}");
}

#[test]
fn a_spool_and_a_recorded_file_are_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, file) = (folder.path().join("spool"), folder.path().join("spans.jsonl"));
    let first = exporter([
        Backend::otlp_http(format!("http://{}", closed_port())).durable(&spool),
        Backend::file(&file),
    ]);
    for number in 0..10 {
        first.accept(batch(number * 10..(number + 1) * 10));
    }
    first.shutdown(Deadline::after(Duration::from_millis(200)));

    let patience = Duration::from_secs(5);
    let server = Server::start(|_, _| ok());
    let mut steps = 0;
    let done = replay::replay(&spool, Backend::otlp_http(server.url()), patience, |_| steps += 1);
    assert!(done.unwrap().is_complete() && steps > 0);
    assert_eq!(received(&server), (1..=100).collect::<Vec<_>>());

    let server = Server::start(|_, _| ok());
    let mut text = std::fs::read(&file).unwrap();
    text.extend(b"{\"resourceSpans\":[{\n");
    std::fs::write(&file, text).unwrap();
    let done = replay::replay(&file, Backend::otlp_http(server.url()), patience, |_| {}).unwrap();
    assert_eq!((done.read, done.delivered, done.damaged), (100, 100, 1));
    let json: BTreeSet<u64> = server.received().iter().flat_map(|r| r.json_spans()).collect();
    assert_eq!(json, (1..=100).collect());
    let down = Backend::otlp_http(format!("http://{}", closed_port()));
    let left = replay::replay(&spool, down, Duration::from_millis(100), |_| {}).unwrap();
    assert_eq!((left.delivered, left.dropped, left.pending), (0, 0, 100));
    let missing = folder.path().join("missing");
    replay::replay(&missing, Backend::otlp_http(server.url()), patience, |_| {}).unwrap_err();
}

#[test]
fn a_hundred_mebibytes_are_taken_over_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let down = || Backend::otlp_http(format!("http://{}", closed_port())).durable(folder.path());
    let first = exporter([down()]);
    let wide = wide_batch(0..100, 10_000);
    for _ in 0..100 {
        first.accept(wide.clone());
    }
    first.shutdown(Deadline::after(Duration::ZERO));
    let start = clock::instant();
    let second = exporter([down()]);
    let took = start.elapsed();
    assert_eq!(second.reports()[0].recovered, 10_000);
    // Debug builds check sums slowly.
    let limit = if cfg!(debug_assertions) { 10 } else { 1 };
    assert!(took < Duration::from_secs(limit), "{took:?}");
    second.shutdown(Deadline::after(Duration::ZERO));
}
