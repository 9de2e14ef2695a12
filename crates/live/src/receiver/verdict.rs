use std::time::Duration;

use http::HeaderMap;

use crate::model::{StoredSpan, Transport};

/// Decides about a message.
pub(super) type Hook = Box<dyn Fn(&RequestInfo<'_>) -> Verdict + Send + Sync>;

/// What the hook of a [`CollectorConfig`](crate::CollectorConfig) sees of a message.
#[derive(Debug, Clone, Copy)]
pub struct RequestInfo<'a> {
    /// 1 for the first well-formed message, over both transports.
    pub number: u64,
    /// How it came in.
    pub transport: Transport,
    /// HTTP headers, or gRPC metadata.
    pub headers: &'a HeaderMap,
    /// Size after decompression.
    pub message_bytes: usize,
    /// The spans in it.
    pub spans: &'a [StoredSpan],
}

impl RequestInfo<'_> {
    /// The compression, as `content-encoding` or `grpc-encoding` names it.
    #[must_use]
    pub fn encoding(&self) -> Option<&str> {
        let header = match self.transport {
            Transport::Grpc => "grpc-encoding",
            Transport::HttpProtobuf | Transport::HttpJson => "content-encoding",
        };
        self.headers.get(header)?.to_str().ok()
    }
}

/// What a collector does with a message: an answer, whether the spans are stored, and how late.
///
/// Answers of one transport are translated on the other: an HTTP status becomes the gRPC code that gRPC
/// maps it to and the reverse, so one hook serves both.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub(super) answer: Answer,
    pub(super) store: bool,
    pub(super) delay: Duration,
}

#[derive(Debug, Clone)]
pub(super) enum Answer {
    Success,
    Partial { rejected: u64, message: String },
    Http { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    Grpc { code: i32, message: String, retry_after: Option<Duration> },
    Hang,
}

impl Verdict {
    /// Success; the spans are stored.
    #[must_use]
    pub fn accept() -> Self {
        Self::new(Answer::Success, true)
    }

    /// Partial success: the last `rejected` spans of the message are not stored. 0 with a message is
    /// OTLP's warning.
    #[must_use]
    pub fn partial_success(rejected: u64, message: impl Into<String>) -> Self {
        Self::new(Answer::Partial { rejected, message: message.into() }, true)
    }

    /// This HTTP status, nothing stored. A number that is no status is answered as 500.
    #[must_use]
    pub fn http_status(status: u16) -> Self {
        Self::new(Answer::Http { status, headers: Vec::new(), body: Vec::new() }, false)
    }

    /// This gRPC code with a message, nothing stored.
    #[must_use]
    pub fn grpc_code(code: i32, message: impl Into<String>) -> Self {
        Self::new(Answer::Grpc { code, message: message.into(), retry_after: None }, false)
    }

    /// No answer, ever; nothing stored.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(Answer::Hang, false)
    }

    /// Waits so long before it stores and answers.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Stores the spans whatever the answer: an acknowledgement that got lost.
    #[must_use]
    pub fn storing(mut self) -> Self {
        self.store = true;
        self
    }

    /// Adds a response header to an HTTP status; without effect on other answers. One that is not valid
    /// is left out.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Answer::Http { headers, .. } = &mut self.answer {
            headers.push((name.into(), value.into()));
        }
        self
    }

    /// The body of an HTTP status; without effect on other answers.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        if let Answer::Http { body, .. } = &mut self.answer {
            *body = bytes.into();
        }
        self
    }

    /// Asks to come back after so long: `Retry-After` in whole seconds (rounded up) on an HTTP status,
    /// `RetryInfo` on a gRPC code; without effect on other answers.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        match &mut self.answer {
            Answer::Http { headers, .. } => {
                headers.push(("retry-after".to_owned(), whole_seconds(wait).to_string()));
            }
            Answer::Grpc { retry_after, .. } => *retry_after = Some(wait),
            Answer::Success | Answer::Partial { .. } | Answer::Hang => {}
        }
        self
    }

    fn new(answer: Answer, store: bool) -> Self {
        Self { answer, store, delay: Duration::ZERO }
    }
}

/// For `Retry-After`, which knows no fractions: rounded up, so that nobody comes back too early.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

/// The code that a gRPC client makes of an HTTP status
/// (grpc/doc/http-grpc-status-mapping.md); 429 and 5xx gateways are UNAVAILABLE.
pub(super) fn grpc_of_http(status: u16) -> tonic::Code {
    match status {
        200..=299 => tonic::Code::Ok,
        400 => tonic::Code::Internal,
        401 => tonic::Code::Unauthenticated,
        403 => tonic::Code::PermissionDenied,
        404 => tonic::Code::Unimplemented,
        429 | 502 | 503 | 504 => tonic::Code::Unavailable,
        _ => tonic::Code::Unknown,
    }
}

/// The HTTP status of a gRPC code (google/rpc/code.proto).
pub(super) fn http_of_grpc(code: tonic::Code) -> u16 {
    use tonic::Code;
    match code {
        Code::Ok => 200,
        Code::Cancelled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    }
}
