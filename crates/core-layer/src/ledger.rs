//! The ledger: where every span went, for each backend.
//!
//! For each backend `ended = delivered + dropped{reason} + sampled_out + pending` holds at rest
//! (`ended + recovered` where a spool had spans of an earlier process).
//! The pipeline counts what happens before the backends, each backend what happens after; a
//! report adds the two.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::clock;
use crate::sync::lock;

/// Why a span was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// The hand-off queue of the application was full.
    QueueFull,
    /// The backend's own queue was full.
    BackendQueueFull,
    /// The backend rejected it (partial success).
    Rejected,
    /// The backend refused the request for good, or the retries ran out.
    Refused,
    /// It was too large to be sent.
    TooLarge,
    /// The exporter, or the encoder, panicked.
    Panicked,
    /// Writing to the file, or to the console, failed.
    Io,
    /// The spool reached its size limit before the backend took it.
    SpoolFull,
    /// It was in the spool for longer than the age limit.
    SpoolExpired,
    /// Its record in the spool was damaged.
    SpoolCorrupt,
    /// The deadline of the shutdown came first.
    Shutdown,
    /// It ended, or still waited for room, when the pipeline had stopped.
    AfterShutdown,
}

impl DropReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 12] = [
        Self::QueueFull,
        Self::BackendQueueFull,
        Self::Rejected,
        Self::Refused,
        Self::TooLarge,
        Self::Panicked,
        Self::Io,
        Self::SpoolFull,
        Self::SpoolExpired,
        Self::SpoolCorrupt,
        Self::Shutdown,
        Self::AfterShutdown,
    ];

    /// The name, as it stands in metrics (`error.type`) and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::BackendQueueFull => "backend_queue_full",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Panicked => "panicked",
            Self::Io => "io",
            Self::SpoolFull => "spool_full",
            Self::SpoolExpired => "spool_expired",
            Self::SpoolCorrupt => "spool_corrupt",
            Self::Shutdown => "shutdown",
            Self::AfterShutdown => "after_shutdown",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Counters of dropped spans by reason.
#[derive(Debug, Default)]
pub struct DropCounters([AtomicU64; DropReason::ALL.len()]);

impl DropCounters {
    /// Counts `count` spans.
    pub fn add(&self, reason: DropReason, count: u64) {
        self.0[reason as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// The count for a reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }

    /// The count over all reasons.
    pub fn total(&self) -> u64 {
        DropReason::ALL.iter().map(|reason| self.get(*reason)).sum()
    }
}

/// What the pipeline has counted, before any backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipelineCounts {
    /// Spans that started.
    pub started: u64,
    /// Spans that ended.
    pub ended: u64,
    /// Spans that sampling kept from the backends.
    pub sampled_out: u64,
    /// Spans between the application and the backends: handed off, undecided or in a batch.
    pub pending: u64,
    /// Of those, spans whose trace has not been decided by the tail rules.
    pub undecided: u64,
    /// Spans that the hand-off can hold.
    pub capacity: u64,
    /// Callbacks of observers and hooks that panicked.
    pub callback_panics: u64,
    /// Events that would have been spans but had no parent.
    pub orphan_events: u64,
}

/// Where the counters of one pipeline come together.
///
/// The pipeline writes its part, each backend its own; metrics and reports read.
pub struct Ledger {
    backends: Mutex<Vec<Arc<BackendLedger>>>,
    dropped: DropCounters,
    /// Spans that ended without a pipeline of ours.
    ended: AtomicU64,
    counts: Mutex<Option<CountSource>>,
}

type CountSource = Box<dyn Fn() -> PipelineCounts + Send + Sync>;

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("backends", &self.backends()).finish_non_exhaustive()
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self {
            backends: Mutex::new(Vec::new()),
            dropped: DropCounters::default(),
            ended: AtomicU64::new(0),
            counts: Mutex::new(None),
        }
    }

    /// Opens the account of a backend. `kind` is its type (`otlp_grpc_span_exporter`, …), as
    /// `otel.component.type` has it.
    pub fn open(&self, name: impl Into<String>, kind: &'static str) -> Arc<BackendLedger> {
        let backend = Arc::new(BackendLedger::new(name.into(), kind));
        lock(&self.backends).push(backend.clone());
        backend
    }

    /// The accounts of all backends, in the order in which they were opened.
    pub fn backends(&self) -> Vec<Arc<BackendLedger>> {
        lock(&self.backends).clone()
    }

    /// Spans that were dropped before they reached any backend.
    pub fn dropped(&self) -> &DropCounters {
        &self.dropped
    }

    /// Counts spans that ended and came to the backends without a pipeline of ours: the exporter
    /// under another SDK. A pipeline counts its own.
    pub fn count_ended(&self, spans: u64) {
        self.ended.fetch_add(spans, Ordering::Relaxed);
    }

    /// What the pipeline has counted up to now, and [`count_ended`](Self::count_ended) with it.
    pub fn pipeline(&self) -> PipelineCounts {
        let mut counts = lock(&self.counts).as_ref().map(|source| source()).unwrap_or_default();
        counts.ended += self.ended.load(Ordering::Relaxed);
        counts
    }

    pub(crate) fn set_source(&self, source: CountSource) {
        *lock(&self.counts) = Some(source);
    }

    /// The state of every backend.
    pub fn reports(&self) -> Vec<BackendReport> {
        self.backends().iter().map(|backend| self.report(backend)).collect()
    }

    /// Which backends fail, and since when, as JSON for a health check: no error texts, nothing
    /// secret. The status is `degraded` while any backend fails.
    ///
    /// ```
    /// # let ledger = spanweave_core::ledger::Ledger::new();
    /// ledger.open("otlp", "otlp_http_span_exporter");
    /// assert_eq!(
    ///     ledger.health_json(),
    ///     r#"{"status":"ok","backends":[{"name":"otlp","up":true,"down_since_unix":null}]}"#
    /// );
    /// ```
    pub fn health_json(&self) -> String {
        let mut status = "ok";
        let backends: Vec<String> = self
            .backends()
            .iter()
            .map(|backend| {
                let since = backend.down_since();
                if since.is_some() {
                    status = "degraded";
                }
                let (up, name) = (since.is_none(), escaped(backend.name()));
                let since = since.map_or_else(
                    || "null".to_owned(),
                    |nanos| format!("{}.{:03}", nanos / 1_000_000_000, nanos / 1_000_000 % 1000),
                );
                format!(r#"{{"name":"{name}","up":{up},"down_since_unix":{since}}}"#)
            })
            .collect();
        format!(r#"{{"status":"{status}","backends":[{}]}}"#, backends.join(","))
    }

    /// The state of one backend, with what happened before it.
    pub fn report(&self, backend: &BackendLedger) -> BackendReport {
        let pipeline = self.pipeline();
        let dropped = DropReason::ALL
            .into_iter()
            .map(|reason| (reason, self.dropped.get(reason) + backend.dropped.get(reason)))
            .filter(|(_, count)| *count > 0)
            .collect();
        BackendReport {
            name: backend.name.clone(),
            kind: backend.kind,
            ended: pipeline.ended,
            recovered: backend.recovered(),
            delivered: backend.delivered(),
            dropped,
            sampled_out: pipeline.sampled_out + backend.sampled_out.load(Ordering::Relaxed),
            pending: pipeline.pending + backend.pending(),
            undecided: pipeline.undecided,
            down_since: backend.down_since(),
            last_error: lock(&backend.last_error).clone(),
        }
    }
}

/// Text inside a JSON string.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// The account of one backend. All methods are cheap and may be called from any thread.
#[derive(Debug)]
pub struct BackendLedger {
    name: String,
    kind: &'static str,
    accepted: AtomicU64,
    /// Of the accepted ones, those that an earlier process left in the spool.
    recovered: AtomicU64,
    delivered: AtomicU64,
    sampled_out: AtomicU64,
    dropped: DropCounters,
    requests: AtomicU64,
    failed_requests: AtomicU64,
    in_flight: AtomicU64,
    /// Nanoseconds since the Unix epoch since when requests fail; 0 while they do not.
    down_since: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl BackendLedger {
    fn new(name: String, kind: &'static str) -> Self {
        Self {
            name,
            kind,
            accepted: AtomicU64::new(0),
            recovered: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            sampled_out: AtomicU64::new(0),
            dropped: DropCounters::default(),
            requests: AtomicU64::new(0),
            failed_requests: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            down_since: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }
    }

    /// The backend's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The backend's type.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Spans have come to the backend; each has to be accounted for once more, below.
    pub fn accept(&self, spans: u64) {
        self.accepted.fetch_add(spans, Ordering::Relaxed);
    }

    /// Spans that an earlier process accepted and left in the spool have come to the backend;
    /// each has to be accounted for once more.
    pub fn recover(&self, spans: u64) {
        self.recovered.fetch_add(spans, Ordering::Relaxed);
        self.accept(spans);
    }

    /// Spans of an earlier process that have come to the backend.
    pub fn recovered(&self) -> u64 {
        self.recovered.load(Ordering::Relaxed)
    }

    /// Spans have been delivered. This also marks the backend as up.
    pub fn deliver(&self, spans: u64) {
        self.delivered.fetch_add(spans, Ordering::Relaxed);
        self.down_since.store(0, Ordering::Relaxed);
    }

    /// Spans have been dropped.
    pub fn drop_spans(&self, reason: DropReason, spans: u64) {
        self.dropped.add(reason, spans);
    }

    /// Spans have been kept from this backend by its own filter or sampling.
    pub fn sample_out(&self, spans: u64) {
        self.sampled_out.fetch_add(spans, Ordering::Relaxed);
    }

    /// A request begins, with so many spans in it.
    pub fn begin_request(&self, spans: u64) {
        self.in_flight.fetch_add(spans, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is over.
    pub fn end_request(&self, spans: u64) {
        self.in_flight.fetch_sub(spans, Ordering::Relaxed);
    }

    /// A request failed (it may be tried again). `error` must hold no secrets: no headers, no
    /// user information of a URL.
    pub fn fail(&self, error: impl fmt::Display) {
        self.failed_requests.fetch_add(1, Ordering::Relaxed);
        let now = clock::unix_nanos();
        // Only the first failure of a row sets the time; losing the race changes nothing.
        self.down_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).ok();
        *lock(&self.last_error) = Some(error.to_string());
    }

    /// Spans delivered.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Spans dropped here, by reason.
    pub fn dropped(&self) -> &DropCounters {
        &self.dropped
    }

    /// Spans accepted and not yet accounted for.
    pub fn pending(&self) -> u64 {
        let done =
            self.delivered() + self.dropped.total() + self.sampled_out.load(Ordering::Relaxed);
        self.accepted.load(Ordering::Relaxed).saturating_sub(done)
    }

    /// Spans in requests that are under way.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests made and requests failed.
    pub fn requests(&self) -> (u64, u64) {
        (self.requests.load(Ordering::Relaxed), self.failed_requests.load(Ordering::Relaxed))
    }

    /// Since when requests fail, in nanoseconds since the Unix epoch; `None` while they do not.
    pub fn down_since(&self) -> Option<u64> {
        match self.down_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(since),
        }
    }
}

/// The state of one backend: `ended + recovered = delivered + dropped + sampled_out + pending`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendReport {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: &'static str,
    /// Spans that ended in the process.
    pub ended: u64,
    /// Spans that an earlier process left in the spool and this one took over.
    pub recovered: u64,
    /// Spans that the backend has.
    pub delivered: u64,
    /// Spans that it will never have, by reason; reasons without spans are left out.
    pub dropped: Vec<(DropReason, u64)>,
    /// Spans that sampling or a filter kept from it.
    pub sampled_out: u64,
    /// Spans on their way.
    pub pending: u64,
    /// Of those, spans whose trace the tail rules have not decided.
    pub undecided: u64,
    /// Since when its requests fail, in nanoseconds since the Unix epoch.
    pub down_since: Option<u64>,
    /// What the last failed request said, without secrets.
    pub last_error: Option<String>,
}

impl BackendReport {
    /// Spans dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(|(_, count)| count).sum()
    }

    /// Whether every span that ended is accounted for.
    pub fn is_balanced(&self) -> bool {
        self.ended + self.recovered
            == self.delivered + self.dropped_total() + self.sampled_out + self.pending
    }
}

/// What a flush achieved, for each backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlushReport {
    /// The state of each backend.
    pub backends: Vec<BackendReport>,
    /// Spans whose trace the tail rules have not decided; a flush does not force them.
    pub undecided: u64,
    /// Whether the deadline came first.
    pub timed_out: bool,
}

impl FlushReport {
    /// Whether nothing but undecided spans was left to deliver anywhere.
    pub fn is_complete(&self) -> bool {
        !self.timed_out && self.backends.iter().all(|backend| backend.pending <= backend.undecided)
    }
}

/// What a shutdown achieved, for each backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// The final state of each backend.
    pub backends: Vec<BackendReport>,
    /// Whether the deadline came first.
    pub timed_out: bool,
}

impl ShutdownReport {
    /// Whether every backend got everything that was not sampled out.
    pub fn is_complete(&self) -> bool {
        !self.timed_out
            && self
                .backends
                .iter()
                .all(|backend| backend.pending == 0 && backend.dropped_total() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_adds_what_happened_before_and_behind_the_backend() {
        let ledger = Ledger::new();
        let backend = ledger.open("otlp", "otlp_http_span_exporter");
        ledger.set_source(Box::new(|| PipelineCounts {
            ended: 10,
            sampled_out: 2,
            pending: 1,
            ..PipelineCounts::default()
        }));
        ledger.dropped().add(DropReason::QueueFull, 1);
        backend.accept(6);
        backend.deliver(3);
        backend.drop_spans(DropReason::Rejected, 1);
        let report = ledger.report(&backend);
        assert_eq!(report.pending, 3);
        assert!(report.is_balanced(), "{report:?}");
    }

    #[test]
    fn a_health_check_names_the_backend_that_fails_and_since_when() {
        let ledger = Ledger::new();
        ledger.open("a", "file");
        ledger.open("b \"\n", "file").fail("secret");
        let health = ledger.health_json();
        assert!(health.starts_with(r#"{"status":"degraded","backends":[{"name":"a","up":true"#));
        assert!(
            health.contains(r#"{"name":"b \"\u000a","up":false,"down_since_unix":1"#),
            "{health}"
        );
        assert!(!health.contains("secret"));
    }

    #[test]
    fn without_a_pipeline_the_exporter_counts_what_ended() {
        let ledger = Ledger::new();
        let backend = ledger.open("otlp", "otlp_http_span_exporter");
        ledger.count_ended(5);
        backend.accept(5);
        backend.recover(2);
        backend.deliver(6);
        let report = ledger.report(&backend);
        assert_eq!((report.ended, report.recovered, report.pending), (5, 2, 1));
        assert!(report.is_balanced(), "{report:?}");
    }

    #[test]
    fn a_backend_is_down_from_its_first_failure_until_its_next_delivery() {
        let backend = BackendLedger::new("a".into(), "file");
        backend.fail("refused");
        let since = backend.down_since();
        backend.fail("refused");
        assert!(since.is_some() && backend.down_since() == since);
        backend.deliver(1);
        assert_eq!(backend.down_since(), None);
    }
}
