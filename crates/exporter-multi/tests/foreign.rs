//! Lanes of exporters that others have written.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use spanweave_core::SpanSink;
use spanweave_core::clock::{self, Deadline};
use spanweave_core::ledger::DropReason;
use spanweave_exporter::{Backend, MultiExporter};
use support::{batch, wait_until};

type Behaviour = Box<dyn Fn(usize) -> Action + Send + Sync>;

enum Action {
    Take,
    Fail,
    Panic,
    /// Blocks the thread.
    Block(Duration),
    /// Never gets ready, without blocking.
    Pend,
    /// Needs the runtime.
    Sleep(Duration),
}

#[derive(Default)]
struct Log {
    calls: AtomicUsize,
    spans: Mutex<Vec<SpanData>>,
    steps: Mutex<Vec<String>>,
}

struct Foreign {
    log: Arc<Log>,
    behaviour: Behaviour,
}

impl std::fmt::Debug for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Foreign")
    }
}

impl SpanExporter for Foreign {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.log.steps.lock().unwrap().push("export".into());
        match (self.behaviour)(self.log.calls.fetch_add(1, Ordering::SeqCst)) {
            Action::Take => {}
            Action::Fail => return Err(OTelSdkError::InternalFailure("secret".into())),
            Action::Panic => panic!("on purpose"),
            Action::Block(time) => thread::sleep(time),
            Action::Pend => std::future::pending().await,
            Action::Sleep(time) => {
                // Both need a runtime that is entered, and neither a thread that drives it.
                tokio::spawn(async move { tokio::time::sleep(time).await }).await.unwrap();
                assert!(opentelemetry::Context::is_current_telemetry_suppressed());
            }
        }
        self.log.spans.lock().unwrap().extend(batch);
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        self.log.steps.lock().unwrap().push("shutdown".into());
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        let name = resource.get(&"service.name".into()).unwrap();
        self.log.steps.lock().unwrap().push(format!("resource {name}"));
    }
}

fn start(behaviour: impl Fn(usize) -> Action + Send + Sync + 'static) -> (MultiExporter, Arc<Log>) {
    let log = Arc::new(Log::default());
    let foreign = Foreign { log: log.clone(), behaviour: Box::new(behaviour) };
    let backend = Backend::exporter(foreign).timeout(Duration::from_millis(100));
    let resource = Resource::builder_empty().with_service_name("test").build();
    let exporter = MultiExporter::builder().resource(resource).export_to(backend).build().unwrap();
    (exporter, log)
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

#[test]
fn spans_arrive_after_the_resource_and_before_the_shutdown() {
    let (exporter, log) = start(|_| Action::Take);
    exporter.accept(batch(0..3));
    let report = SpanSink::shutdown(&exporter, soon()).remove(0);
    assert_eq!((report.delivered, report.pending, report.kind), (3, 0, "foreign_span_exporter"));
    assert_eq!(log.spans.lock().unwrap().len(), 3);
    let steps = log.steps.lock().unwrap();
    assert_eq!(steps.first().unwrap(), "resource test");
    assert_eq!(steps.last().unwrap(), "shutdown");
}

#[test]
fn a_panicking_exporter_loses_the_batch_and_no_other() {
    let (exporter, log) = start(|call| if call == 1 { Action::Panic } else { Action::Take });
    for number in 0..4 {
        exporter.accept(batch(number * 2..number * 2 + 2));
    }
    let report = exporter.flush(soon()).remove(0);
    assert_eq!((report.delivered, report.dropped), (6, vec![(DropReason::Panicked, 2)]));
    assert_eq!(log.spans.lock().unwrap().len(), 6);
}

#[test]
fn an_exporter_that_panics_when_it_is_made_loses_its_spans_only() {
    let server = support::Server::start(|_, _| support::ok());
    let exporter = MultiExporter::builder()
        .export_to(Backend::exporter_with(|| -> Foreign { panic!("on purpose") }))
        .export_to(Backend::otlp_http(server.url()))
        .build()
        .unwrap();
    exporter.accept(batch(0..2));
    let reports = exporter.flush(soon());
    assert_eq!(reports[0].dropped, [(DropReason::Panicked, 2)]);
    assert_eq!(reports[1].delivered, 2);
}

#[test]
fn an_error_is_counted_and_its_text_is_not_repeated() {
    let (exporter, _) = start(|_| Action::Fail);
    exporter.accept(batch(0..2));
    let report = exporter.flush(soon()).remove(0);
    assert_eq!(report.dropped, [(DropReason::Refused, 2)]);
    assert!(!report.last_error.unwrap().contains("secret"));
}

#[test]
fn exporters_find_a_runtime_and_suppressed_telemetry() {
    let (exporter, _) = start(|_| Action::Sleep(Duration::from_millis(5)));
    exporter.accept(batch(0..2));
    assert_eq!(exporter.flush(soon()).remove(0).delivered, 2);
}

#[test]
fn an_export_that_is_never_ready_ends_at_its_deadline() {
    let (exporter, _) = start(|call| if call == 0 { Action::Pend } else { Action::Take });
    exporter.accept(batch(0..2));
    exporter.accept(batch(2..3));
    let start = clock::instant();
    let report = exporter.flush(soon()).remove(0);
    assert!((90..300).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!((report.delivered, report.dropped), (1, vec![(DropReason::Refused, 2)]));
}

#[test]
fn a_stuck_exporter_holds_up_neither_shutdown_nor_the_others() {
    let server = support::Server::start(|_, _| support::ok());
    let log = Arc::new(Log::default());
    let behaviour: Behaviour = Box::new(|_| Action::Block(Duration::from_secs(3)));
    let foreign = Foreign { log: log.clone(), behaviour };
    let exporter = MultiExporter::builder()
        .export_to(Backend::exporter(foreign).timeout(Duration::from_millis(50)))
        .export_to(Backend::otlp_http(server.url()))
        .build()
        .unwrap();
    exporter.accept(batch(0..2));
    wait_until("it is called", || log.calls.load(Ordering::SeqCst) == 1);
    thread::sleep(Duration::from_millis(60));
    exporter.accept(batch(2..3));
    wait_until("the other has all", || exporter.reports()[1].delivered == 3);
    let stuck = exporter.reports().remove(0);
    assert_eq!((stuck.delivered, stuck.pending), (0, 3));
    assert!(stuck.down_since.is_some(), "{stuck:?}");
    let start = clock::instant();
    let reports = SpanSink::shutdown(&exporter, Deadline::after(Duration::from_millis(100)));
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    assert_eq!(reports[0].dropped, [(DropReason::Shutdown, 3)]);
}
