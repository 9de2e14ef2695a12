//! The exporter: starts the lanes, hands batches to them, and ends them.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use spanweave_core::clock::{self, Deadline};
use spanweave_core::ledger::{BackendLedger, BackendReport, Ledger};
use spanweave_core::masking::Masker;
use spanweave_core::sync::lock;
use spanweave_core::{MaskedBatch, SpanSink};

use crate::backend::{Backend, FileFormat, Plan};
use crate::error::{Error, ErrorKind};
use crate::fan_out::{Group, RequestLane};
use crate::lane::{
    Backlog, ConsoleLane, Control, FileLane, ForeignLane, JaegerFileLane, Lane, LogFile, Mark,
    OtlpLane, Queue, Request,
};
use crate::policy::Policy;
use crate::seats::{Seat, SpoolBacklog, SpoolPlans};
use crate::spool::{Member, Spool};
use crate::transport::Client;

/// The time that [`SpanExporter::force_flush`], which has none, takes at most.
const FORCE_FLUSH_TIME: Duration = Duration::from_secs(10);
/// What an exporter that is dropped without a shutdown has left, in the background.
const DROP_TIME: Duration = Duration::from_secs(5);
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
        let mut spools = SpoolPlans::default();
        for backend in self.backends {
            let name = free_name(backend.base_name(), &mut names);
            let spool = backend.spool_directory().cloned();
            let settings = Settings {
                retry: backend.retry_policy(),
                compression: backend.compression,
                queue_bytes: backend.queue_bytes,
                policy: backend.policy.clone(),
                spool: spool.clone(),
            };
            let options = backend.spool;
            plans.push((name.clone(), settings, backend.plan(&name)?));
            if let Some(directory) = spool {
                spools.add(directory, options);
            }
        }
        let mut opened = Vec::new();
        for (name, settings, plan) in plans {
            let account = ledger.open(&name, plan.kind());
            let member = settings.spool.clone().map(|directory| {
                let stream = plan.stream(&settings.policy);
                spools.join(
                    &directory,
                    Member { name: name.clone(), stream, account: account.clone() },
                )
            });
            opened.push((account, settings, plan, member));
        }
        let mut inner = Inner::new(ledger, self.masker.unwrap_or_default());
        inner.spools = spools.open();
        // If one cannot be started, dropping `inner` ends those before it.
        for (account, settings, plan, member) in opened {
            inner.start(account, settings, plan, member, &resource)?;
        }
        Ok(MultiExporter { inner: Arc::new(inner), resource })
    }
}

struct Settings {
    retry: crate::RetryPolicy,
    compression: crate::Compression,
    queue_bytes: usize,
    policy: Policy,
    spool: Option<PathBuf>,
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
        self.inner.accept(&batch);
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
        self.inner.ledger.count_ended(batch.len() as u64);
        self.inner.accept(&Arc::new(batch));
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
    groups: Vec<Group>,
    spools: Vec<Arc<Spool>>,
    /// All lanes, in the order of the backends.
    lanes: Vec<Arc<dyn Control>>,
    phase: Mutex<Phase>,
    ended: Condvar,
    /// Lost spans that an SDK caller has been told of.
    told_lost: Mutex<u64>,
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
            groups: Vec::new(),
            spools: Vec::new(),
            lanes: Vec::new(),
            phase: Mutex::new(Phase::Running),
            ended: Condvar::new(),
            told_lost: Mutex::new(0),
        }
    }

    fn start(
        &mut self,
        account: Arc<BackendLedger>,
        settings: Settings,
        plan: Plan,
        seat: Option<Seat>,
        resource: &Arc<Resource>,
    ) -> Result<(), Error> {
        let name = account.name().to_owned();
        let error = |kind| Error::new(&name, kind);
        let thread = |source| error(ErrorKind::Thread(source));
        let capacity = settings.queue_bytes;
        let group = Group::of(&mut self.groups, &settings.policy);
        let lane: Arc<dyn Control> = match plan {
            Plan::Otlp(config) => {
                let (timeout, protocol) = (config.timeout, config.endpoint.protocol);
                let client =
                    Client::new(*config).map_err(|source| error(ErrorKind::Tls(source)))?;
                let (retry, compression) = (settings.retry, settings.compression);
                let mut work =
                    OtlpLane::new(&name, client, retry, timeout, compression).map_err(thread)?;
                let spool =
                    seat.and_then(|seat| Some((self.spools.get(seat.spool)?.clone(), seat)));
                let backlog = spool.as_ref().map(|(spool, seat)| {
                    let backlog = SpoolBacklog { spool: spool.clone(), member: seat.member };
                    Box::new(backlog) as Box<dyn Backlog<Arc<Request>>>
                });
                let queue = Arc::new(Queue::with_backlog(account, capacity, backlog));
                let lane =
                    Arc::new(Lane::start(queue, move |queue| work.run(queue)).map_err(thread)?);
                let spool = spool.map(|(spool, seat)| (spool, seat.stream));
                group.add_requests(protocol, RequestLane { lane: lane.clone(), spool });
                lane
            }
            Plan::File { path, format: FileFormat::JaegerJson, keeping } => {
                let mut work = JaegerFileLane::open(&path, keeping, clock::instant())
                    .map_err(|source| error(ErrorKind::File { path, source }))?;
                let queue = Arc::new(Queue::new(account, capacity));
                let lane =
                    Arc::new(Lane::start(queue, move |queue| work.run(queue)).map_err(thread)?);
                group.jaeger_files.push(lane.clone());
                lane
            }
            Plan::File { path, format, keeping } => {
                let file = LogFile::open(&path, keeping, clock::instant())
                    .map_err(|source| error(ErrorKind::File { path, source }))?;
                let mut work = FileLane::new(file);
                let queue = Arc::new(Queue::new(account, capacity));
                let lane =
                    Arc::new(Lane::start(queue, move |queue| work.run(queue)).map_err(thread)?);
                group.lines.push((format, lane.clone()));
                lane
            }
            Plan::Console => {
                let queue = Arc::new(Queue::new(account, capacity));
                let lane =
                    Arc::new(Lane::start(queue, |queue| ConsoleLane.run(queue)).map_err(thread)?);
                group.consoles.push(lane.clone());
                lane
            }
            Plan::Foreign(make, timeout) => {
                let mut work = ForeignLane::new(make, timeout, resource.clone());
                let queue = Arc::new(Queue::new(account, capacity));
                let lane =
                    Arc::new(Lane::start(queue, move |queue| work.run(queue)).map_err(thread)?);
                group.foreign.push((timeout, lane.clone()));
                lane
            }
        };
        self.lanes.push(lane);
        Ok(())
    }

    fn accept(&self, batch: &Arc<MaskedBatch>) {
        if !batch.is_empty() {
            self.groups.iter().for_each(|group| group.accept(batch));
        }
    }

    fn flush(&self, deadline: Deadline) -> Vec<BackendReport> {
        // All are asked before any is waited for.
        let marks: Vec<Mark> = self.lanes.iter().map(|lane| lane.urge(deadline)).collect();
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
        let marks: Vec<Mark> = self.lanes.iter().map(|lane| lane.stop(deadline)).collect();
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
        // What is on disk and was not delivered is left to the next process.
        self.spools.iter().for_each(|spool| spool.close());
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
        let pending = |lane: &Arc<dyn Control>| lane.account().pending() > 0;
        if self.lanes.iter().any(pending) {
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
