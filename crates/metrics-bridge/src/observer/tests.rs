use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use opentelemetry::trace::SpanKind;

use super::*;
use crate::names;
use crate::series_table::Row;
use crate::testing::{FakeSpan, recorder, recorder_with};
use crate::{Metrics, SpanMetric};

fn rows(recorder: &Recorder) -> Vec<Row> {
    recorder.table().snapshot(recorder.shards())
}

fn total(rows: &[Row], metric: SpanMetric) -> u64 {
    rows.iter().filter(|row| row.series.key.metric == metric).map(Row::count).sum()
}

fn operations(rows: &[Row], metric: SpanMetric) -> Vec<String> {
    let of_metric = rows.iter().filter(|row| row.series.key.metric == metric);
    of_metric.map(|row| row.series.key.values[0].to_string()).collect()
}

#[test]
fn counts_are_exact_and_never_go_back_under_threads_and_scrapes() {
    const THREADS: u64 = 8;
    const SPANS: u64 = 40_000;
    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
    let recorder = recorder(2_000);
    let done = AtomicBool::new(false);
    let nanos = AtomicU64::new(0);
    let failed = AtomicU64::new(0);
    thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut last: std::collections::HashMap<u32, Vec<u64>> = Default::default();
            let mut scrapes = 0;
            while !done.load(Ordering::Acquire) {
                for row in rows(&recorder) {
                    let before = last.insert(row.series.id, row.cells.to_vec());
                    for (before, now) in before.iter().flatten().zip(&row.cells) {
                        assert!(before <= now, "a cell went back from {before} to {now}");
                    }
                }
                scrapes += 1;
            }
            scrapes
        });
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (recorder, nanos, failed) = (&recorder, &nanos, &failed);
                scope.spawn(move || {
                    let mut random = thread + 1;
                    for _ in 0..SPANS {
                        // xorshift: any spread will do.
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let at = random % NAMES.len() as u64;
                        let mut span = match random >> 20 & 3 {
                            0 => FakeSpan::named(&format!("GET /{at}")),
                            _ => FakeSpan::at(at as u32, NAMES[at as usize]),
                        };
                        span.nanos = random >> 8 & 0xf_ffff_ffff;
                        if random >> 30 & 7 == 0 {
                            span = span.failed("timeout");
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                        nanos.fetch_add(span.nanos, Ordering::Relaxed);
                        recorder.ended(&span);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Release);
        assert!(scraper.join().unwrap() > 0);
    });
    let rows = rows(&recorder);
    assert_eq!(total(&rows, SpanMetric::Spans), THREADS * SPANS);
    assert_eq!(total(&rows, SpanMetric::Errors), failed.load(Ordering::Relaxed));
    let of_spans = rows.iter().filter(|row| row.series.key.metric == SpanMetric::Spans);
    assert_eq!(of_spans.map(Row::sum).sum::<u64>(), nanos.load(Ordering::Relaxed));
    assert_eq!(recorder.shards().len(), 0, "the blocks of ended threads are folded");
}

#[test]
fn a_callsite_that_changes_its_kind_or_status_counts_where_it_belongs() {
    let recorder = recorder(2_000);
    let mut span = FakeSpan::at(3, "work");
    recorder.ended(&span);
    span.kind = SpanKind::Client;
    recorder.ended(&span);
    recorder.ended(&span);
    span.status = StatusCode::Ok;
    recorder.ended(&span);
    let counts: Vec<_> = rows(&recorder)
        .iter()
        .filter(|row| row.series.key.metric == SpanMetric::Spans)
        .map(|row| (row.series.key.kind, row.series.key.status, row.count()))
        .collect();
    assert_eq!(counts, [(0, 0, 1), (2, 0, 2), (2, 1, 1)]);
}

#[test]
fn above_the_limit_spans_count_as_other_and_none_is_lost() {
    let recorder = recorder(10);
    for at in 0..10_000 {
        let mut span = FakeSpan::named(&format!("op{at}")).failed(&format!("error{at}"));
        span.kind = SpanKind::Server;
        span.local_root = true;
        span.caller = Some(format!("caller{at}"));
        recorder.ended(&span);
    }
    let rows = rows(&recorder);
    for metric in [SpanMetric::Spans, SpanMetric::Errors, SpanMetric::Requests] {
        assert_eq!(total(&rows, metric), 10_000);
        let names = operations(&rows, metric);
        assert_eq!(names.len(), 11, "ten series and the one for the rest");
        assert_eq!(names.iter().filter(|name| *name == names::OTHER).count(), 1);
        assert_eq!(recorder.table().count(metric), 10);
    }
}

#[test]
fn a_series_that_expires_is_folded_and_its_name_can_come_back() {
    let recorder = recorder(2);
    let old = FakeSpan::at(0, "old");
    let hour = Duration::from_secs(3600);
    let late = clock::now() + 2 * 3_600_000_000_000;
    recorder.ended(&old);
    recorder.ended(&FakeSpan::named("busy"));
    recorder.ended(&FakeSpan::named("crowded out"));
    let first = rows(&recorder);
    assert_eq!(operations(&first, SpanMetric::Spans), ["old", "busy", names::OTHER]);
    recorder.table().expire(&first, hour, clock::now(), recorder.shards());
    assert_eq!(rows(&recorder).len(), 3, "nothing is old yet");

    // Another thread goes on with the series that expires, from its cache.
    let (to_thread, orders) = std::sync::mpsc::channel::<()>();
    let (report, done) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let shared = &recorder;
        scope.spawn(move || {
            shared.ended(&FakeSpan::at(0, "old"));
            report.send(()).unwrap();
            orders.recv().unwrap();
        });
        done.recv().unwrap();
        recorder.ended(&FakeSpan::named("busy"));
        let second = rows(&recorder);
        recorder.table().expire(&second, hour, clock::now(), recorder.shards());
        let third = rows(&recorder);
        recorder.ended(&FakeSpan::named("busy"));
        let fourth = rows(&recorder);
        recorder.table().expire(&fourth, hour, late, recorder.shards());
        let fifth = rows(&recorder);
        recorder.ended(&FakeSpan::named("busy"));
        assert_eq!(total(&fifth, SpanMetric::Spans), total(&third, SpanMetric::Spans) + 1);
        assert_eq!(operations(&fifth, SpanMetric::Spans), ["busy", names::OTHER]);
        to_thread.send(()).unwrap();
    });
    // An overflow series never expires, and nothing is forgotten for its sake.
    let epoch = recorder.table().epoch();
    let overflow: Vec<Row> = rows(&recorder)
        .into_iter()
        .filter(|row| &*row.series.key.values[0] == names::OTHER)
        .collect();
    recorder.table().expire(&overflow, hour, 2 * late, recorder.shards());
    assert_eq!(recorder.table().epoch(), epoch);
    recorder.ended(&old);
    recorder.ended(&FakeSpan::named("crowded out"));
    let last = rows(&recorder);
    assert_eq!(total(&last, SpanMetric::Spans), 9);
    assert_eq!(operations(&last, SpanMetric::Spans), ["busy", names::OTHER, "old"]);
}

#[test]
fn a_thread_that_ends_still_counts() {
    struct Late(Arc<Recorder>);
    impl Drop for Late {
        fn drop(&mut self) {
            let mut span = FakeSpan::named("late").failed("timeout");
            span.kind = SpanKind::Server;
            span.local_root = true;
            self.0.ended(&span);
        }
    }
    thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });
    let recorder = recorder(2_000);
    let shared = recorder.clone();
    thread::spawn(move || {
        // Destructors run in the order of registration: the caches are gone when this one runs.
        shared.ended(&FakeSpan::named("early"));
        LATE.set(Some(Late(shared)));
    })
    .join()
    .unwrap();
    let rows = rows(&recorder);
    assert_eq!(total(&rows, SpanMetric::Spans), 2);
    assert_eq!(total(&rows, SpanMetric::Errors), 1);
    assert_eq!(total(&rows, SpanMetric::Requests), 1);
}

#[test]
fn an_exemplar_is_published_only_for_a_span_that_was_kept() {
    let recorder = recorder(2_000);
    let kept = recorder.ended(&FakeSpan::named("work").failed("timeout"));
    recorder.ended(&FakeSpan::named("other"));
    let exemplars = |rows: &[Row]| -> Vec<_> {
        rows.iter().map(|row| lock(&row.series.exemplars).newest().copied()).collect()
    };
    assert!(exemplars(&rows(&recorder)).iter().all(Option::is_none));
    recorder.kept(kept, TraceId::from(7), SpanId::from(8), 9);
    let expected =
        Exemplar { trace_id: TraceId::from(7), span_id: SpanId::from(8), value: 1_000, at: 9 };
    let rows = rows(&recorder);
    let names = operations(&rows, SpanMetric::Spans);
    assert_eq!(names, ["work", "other"]);
    let by_id = exemplars(&rows);
    assert_eq!(by_id.iter().flatten().count(), 2, "the span's and its error's: {by_id:?}");
    assert!(by_id.iter().flatten().all(|exemplar| *exemplar == expected));
    recorder.kept(Measurement { series: u64::MAX, value: 1 }, TraceId::from(7), SpanId::from(8), 9);
}

#[test]
fn a_label_of_an_attribute_tells_series_apart_and_is_masked() {
    let recorder = recorder_with(&Metrics::default().labels(["tenant", "api_key"]));
    for tenant in ["a", "b", "a"] {
        let mut span = FakeSpan::at(0, "work");
        span.attributes = vec![
            ("tenant".to_owned(), tenant.to_owned()),
            ("api_key".to_owned(), "s3cret".to_owned()),
        ];
        recorder.ended(&span);
    }
    recorder.ended(&FakeSpan::at(0, "work"));
    let rows = rows(&recorder);
    let labels: Vec<_> = rows.iter().map(|row| row.series.key.values[1..].to_vec()).collect();
    let masked = spanweave_core::masking::MASK;
    assert_eq!(labels, [["a", masked], ["b", masked], ["", ""]].map(|l| l.map(Arc::from).to_vec()));
    assert_eq!(rows.iter().map(Row::count).collect::<Vec<_>>(), [2, 1, 1]);
}

#[test]
fn a_request_names_the_caller_or_says_that_it_is_unknown() {
    let recorder = recorder(2_000);
    let mut span = FakeSpan::at(0, "GET /");
    span.kind = SpanKind::Server;
    recorder.ended(&span);
    span.local_root = true;
    recorder.ended(&span);
    span.caller = Some("gateway".to_owned());
    recorder.ended(&span);
    span.kind = SpanKind::Internal;
    recorder.ended(&span);
    assert_eq!(operations(&rows(&recorder), SpanMetric::Requests), [names::UNKNOWN, "gateway"]);
}

#[test]
fn a_call_names_the_callee_and_a_failed_request_is_told_apart() {
    let recorder = recorder(2_000);
    let mut span = FakeSpan::named("GET");
    span.kind = SpanKind::Client;
    recorder.ended(&span);
    span.attributes = vec![("service.peer.name".to_owned(), "users".to_owned())];
    recorder.ended(&span);
    recorder.ended(&span.clone().failed("timeout"));
    span.attributes = vec![("db.system.name".to_owned(), "sqlite".to_owned())];
    recorder.ended(&span);
    let rows = rows(&recorder);
    assert_eq!(operations(&rows, SpanMetric::Calls), [names::UNKNOWN, "users", "users", "sqlite"]);
    assert_eq!(recorder.table().count(SpanMetric::Calls), 3, "the status is no label");
    assert_eq!(total(&rows, SpanMetric::Database), 1);
}

#[test]
fn an_expired_series_with_bounds_of_its_own_loses_nothing() {
    let settings = Metrics::default().operation_buckets("slow", [60.0, 600.0]);
    let recorder = recorder_with(&settings);
    let mut slow = FakeSpan::at(0, "slow");
    slow.nanos = 61_000_000_000;
    recorder.ended(&slow);
    recorder.ended(&FakeSpan::named("slow"));
    let before = rows(&recorder);
    assert_eq!(before[0].buckets(), [1, 1, 0]);
    let late = clock::now() + 2_000_000_000;
    for now in [clock::now(), late] {
        recorder.table().expire(&before, Duration::from_secs(1), now, recorder.shards());
    }
    for settled in [false, true] {
        let after = rows(&recorder);
        assert_eq!(operations(&after, SpanMetric::Spans)[0], names::OTHER);
        assert_eq!((after[0].count(), after[0].sum()), (2, 61_000_001_000));
        assert_eq!(after[0].buckets().last(), Some(&2), "60 s and 600 s are above 30 s");
        if !settled {
            recorder.ended(&FakeSpan::named("another"));
        }
    }
}

#[test]
fn a_request_that_is_over_is_not_active_whatever_thread_ends_it() {
    let recorder = recorder(2_000);
    let mut span = FakeSpan::named("GET /");
    span.kind = SpanKind::Server;
    span.attributes = vec![("http.request.method".to_owned(), "GET".to_owned())];
    let active = |recorder: &Recorder| -> Vec<i64> {
        let rows = rows(recorder);
        let active = rows.iter().filter(|r| r.series.key.metric == SpanMetric::ActiveRequests);
        active.map(|row| row.count().cast_signed()).collect()
    };
    recorder.ended(&span);
    assert_eq!(active(&recorder), [0_i64; 0], "it was not counted when it started");
    span.flagged = true;
    thread::scope(|scope| {
        scope.spawn(|| recorder.ended(&span));
    });
    assert_eq!(active(&recorder), [-1]);
    for now in [clock::now(), clock::now() + 2_000_000_000] {
        recorder.table().expire(&rows(&recorder), Duration::from_secs(1), now, recorder.shards());
    }
    assert_eq!(active(&recorder), [-1], "it does not expire");
}
