//! The end: at any time, from anywhere, within its deadline.

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use spanweave::{Backend, DropReason, ShutdownReport, Telemetry};
use spanweave_testkit::{FullBacklog, TestCollector, full_backlog_listener};
use spanweave_tests::{alone, timed};
use tracing::Dispatch;
use tracing_subscriber::layer::SubscriberExt;

const DEADLINE: Duration = Duration::from_secs(1);
/// What a shutdown may take beyond its deadline.
const SLACK: Duration = Duration::from_millis(200);
const SPANS: u64 = 1000;

/// Backends in the states that a shutdown may find them in.
struct Backends {
    up: TestCollector,
    /// Accepts connections and never says a word.
    silent: TcpListener,
    /// Does not even accept.
    full: FullBacklog,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Up,
    Down,
    Silent,
    NotAccepting,
}

impl Backends {
    fn start() -> Self {
        Self {
            up: TestCollector::start(),
            silent: TcpListener::bind("127.0.0.1:0").unwrap(),
            full: full_backlog_listener(),
        }
    }

    fn backend(&self, state: State) -> Backend {
        Backend::otlp_http(match state {
            State::Up => self.up.http_endpoint(),
            State::Down => "http://127.0.0.1:9".to_owned(),
            State::Silent => format!("http://{}", self.silent.local_addr().unwrap()),
            State::NotAccepting => self.full.endpoint(),
        })
    }
}

fn traced(backend: Backend) -> (Dispatch, Telemetry) {
    let (layer, telemetry) = spanweave::builder().export_to(backend).build().unwrap();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    tracing::dispatcher::with_default(&dispatch, || {
        for number in 0..SPANS {
            tracing::info_span!("work", number).in_scope(|| ());
        }
    });
    (dispatch, telemetry)
}

/// Has spans made in `place` and shut down there, whatever state the backend is in.
#[track_caller]
fn assert_ends_in_time(place: impl Fn(&dyn Fn() -> Telemetry) -> ShutdownReport) {
    let _machine = alone();
    let backends = Backends::start();
    for state in [State::Up, State::Down, State::Silent, State::NotAccepting] {
        let (report, took) = timed(|| place(&|| traced(backends.backend(state)).1));
        assert!(took < DEADLINE + SLACK, "{state:?}: {took:?}");
        let backend = &report.backends[0];
        assert!(backend.is_balanced() && backend.pending == 0, "{state:?}: {report:?}");
        assert_eq!(backend.ended, SPANS, "{state:?}: {report:?}");
        let expected = if state == State::Up { SPANS } else { 0 };
        assert_eq!(backend.delivered, expected, "{state:?}: {report:?}");
        assert_eq!(report.is_complete(), state == State::Up, "{report:?}");
    }
}

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn one_worker() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn a_shutdown_without_a_runtime_ends_in_time() {
    assert_ends_in_time(|start| start().shutdown(DEADLINE));
}

#[test]
fn a_shutdown_in_a_current_thread_runtime_ends_in_time() {
    assert_ends_in_time(|start| current_thread().block_on(async { start().shutdown(DEADLINE) }));
    assert_ends_in_time(|start| {
        current_thread().block_on(async { start().shutdown_async(DEADLINE).await })
    });
}

#[test]
fn a_shutdown_in_a_runtime_of_one_worker_ends_in_time() {
    assert_ends_in_time(|start| {
        let telemetry = start();
        let runtime = one_worker();
        runtime.block_on(async {
            tokio::spawn(async move { telemetry.shutdown(DEADLINE) }).await.unwrap()
        })
    });
    assert_ends_in_time(|start| {
        let telemetry = start();
        let runtime = one_worker();
        runtime.block_on(async {
            tokio::spawn(async move { telemetry.shutdown_async(DEADLINE).await }).await.unwrap()
        })
    });
}

#[test]
fn a_shutdown_in_spawn_blocking_ends_in_time() {
    assert_ends_in_time(|start| {
        let telemetry = start();
        let runtime = one_worker();
        runtime.block_on(async {
            tokio::task::spawn_blocking(move || telemetry.shutdown(DEADLINE)).await.unwrap()
        })
    });
}

#[test]
fn a_shutdown_after_the_runtime_has_gone_ends_in_time() {
    assert_ends_in_time(|start| {
        let runtime = one_worker();
        let telemetry = runtime.block_on(async { start() });
        drop(runtime);
        telemetry.shutdown(DEADLINE)
    });
}

#[test]
fn shutdowns_from_many_threads_are_one_shutdown() {
    let _machine = alone();
    let backends = Backends::start();
    let (_, telemetry) = traced(backends.backend(State::Silent));
    let (reports, took) = timed(|| {
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| telemetry.shutdown(DEADLINE))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        })
    });
    assert!(took < DEADLINE + SLACK, "{took:?}");
    assert!(reports.iter().all(|report| *report == reports[0]), "{reports:?}");
    assert_eq!(reports[0].backends[0].dropped_total(), SPANS);
    let (again, took) = timed(|| telemetry.shutdown(DEADLINE));
    assert!(again == reports[0] && took < SLACK, "{took:?}: {again:?}");
}

#[test]
fn spans_after_the_shutdown_are_counted_and_harmless() {
    let _machine = alone();
    let backends = Backends::start();
    let (dispatch, telemetry) = traced(backends.backend(State::Up));
    assert!(telemetry.shutdown(DEADLINE).is_complete());
    tracing::dispatcher::with_default(&dispatch, || {
        for _ in 0..7 {
            tracing::info_span!("late").in_scope(|| tracing::info!("later"));
        }
    });
    let report = telemetry.flush(DEADLINE);
    let backend = &report.backends[0];
    assert!(backend.is_balanced(), "{backend:?}");
    assert_eq!((backend.ended, backend.delivered), (SPANS + 7, SPANS), "{backend:?}");
    assert_eq!(backend.dropped, [(DropReason::AfterShutdown, 7)]);
    assert!(backends.up.spans_named("late").is_empty());
}

#[test]
fn a_flush_ends_at_its_deadline_and_loses_nothing() {
    let _machine = alone();
    let backends = Backends::start();
    let (_, telemetry) = traced(backends.backend(State::Silent));
    let (report, took) = timed(|| telemetry.flush(DEADLINE));
    assert!((DEADLINE..DEADLINE + SLACK).contains(&took), "{took:?}");
    assert!(report.timed_out && report.backends[0].pending == SPANS, "{report:?}");
    // The backend is there: the kernel has taken the connection.
    assert!(TcpStream::connect(backends.silent.local_addr().unwrap()).is_ok());
}
