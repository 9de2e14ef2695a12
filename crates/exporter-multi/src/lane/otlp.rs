//! The lane of an OTLP backend: one request after the other, oldest first, each until the
//! backend has it or refuses it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::write::GzEncoder;
use opentelemetry::Context;
use spanweave_core::clock;
use spanweave_core::ledger::{BackendLedger, DropReason};
use tokio::runtime::Runtime;

use super::queue::{Fate, Front, Queue};
use crate::backend::Compression;
use crate::delivery::{RetryPolicy, Verdict};
use crate::encode::{split, split_json};
use crate::transport::{Attempt, Client};

/// An encoded request. All lanes share one, and each compressed form is made once, by the lane
/// that needs it first.
#[derive(Debug)]
pub(crate) struct Request {
    form: Form,
    plain: Bytes,
    gzip: OnceLock<Bytes>,
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
        Self { form, plain: bytes.into(), gzip: OnceLock::new(), spans }
    }
    /// The size before compression.
    pub(crate) fn len(&self) -> usize {
        self.plain.len()
    }

    fn bytes(&self, compression: Compression) -> Bytes {
        match compression {
            Compression::None => self.plain.clone(),
            Compression::Gzip => self.gzip.get_or_init(|| gzip(&self.plain)).clone(),
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

/// What the thread of an OTLP lane owns.
pub(crate) struct OtlpLane {
    sender: Sender,
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
            // Names are resolved on threads of the runtime, at most one at a time.
            .max_blocking_threads(4)
            .thread_name(format!("spanweave-{name}"))
            .on_thread_start(|| {
                // For the whole life of the thread, so the guard is never dropped.
                std::mem::forget(Context::enter_telemetry_suppressed_scope());
            })
            .build()?;
        let sender = Sender { client, retry, timeout, compression, failures: 0 };
        Ok(Self { sender, runtime: Some(runtime) })
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

struct Sender {
    client: Client,
    retry: RetryPolicy,
    timeout: Duration,
    compression: Compression,
    /// Failures since the last delivery; they outlive a request, so that a backend that is down
    /// is asked less and less often.
    failures: u32,
}

enum Outcome {
    Delivered { rejected: u64 },
    TooLarge,
    Refused,
    Abandoned,
}

impl Sender {
    async fn run(&mut self, queue: &Queue<Arc<Request>>) {
        while let Some(front) = queue.front().await {
            self.deliver(queue, &front).await;
        }
    }

    async fn deliver(&mut self, queue: &Queue<Arc<Request>>, front: &Front<Arc<Request>>) {
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
    async fn send(
        &mut self,
        queue: &Queue<Arc<Request>>,
        number: u64,
        request: &Request,
    ) -> Outcome {
        let account = queue.account();
        let mut seen = queue.urges();
        let mut failing_since: Option<Instant> = None;
        loop {
            let bytes = request.bytes(self.compression);
            let time = queue.attempt_time(self.timeout);
            let in_flight = InFlight::new(account, request.spans);
            let gzip = self.compression == Compression::Gzip;
            let attempt = tokio::select! {
                biased;
                attempt = self.client.send(bytes, gzip, time) => attempt,
                () = queue.abandoned(number) => return Outcome::Abandoned,
            };
            drop(in_flight);
            if queue.is_abandoned(number) && !matches!(attempt, Attempt::Answered { .. }) {
                return Outcome::Abandoned;
            }

            let (reason, after, reached) = match attempt {
                Attempt::Answered { verdict, reason } => match verdict {
                    Verdict::Delivered { rejected, message } => {
                        self.failures = 0;
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
            self.failures = self.failures.saturating_add(1);

            let now = clock::instant();
            // A backend that cannot be reached says nothing about this request.
            failing_since = reached.then(|| failing_since.unwrap_or(now));
            let failing = failing_since.map_or(Duration::ZERO, |since| now - since);
            if !self.retry.enabled || self.retry.give_up_after.is_some_and(|limit| failing > limit)
            {
                return Outcome::Refused;
            }
            let wait = after.unwrap_or_else(|| self.retry.delay(self.failures, fastrand::f64()));
            queue.pause(wait, after.is_some(), &mut seen).await;
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
