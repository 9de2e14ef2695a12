use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use serde::Serialize;

use super::decode::{Decoded, decode};
use super::verdict::{Answer, Hook, RequestInfo, Verdict};
use crate::model::Transport;
use crate::store::TraceStore;

/// What a [`Collector`](crate::Collector) was sent, in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ReceiverCounts {
    /// Well-formed messages.
    pub messages: u64,
    /// HTTP requests that were not: wrong type or encoding, too large, or not decodable. gRPC answers
    /// such a message before it gets here, and it is not counted.
    pub malformed: u64,
    /// Spans without a valid trace or span id; answered as partial success.
    pub invalid_spans: u64,
    /// Panics of the hook or of the collector itself.
    pub panics: u64,
}

/// The part that both transports share.
pub(super) struct Intake {
    store: Arc<TraceStore>,
    hook: Option<Hook>,
    pub(super) max_message_bytes: usize,
    messages: AtomicU64,
    malformed: AtomicU64,
    invalid_spans: AtomicU64,
    panics: AtomicU64,
}

/// What a transport has to answer, `Answer` without the parts that are done with.
pub(super) enum Reply {
    Success(ExportTraceServiceResponse),
    Http { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    Grpc { code: tonic::Code, message: String, retry_after: Option<std::time::Duration> },
}

impl Intake {
    pub(super) fn new(
        store: Arc<TraceStore>,
        hook: Option<Hook>,
        max_message_bytes: usize,
    ) -> Self {
        Self {
            store,
            hook,
            max_message_bytes,
            messages: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            invalid_spans: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        }
    }

    pub(super) fn store(&self) -> &Arc<TraceStore> {
        &self.store
    }

    pub(super) fn counts(&self) -> ReceiverCounts {
        ReceiverCounts {
            messages: self.messages.load(Ordering::Relaxed),
            malformed: self.malformed.load(Ordering::Relaxed),
            invalid_spans: self.invalid_spans.load(Ordering::Relaxed),
            panics: self.panics.load(Ordering::Relaxed),
        }
    }

    pub(super) fn count_malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Decodes, asks the hook, waits, stores; does not return where the verdict is to hang.
    pub(super) async fn take(
        &self,
        request: ExportTraceServiceRequest,
        transport: Transport,
        headers: &HeaderMap,
        message_bytes: usize,
    ) -> Reply {
        let number = self.messages.fetch_add(1, Ordering::Relaxed) + 1;
        let Decoded { mut spans, invalid } = decode(request, transport);
        self.invalid_spans.fetch_add(invalid, Ordering::Relaxed);

        let verdict =
            self.decide(&RequestInfo { number, transport, headers, message_bytes, spans: &spans });
        if !verdict.delay.is_zero() {
            tokio::time::sleep(verdict.delay).await;
        }
        if let Answer::Partial { rejected, .. } = &verdict.answer {
            let rejected = usize::try_from(*rejected).unwrap_or(usize::MAX);
            spans.truncate(spans.len().saturating_sub(rejected));
        }
        if verdict.store {
            self.store.add(spans);
        }
        match verdict.answer {
            Answer::Success => Reply::Success(success(
                invalid,
                if invalid > 0 {
                    "spans without a valid trace id and span id".to_owned()
                } else {
                    String::new()
                },
            )),
            Answer::Partial { rejected, message } => {
                Reply::Success(success(rejected.saturating_add(invalid), message))
            }
            Answer::Http { status, headers, body } => Reply::Http { status, headers, body },
            Answer::Grpc { code, message, retry_after } => {
                Reply::Grpc { code: tonic::Code::from_i32(code), message, retry_after }
            }
            Answer::Hang => std::future::pending().await,
        }
    }

    fn decide(&self, info: &RequestInfo<'_>) -> Verdict {
        let Some(hook) = &self.hook else {
            return Verdict::accept();
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hook(info))).unwrap_or_else(|_| {
            self.count_panic();
            Verdict::grpc_code(tonic::Code::Internal as i32, "the collector's hook panicked")
        })
    }
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake")
            .field("store", &self.store)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// `partial_success` is set only where there is something to say, as OTLP requires.
fn success(rejected: u64, error_message: String) -> ExportTraceServiceResponse {
    let partial_success =
        (rejected > 0 || !error_message.is_empty()).then(|| ExportTracePartialSuccess {
            rejected_spans: i64::try_from(rejected).unwrap_or(i64::MAX),
            error_message,
        });
    ExportTraceServiceResponse { partial_success }
}
