//! The lane of an OTLP backend: a few requests at a time, oldest first, each until the backend
//! has it or refuses it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::write::GzEncoder;
use opentelemetry::Context;
use spanweave_core::clock;
use spanweave_core::ledger::{BackendLedger, DropReason};
use spanweave_core::sync::lock;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::queue::{Fate, Front, Queue};
use crate::backend::Compression;
use crate::delivery::{RetryPolicy, Verdict};
use crate::encode::{split, split_json};
use crate::transport::{Attempt, Client};

/// An encoded request. All lanes share one, and each compressed form is made once, by the lane
/// that needs it first.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    form: Form,
    plain: Bytes,
    gzip: OnceLock<Bytes>,
    zstd: OnceLock<Bytes>,
    pub(crate) spans: u64,
}

/// How a request is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Protobuf,
    Json,
}

impl Request {
    pub(crate) fn new(form: Form, bytes: impl Into<Bytes>, spans: u64) -> Self {
        Self { form, plain: bytes.into(), gzip: OnceLock::new(), zstd: OnceLock::new(), spans }
    }

    /// How it is encoded, and the bytes before compression.
    pub(crate) fn content(&self) -> (Form, &[u8]) {
        (self.form, &self.plain)
    }

    /// The size before compression.
    pub(crate) fn len(&self) -> usize {
        self.plain.len()
    }

    fn bytes(&self, compression: Compression) -> Bytes {
        match compression {
            Compression::None => self.plain.clone(),
            Compression::Gzip => self.gzip.get_or_init(|| gzip(&self.plain)).clone(),
            Compression::Zstd => self.zstd.get_or_init(|| zstd(&self.plain)).clone(),
        }
    }

    /// Two requests with half of the spans each; `None` if there is one span only.
    pub(crate) fn halves(&self) -> Option<(Self, Self)> {
        let half = self.spans / 2;
        if half == 0 {
            return None;
        }
        let (first, second) = match self.form {
            Form::Protobuf => split(&self.plain, half)?,
            Form::Json => split_json(&self.plain, half),
        };
        let rest = self.spans - half;
        Some((Self::new(self.form, first, half), Self::new(self.form, second, rest)))
    }
}

fn gzip(plain: &[u8]) -> Bytes {
    // Spans repeat themselves: the fast level has most of the gain for a third of the time.
    let mut encoder =
        GzEncoder::new(Vec::with_capacity(plain.len() / 4), flate2::Compression::fast());
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    // Writing to memory does not fail.
    written.unwrap_or_default().into()
}

fn zstd(plain: &[u8]) -> Bytes {
    // The fastest level; compressing memory fails only where memory does.
    zstd::bulk::compress(plain, 1).unwrap_or_default().into()
}

/// What the thread of an OTLP lane owns.
pub(crate) struct OtlpLane {
    sender: Arc<Sender>,
    runtime: Option<Runtime>,
}

impl OtlpLane {
    pub(crate) fn new(
        name: &str,
        client: Client,
        retry: RetryPolicy,
        timeout: Duration,
        compression: Compression,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Names are resolved on threads of the runtime.
            .max_blocking_threads(4)
            .thread_name(format!("spanweave-{name}"))
            .on_thread_start(|| {
                // For the whole life of the thread, so the guard is never dropped.
                std::mem::forget(Context::enter_telemetry_suppressed_scope());
            })
            .build()?;
        let sender = Sender {
            client,
            retry,
            timeout,
            compression,
            breaker: Mutex::default(),
            probe: tokio::sync::Mutex::new(()),
        };
        Ok(Self { sender: Arc::new(sender), runtime: Some(runtime) })
    }

    pub(crate) fn run(&mut self, queue: &Arc<Queue<Arc<Request>>>) {
        if let Some(runtime) = &self.runtime {
            // Waiting for work happens inside, too: connections are served while they are idle.
            runtime.block_on(self.sender.run(queue));
        }
    }
}

impl Drop for OtlpLane {
    fn drop(&mut self) {
        // A resolver that hangs must not hold up the end of the lane.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// How many requests a lane has under way while its backend works: enough that a server's own
/// time does not bound a flat-out application, few enough that little is sent twice after a crash.
const CONCURRENCY: usize = 4;

struct Sender {
    client: Client,
    retry: RetryPolicy,
    timeout: Duration,
    compression: Compression,
    breaker: Mutex<Breaker>,
    /// Held by the one request that asks again while the backend fails.
    probe: tokio::sync::Mutex<()>,
}

/// Opens when a request fails: then one request at a time asks again, less and less often, and
/// nothing else is sent. Closes with the next delivery.
#[derive(Debug, Default)]
struct Breaker {
    /// Failures since the last delivery; they outlive a request, so that a backend that is down
    /// is asked less and less often.
    failures: u32,
}

impl Breaker {
    fn is_open(&self) -> bool {
        self.failures > 0
    }

    fn concurrency(&self) -> usize {
        if self.is_open() { 1 } else { CONCURRENCY }
    }
}

enum Outcome {
    Delivered { rejected: u64 },
    TooLarge,
    Refused,
    Abandoned,
}

/// Counts what is left of an entry if its delivery panics.
struct Unwound<'a>(&'a Queue<Arc<Request>>, u64);

impl Drop for Unwound<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.account().fail("it panicked");
            self.0.settle(self.1, Fate::Dropped(DropReason::Panicked), u64::MAX);
        }
    }
}

impl Sender {
    async fn run(self: &Arc<Self>, queue: &Arc<Queue<Arc<Request>>>) {
        let mut under_way = JoinSet::new();
        loop {
            let concurrency = lock(&self.breaker).concurrency();
            tokio::select! {
                biased;
                // A task that panicked has counted its loss.
                Some(_) = under_way.join_next() => {}
                () = queue.tick(), if under_way.len() >= concurrency => {}
                front = queue.front(), if under_way.len() < concurrency => {
                    let Some(front) = front else { break };
                    let (sender, queue) = (self.clone(), queue.clone());
                    under_way.spawn(async move {
                        let _unwound = Unwound(&queue, front.number);
                        sender.deliver(&queue, &front).await;
                    });
                }
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn deliver(&self, queue: &Queue<Arc<Request>>, front: &Front<Arc<Request>>) {
        let mut pieces = VecDeque::from([front.item.clone()]);
        while let Some(piece) = pieces.pop_front() {
            let spans = piece.spans;
            match self.send(queue, front.number, &piece).await {
                Outcome::Delivered { rejected } => {
                    let rejected = rejected.min(spans);
                    queue.settle(front.number, Fate::Delivered, spans - rejected);
                    queue.settle(front.number, Fate::Dropped(DropReason::Rejected), rejected);
                    queue.recovered();
                }
                Outcome::TooLarge => match piece.halves() {
                    Some((first, second)) => {
                        pieces.push_front(Arc::new(second));
                        pieces.push_front(Arc::new(first));
                    }
                    None => {
                        queue.warn("a span is too large for it and is dropped");
                        queue.settle(front.number, Fate::Dropped(DropReason::TooLarge), spans);
                    }
                },
                Outcome::Refused => {
                    queue.settle(front.number, Fate::Dropped(DropReason::Refused), spans);
                }
                Outcome::Abandoned => return,
            }
        }
    }

    /// Sends one request until that has come to an end.
    async fn send(&self, queue: &Queue<Arc<Request>>, number: u64, request: &Request) -> Outcome {
        let account = queue.account();
        let mut seen = queue.urges();
        let mut failing_since: Option<Instant> = None;
        let mut probing = None;
        loop {
            queue.allowed(number).await;
            let bytes = request.bytes(self.compression);
            let time = queue.attempt_time(self.timeout);
            let in_flight = InFlight::new(account, request.spans);
            let attempt = tokio::select! {
                biased;
                attempt = self.client.send(bytes, request.form, self.compression, time) => attempt,
                () = queue.abandoned(number) => return Outcome::Abandoned,
            };
            drop(in_flight);
            if queue.is_abandoned(number) && !matches!(attempt, Attempt::Answered { .. }) {
                return Outcome::Abandoned;
            }

            let (reason, after, reached) = match attempt {
                Attempt::Answered { verdict, reason } => match verdict {
                    Verdict::Delivered { rejected, message } => {
                        lock(&self.breaker).failures = 0;
                        self.report_partial(queue, rejected, &message);
                        return Outcome::Delivered { rejected };
                    }
                    Verdict::Split => return Outcome::TooLarge,
                    Verdict::Refused => {
                        account.fail(&reason);
                        queue.warn(&reason);
                        return Outcome::Refused;
                    }
                    Verdict::Retry { after } => (reason, after, true),
                },
                Attempt::Failed { reason, reached } => (reason, None, reached),
            };
            account.fail(&reason);
            queue.warn(&reason);
            let failures = {
                let mut breaker = lock(&self.breaker);
                breaker.failures = breaker.failures.saturating_add(1);
                breaker.failures
            };

            let now = clock::instant();
            // A backend that cannot be reached says nothing about this request.
            failing_since = reached.then(|| failing_since.unwrap_or(now));
            let failing = failing_since.map_or(Duration::ZERO, |since| now - since);
            if !self.retry.enabled || self.retry.give_up_after.is_some_and(|limit| failing > limit)
            {
                return Outcome::Refused;
            }
            if let Some(after) = after {
                queue.forbid(after);
            }
            if probing.is_none() {
                probing = tokio::select! {
                    biased;
                    () = queue.abandoned(number) => return Outcome::Abandoned,
                    turn = self.probe.lock() => Some(turn),
                };
                if !lock(&self.breaker).is_open() {
                    // It worked for the one before.
                    probing = None;
                    continue;
                }
            }
            let wait = after.unwrap_or_else(|| self.retry.delay(failures, fastrand::f64()));
            queue.pause(number, wait, after.is_some(), &mut seen).await;
            if queue.is_abandoned(number) {
                return Outcome::Abandoned;
            }
        }
    }

    fn report_partial(&self, queue: &Queue<Arc<Request>>, rejected: u64, message: &str) {
        if rejected == 0 && message.is_empty() {
            return;
        }
        let said = if self.client.quotes_header(message) { "" } else { message };
        queue.warn(&format!("{rejected} spans rejected: {}", crate::transport::printable(said)));
    }
}

/// Counts a request as under way while it lives.
struct InFlight<'a> {
    account: &'a BackendLedger,
    spans: u64,
}

impl<'a> InFlight<'a> {
    fn new(account: &'a BackendLedger, spans: u64) -> Self {
        account.begin_request(spans);
        Self { account, spans }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.account.end_request(self.spans);
    }
}
