//! Hand-off, flush, shutdown.

use std::time::{Duration, Instant};

use spanweave_core::clock::Deadline;
use spanweave_core::{DropReason, Overflow, Queue};

use crate::support::{fixture, fixture_with};

#[test]
fn every_span_of_a_burst_from_many_threads_is_accounted_for() {
    let queue = Queue { spans: 200, ..Queue::default() };
    let fixture = fixture_with(|config| config.queue = queue);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let dispatch = fixture.dispatch();
            scope.spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    for _ in 0..5_000 {
                        drop(tracing::info_span!("burst").entered());
                    }
                });
            });
        }
    });
    let delivered = fixture.finished().len() as u64;
    let ledger = fixture.pipeline.ledger();
    let dropped = ledger.dropped().get(DropReason::QueueFull);
    assert_eq!(ledger.pipeline().ended, 40_000);
    assert_eq!(delivered + dropped, 40_000);
    assert_eq!(ledger.pipeline().pending, 0);
}

#[test]
fn a_blocking_queue_loses_nothing() {
    let queue = Queue { spans: 64, overflow: Overflow::Block, ..Queue::default() };
    let fixture = fixture_with(|config| config.queue = queue);
    fixture.run(|| {
        for _ in 0..5_000 {
            drop(tracing::info_span!("patient").entered());
        }
    });
    assert_eq!(fixture.finished().len(), 5_000);
}

#[test]
fn a_span_waits_for_the_worker_no_longer_than_its_batch_may() {
    let fixture = fixture_with(|config| config.batch.delay = Duration::from_millis(50));
    fixture.run(|| drop(tracing::info_span!("lonely").entered()));
    let deadline = Instant::now() + Duration::from_secs(5);
    while fixture.pipeline.ledger().pipeline().pending > 0 {
        assert!(Instant::now() < deadline, "never handed to the sink");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn shutdown_is_done_once_and_everybody_gets_its_report() {
    let fixture = fixture();
    fixture.run(|| drop(tracing::info_span!("last").entered()));
    let reports: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let pipeline = fixture.pipeline.clone();
                scope.spawn(move || pipeline.shutdown(Deadline::after(Duration::from_secs(5))))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(reports[0].is_complete(), "{:?}", reports[0]);
    assert_eq!(reports[0].backends[0].delivered, 1);
    assert!(reports.iter().all(|report| *report == reports[0]));
}

#[test]
fn spans_after_the_shutdown_are_counted() {
    let fixture = fixture();
    fixture.pipeline.shutdown(Deadline::after(Duration::from_secs(5)));
    fixture.run(|| {
        for _ in 0..3 {
            drop(tracing::info_span!("late").entered());
        }
    });
    let ledger = fixture.pipeline.ledger();
    assert_eq!(ledger.dropped().get(DropReason::AfterShutdown), 3);
    assert_eq!(ledger.pipeline().pending, 0);
}

#[test]
fn many_short_lived_threads_leave_nothing_behind() {
    let fixture = fixture();
    for _ in 0..300 {
        let dispatch = fixture.dispatch();
        std::thread::spawn(move || {
            tracing::dispatcher::with_default(&dispatch, || {
                drop(tracing::info_span!("short").entered());
            });
        })
        .join()
        .unwrap();
    }
    assert_eq!(fixture.finished().len(), 300);
    assert_eq!(fixture.pipeline.ledger().pipeline().started, 300);
}

#[test]
fn names_made_at_run_time_stay_apart_when_memory_is_used_again() {
    let fixture = fixture();
    for round in 0..3 {
        fixture.run(|| {
            for number in 0..50 {
                let name = format!("operation {round}.{number}");
                drop(tracing::info_span!("callsite", otel.name = name).entered());
            }
        });
        fixture.finished();
    }
    let mut names: Vec<_> = fixture.finished().into_iter().map(|span| span.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 150);
    assert!(names.iter().all(|name| name.matches("operation").count() == 1), "{names:?}");
}

#[test]
fn idle_threads_do_not_use_up_a_blocking_queue() {
    let queue = Queue { spans: 128, overflow: Overflow::Block, ..Queue::default() };
    let fixture = fixture_with(|config| config.queue = queue);
    let dispatches: Vec<_> = (0..200).map(|_| fixture.dispatch()).collect();
    let done = std::sync::Barrier::new(dispatches.len());
    std::thread::scope(|scope| {
        for dispatch in dispatches {
            let done = &done;
            scope.spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    drop(tracing::info_span!("one each").entered());
                });
                done.wait();
            });
        }
    });
    assert_eq!(fixture.finished().len(), 200);
}

#[test]
fn a_second_shutdown_does_not_wait_for_the_first_one_beyond_its_own_deadline() {
    struct Slow(std::sync::Barrier);
    impl spanweave_core::SpanHook for Slow {
        fn shutdown(&self, _: Deadline) -> Result<(), spanweave_core::BoxError> {
            self.0.wait();
            self.0.wait();
            Ok(())
        }
    }
    let slow = std::sync::Arc::new(Slow(std::sync::Barrier::new(2)));
    let fixture = fixture_with(|config| config.hooks.push(slow.clone()));
    std::thread::scope(|scope| {
        let first = fixture.pipeline.clone();
        scope.spawn(move || first.shutdown(Deadline::after(Duration::from_secs(60))));
        slow.0.wait();
        let report = fixture.pipeline.shutdown(Deadline::after(Duration::from_millis(10)));
        assert!(report.timed_out);
        slow.0.wait();
    });
}
