//! The exporter: encodes a batch once and hands it to every lane.

use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use spanweave_core::clock::{self, Deadline};
use spanweave_core::ledger::{BackendReport, DropReason, Ledger};
use spanweave_core::masking::Masker;
use spanweave_core::sync::lock;
use spanweave_core::{MaskedBatch, SpanSink};

use crate::backend::{Backend, FileFormat, Plan};
use crate::encode::{OtlpEncoder, otlp_json_line, spans_json_lines};
use crate::error::{Error, ErrorKind};
use crate::lane::{
    ConsoleLane, Control, FileLane, ForeignLane, Form, Lane, Lines, LogFile, OtlpLane, Queue,
    Request,
};
use crate::transport::{Client, Protocol};

/// The time that [`SpanExporter::force_flush`], which has none, takes at most.
const FORCE_FLUSH_TIME: Duration = Duration::from_secs(10);
/// What an exporter that is dropped without a shutdown has left, in the background.
const DROP_TIME: Duration = Duration::from_secs(5);
/// OTLP's limit on requests before compression; protobuf requests are kept far smaller.
const LONGEST_REQUEST: usize = 64 * 1024 * 1024;
/// Lanes whose time is over get this much longer to end their threads.
const JOIN_TIME: Duration = Duration::from_millis(100);

/// Delivers spans to several backends, each over a lane of its own.
///
/// It is a [`SpanSink`] for the pipeline, and a
/// [`SpanExporter`](opentelemetry_sdk::trace::SpanExporter) for applications that keep the stock
/// SDK. Handing over never blocks. Cloning gives another handle of the same lanes.
///
/// ```
/// use opentelemetry_sdk::trace::SdkTracerProvider;
/// use spanweave_exporter::{Backend, MultiExporter};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let exporter = MultiExporter::builder()
///     .export_to(Backend::otlp_grpc("http://localhost:4317"))
///     .export_to(Backend::file(folder.path().join("spans.jsonl")))
///     .build()?;
/// let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
/// # drop(provider);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MultiExporter {
    inner: Arc<Inner>,
    /// Under the stock SDK; the pipeline's batches carry their own.
    resource: Arc<Resource>,
}

/// Builds a [`MultiExporter`].
#[derive(Debug, Default)]
pub struct MultiExporterBuilder {
    backends: Vec<Backend>,
    resource: Option<Resource>,
    ledger: Option<Arc<Ledger>>,
    masker: Option<Arc<Masker>>,
}

impl MultiExporterBuilder {
    /// Adds a backend.
    #[must_use]
    pub fn export_to(mut self, backend: Backend) -> Self {
        self.backends.push(backend);
        self
    }

    /// The resource that foreign exporters are told first, and that spans of the stock SDK have
    /// unless its provider sets another one.
    #[must_use]
    pub fn resource(mut self, resource: Resource) -> Self {
        self.resource = Some(resource);
        self
    }

    /// The ledger that the backends' accounts are opened in. The default is one of its own.
    #[must_use]
    pub fn ledger(mut self, ledger: Arc<Ledger>) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// What masks spans of the stock SDK. (Batches of the pipeline are masked already.) The
    /// default masks by the default rules.
    #[must_use]
    pub fn masker(mut self, masker: Arc<Masker>) -> Self {
        self.masker = Some(masker);
        self
    }

    /// Checks the backends, opens files and starts the lanes.
    ///
    /// # Errors
    /// A malformed endpoint or header, a file that cannot be opened for writing, a thread that
    /// cannot be started. A backend that is down is no error.
    pub fn build(self) -> Result<MultiExporter, Error> {
        let ledger = self.ledger.unwrap_or_default();
        let resource = Arc::new(self.resource.unwrap_or_else(|| Resource::builder().build()));
        let mut plans = Vec::new();
        let mut names = HashSet::new();
        for backend in self.backends {
            let name = free_name(backend.base_name(), &mut names);
            let lane = Settings {
                retry: backend.retry,
                compression: backend.compression,
                queue_bytes: backend.queue_bytes,
            };
            plans.push((name.clone(), lane, backend.plan(&name)?));
        }
        let mut inner = Inner::new(ledger, self.masker.unwrap_or_default());
        // If one cannot be started, dropping `inner` ends those before it.
        for (name, settings, plan) in plans {
            inner.start(&name, settings, plan, &resource)?;
        }
        Ok(MultiExporter { inner: Arc::new(inner), resource })
    }
}

struct Settings {
    retry: crate::RetryPolicy,
    compression: crate::Compression,
    queue_bytes: usize,
}

fn free_name(base: &str, taken: &mut HashSet<String>) -> String {
    let mut name = base.to_owned();
    let mut number = 1u32;
    while !taken.insert(name.clone()) {
        number += 1;
        name = format!("{base}-{number}");
    }
    name
}

impl MultiExporter {
    /// Starts to build an exporter.
    pub fn builder() -> MultiExporterBuilder {
        MultiExporterBuilder::default()
    }

    /// Builds an exporter for a pipeline: the backends' accounts are opened in `ledger`, in the
    /// order of the backends.
    ///
    /// # Errors
    /// As [`MultiExporterBuilder::build`].
    pub fn start(
        backends: Vec<Backend>,
        resource: &Resource,
        ledger: &Arc<Ledger>,
    ) -> Result<Self, Error> {
        backends
            .into_iter()
            .fold(Self::builder(), MultiExporterBuilder::export_to)
            .resource(resource.clone())
            .ledger(ledger.clone())
            .build()
    }

    /// The ledger with the backends' accounts.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.inner.ledger
    }

    /// The state of each backend.
    pub fn reports(&self) -> Vec<BackendReport> {
        self.inner.reports()
    }
}

impl SpanSink for MultiExporter {
    fn accept(&self, batch: Arc<MaskedBatch>) {
        self.inner.accept(batch);
    }

    fn flush(&self, deadline: Deadline) -> Vec<BackendReport> {
        self.inner.flush(deadline)
    }

    fn shutdown(&self, deadline: Deadline) -> Vec<BackendReport> {
        self.inner.shutdown(deadline)
    }
}

impl SpanExporter for MultiExporter {
    /// Converts, masks and hands over; returns before anything is delivered.
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let batch = MaskedBatch::from_sdk(batch, self.resource.clone(), &self.inner.masker);
        self.inner.accept(Arc::new(batch));
        if self.inner.is_running() { Ok(()) } else { Err(OTelSdkError::AlreadyShutdown) }
    }

    /// Delivers what was handed over, within 10 seconds. An error if something was lost since
    /// the last call, or is still on its way.
    fn force_flush(&self) -> OTelSdkResult {
        let reports = self.inner.flush(Deadline::after(FORCE_FLUSH_TIME));
        self.inner.judge(&reports, FORCE_FLUSH_TIME)
    }

    /// Delivers what can be delivered within `timeout`. An error if something was lost.
    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        if !self.inner.is_running() {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        let reports = self.inner.shutdown(Deadline::after(timeout));
        self.inner.judge(&reports, timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = Arc::new(resource.clone());
    }
}

impl fmt::Debug for MultiExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            self.inner.lanes.iter().map(|lane| lane.account().name().to_owned()).collect();
        f.debug_struct("MultiExporter").field("backends", &names).finish_non_exhaustive()
    }
}

struct Inner {
    ledger: Arc<Ledger>,
    masker: Arc<Masker>,
    encoder: Mutex<OtlpEncoder>,
    /// By what they take.
    requests: Vec<Arc<Lane<Arc<Request>>>>,
    json_requests: Vec<Arc<Lane<Arc<Request>>>>,
    lines: Vec<(FileFormat, Arc<Lane<Lines>>)>,
    consoles: Vec<Arc<Lane<Arc<MaskedBatch>>>>,
    foreign: Vec<(Duration, Arc<Lane<Arc<MaskedBatch>>>)>,
    /// All of them, in the order of the backends.
    lanes: Vec<Arc<dyn Control>>,
    phase: Mutex<Phase>,
    ended: Condvar,
    /// Lost spans that an SDK caller has been told of.
    told_lost: Mutex<u64>,
}

/// Halves a request until each part may be sent; `Err` counts spans that never may.
fn within_limit(request: Arc<Request>) -> Vec<Result<Arc<Request>, u64>> {
    let (mut open, mut done) = (vec![request], Vec::new());
    while let Some(request) = open.pop() {
        if request.len() <= LONGEST_REQUEST {
            done.push(Ok(request));
        } else if let Some((first, second)) = request.halves() {
            open.extend([Arc::new(second), Arc::new(first)]);
        } else {
            done.push(Err(request.spans));
        }
    }
    done
}

enum Phase {
    Running,
    Ending,
    Ended(Vec<BackendReport>),
}

impl Inner {
    fn new(ledger: Arc<Ledger>, masker: Arc<Masker>) -> Self {
        Self {
            ledger,
            masker,
            encoder: Mutex::default(),
            requests: Vec::new(),
            json_requests: Vec::new(),
            lines: Vec::new(),
            consoles: Vec::new(),
            foreign: Vec::new(),
            lanes: Vec::new(),
            phase: Mutex::new(Phase::Running),
            ended: Condvar::new(),
            told_lost: Mutex::new(0),
        }
    }

    fn start(
        &mut self,
        name: &str,
        settings: Settings,
        plan: Plan,
        resource: &Arc<Resource>,
    ) -> Result<(), Error> {
        let error = |kind| Error::new(name, kind);
        let thread = |source| error(ErrorKind::Thread(source));
        let kind = plan.kind();
        let account = || self.ledger.open(name, kind);
        let lane: Arc<dyn Control> = match plan {
            Plan::Otlp(config) => {
                let (timeout, protocol) = (config.timeout, config.endpoint.protocol);
                let client = Client::new(*config)
                    .map_err(|source| error(ErrorKind::Tls(source.to_string())))?;
                let (retry, compression) = (settings.retry, settings.compression);
                let mut work =
                    OtlpLane::new(name, client, retry, timeout, compression).map_err(thread)?;
                let queue = Arc::new(Queue::new(account(), settings.queue_bytes));
                let lane =
                    Arc::new(Lane::start(queue, move |queue| work.run(queue)).map_err(thread)?);
                match protocol {
                    Protocol::HttpJson => self.json_requests.push(lane.clone()),
                    Protocol::Grpc | Protocol::HttpProtobuf => self.requests.push(lane.clone()),
                }
                lane
            }
            Plan::File { path, format } => {
                let file = LogFile::open(&path, clock::instant())
                    .map_err(|source| error(ErrorKind::File { path, source }))?;
                let mut work = FileLane::new(file);
                let queue = Arc::new(Queue::new(account(), settings.queue_bytes));
                let lane =
                    Arc::new(Lane::start(queue, move |queue| work.run(queue)).map_err(thread)?);
                self.lines.push((format, lane.clone()));
                lane
            }
            Plan::Console => {
                let queue = Arc::new(Queue::new(account(), settings.queue_bytes));
                let lane =
                    Arc::new(Lane::start(queue, |queue| ConsoleLane.run(queue)).map_err(thread)?);
                self.consoles.push(lane.clone());
                lane
            }
            Plan::Foreign(make, timeout) => {
                let mut work = ForeignLane::new(make, timeout, resource.clone());
                let queue = Arc::new(Queue::new(account(), settings.queue_bytes));
                let lane =
                    Arc::new(Lane::start(queue, move |queue| work.run(queue)).map_err(thread)?);
                self.foreign.push((timeout, lane.clone()));
                lane
            }
        };
        self.lanes.push(lane);
        Ok(())
    }

    fn accept(&self, batch: Arc<MaskedBatch>) {
        if batch.is_empty() {
            return;
        }
        self.accept_requests(&batch);
        for format in [FileFormat::OtlpJson, FileFormat::Spans] {
            self.accept_lines(&batch, format);
        }
        let foreign = self.foreign.iter().map(|(timeout, lane)| {
            lane.queue().check_stuck(*timeout);
            lane
        });
        let mut bytes = None;
        for lane in self.consoles.iter().chain(foreign) {
            let bytes = *bytes.get_or_insert_with(|| {
                batch.spans().iter().map(|span| span.approximate_bytes()).sum()
            });
            lane.queue().push(batch.clone(), batch.len() as u64, bytes);
        }
    }

    fn accept_requests(&self, batch: &MaskedBatch) {
        if self.requests.is_empty() {
            return;
        }
        let encoded = catch_unwind(AssertUnwindSafe(|| lock(&self.encoder).encode(batch)));
        let Ok(encoded) = encoded else {
            for lane in &self.requests {
                lane.queue().refuse(DropReason::Panicked, batch.len() as u64);
            }
            return;
        };
        for lane in &self.requests {
            lane.queue().refuse(DropReason::TooLarge, encoded.too_large);
        }
        for request in encoded.requests {
            let request = Arc::new(Request::new(Form::Protobuf, request.body, request.spans));
            for lane in &self.requests {
                lane.queue().push(request.clone(), request.spans, request.len());
            }
        }
    }

    /// OTLP JSON is made once for files and requests.
    fn accept_lines(&self, batch: &MaskedBatch, format: FileFormat) {
        let files = || self.lines.iter().filter(|(of, _)| *of == format).map(|(_, lane)| lane);
        let requests = match format {
            FileFormat::OtlpJson => self.json_requests.as_slice(),
            FileFormat::Spans => &[],
        };
        if files().next().is_none() && requests.is_empty() {
            return;
        }
        let spans = batch.len() as u64;
        let text = catch_unwind(AssertUnwindSafe(|| match format {
            FileFormat::OtlpJson => otlp_json_line(batch),
            FileFormat::Spans => spans_json_lines(batch),
        }));
        let Ok(text) = text else {
            files().for_each(|lane| lane.queue().refuse(DropReason::Panicked, spans));
            requests.iter().for_each(|lane| lane.queue().refuse(DropReason::Panicked, spans));
            return;
        };
        let text = Bytes::from(text);
        for lane in files() {
            lane.queue().push(Lines { text: text.clone(), spans }, spans, text.len());
        }
        if requests.is_empty() {
            return;
        }
        let whole = Arc::new(Request::new(Form::Json, text, spans));
        for request in within_limit(whole) {
            match request {
                Ok(request) => requests.iter().for_each(|lane| {
                    lane.queue().push(request.clone(), request.spans, request.len())
                }),
                Err(spans) => requests
                    .iter()
                    .for_each(|lane| lane.queue().refuse(DropReason::TooLarge, spans)),
            }
        }
    }

    fn flush(&self, deadline: Deadline) -> Vec<BackendReport> {
        // All are asked before any is waited for.
        let marks: Vec<u64> = self.lanes.iter().map(|lane| lane.urge(deadline)).collect();
        for (lane, mark) in self.lanes.iter().zip(marks) {
            lane.wait(mark, deadline);
        }
        self.reports()
    }

    fn shutdown(&self, deadline: Deadline) -> Vec<BackendReport> {
        {
            let mut phase = lock(&self.phase);
            loop {
                match &*phase {
                    Phase::Running => break,
                    Phase::Ended(reports) => return reports.clone(),
                    Phase::Ending if deadline.has_passed() => return self.reports(),
                    Phase::Ending => {
                        let waited =
                            self.ended.wait_timeout(phase, deadline.remaining() + JOIN_TIME);
                        phase = waited.unwrap_or_else(PoisonError::into_inner).0;
                    }
                }
            }
            *phase = Phase::Ending;
        }
        let marks: Vec<u64> = self.lanes.iter().map(|lane| lane.stop(deadline)).collect();
        for (lane, mark) in self.lanes.iter().zip(marks) {
            lane.wait(mark, deadline);
        }
        let last = Deadline::after(deadline.remaining() + JOIN_TIME);
        for lane in &self.lanes {
            lane.abandon();
        }
        for lane in &self.lanes {
            lane.join(last);
        }
        let reports = self.reports();
        *lock(&self.phase) = Phase::Ended(reports.clone());
        self.ended.notify_all();
        reports
    }

    fn is_running(&self) -> bool {
        matches!(*lock(&self.phase), Phase::Running)
    }

    fn reports(&self) -> Vec<BackendReport> {
        self.lanes.iter().map(|lane| self.ledger.report(lane.account())).collect()
    }

    /// What to tell an SDK caller.
    fn judge(&self, reports: &[BackendReport], time: Duration) -> OTelSdkResult {
        let lost: u64 = self.lanes.iter().map(|lane| lane.account().dropped().total()).sum();
        let before = std::mem::replace(&mut *lock(&self.told_lost), lost);
        if lost > before {
            let lossy = reports.iter().filter(|report| report.dropped_total() > 0);
            let each: Vec<String> = lossy
                .map(|report| {
                    let reasons: Vec<String> = report
                        .dropped
                        .iter()
                        .map(|(reason, count)| format!("{count} {reason}"))
                        .collect();
                    format!("{} ({})", report.name, reasons.join(", "))
                })
                .collect();
            let lost = lost - before;
            return Err(OTelSdkError::InternalFailure(format!(
                "{lost} spans lost; in all: {}",
                each.join("; ")
            )));
        }
        if self.lanes.iter().any(|lane| lane.account().pending() > 0) {
            return Err(OTelSdkError::Timeout(time));
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody waits any more: the lanes deliver in the background what they can.
        let deadline = Deadline::after(DROP_TIME);
        for lane in &self.lanes {
            lane.stop(deadline);
        }
    }
}
