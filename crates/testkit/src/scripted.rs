use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::http::HeaderMap;
use spanweave_live::{Collector, CollectorConfig, RequestInfo, StoredSpan, Transport, Verdict};

use crate::{PATIENCE, SpanIds};

/// An OTLP server, HTTP and gRPC, that answers by script and records what it was sent.
///
/// The n-th request gets the n-th verdict of the script; after its end each gets the fallback, which is to
/// accept unless [`answer_always`](Self::answer_always) says otherwise.
///
/// ```
/// use spanweave_testkit::{ScriptedServer, Verdict, http};
///
/// let server = ScriptedServer::start([Verdict::http_status(503).header("Retry-After", "1")]);
/// let send = || http::post(&server.traces_url(), "application/json", b"{}").status;
/// assert_eq!((send(), send()), (503, 200));
/// assert_eq!(server.wait_for_requests(2).len(), 2);
/// ```
#[derive(Debug)]
pub struct ScriptedServer {
    collector: Collector,
    shared: Arc<Shared>,
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// When it had been read and decoded.
    pub at: Instant,
    /// How it came.
    pub transport: Transport,
    /// HTTP headers or gRPC metadata.
    pub headers: HeaderMap,
    /// The compression, where there was any.
    pub encoding: Option<String>,
    /// Size after decompression.
    pub message_bytes: usize,
    /// The spans in it.
    pub spans: Vec<StoredSpan>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug)]
struct State {
    script: VecDeque<Verdict>,
    fallback: Verdict,
    requests: Vec<RecordedRequest>,
}

impl ScriptedServer {
    /// Starts on free ports of 127.0.0.1.
    #[must_use]
    #[track_caller]
    pub fn start(script: impl IntoIterator<Item = Verdict>) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                script: script.into_iter().collect(),
                fallback: Verdict::accept(),
                requests: Vec::new(),
            }),
            arrived: Condvar::new(),
        });
        let hook = Arc::clone(&shared);
        let config = CollectorConfig::default().hook(move |info| hook.answer(info));
        match Collector::start(config) {
            Ok(collector) => Self { collector, shared },
            Err(error) => panic!("the scripted server does not start: {error}"),
        }
    }

    /// From now on, and when the script has run out, every request gets this.
    pub fn answer_always(&self, verdict: Verdict) {
        let mut state = self.shared.lock();
        state.script.clear();
        state.fallback = verdict;
    }

    /// The base URL for OTLP/HTTP.
    #[must_use]
    pub fn http_endpoint(&self) -> String {
        self.collector.http_endpoint()
    }

    /// The endpoint for OTLP/gRPC.
    #[must_use]
    pub fn grpc_endpoint(&self) -> String {
        self.collector.grpc_endpoint()
    }

    /// The full URL of OTLP/HTTP traces.
    #[must_use]
    pub fn traces_url(&self) -> String {
        format!("{}/v1/traces", self.http_endpoint())
    }

    /// The collector underneath; its store has what verdicts let in.
    #[must_use]
    pub fn collector(&self) -> &Collector {
        &self.collector
    }

    /// What came in until now.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.lock().requests.clone()
    }

    /// Waits until at least `count` requests came in and returns all.
    #[track_caller]
    pub fn wait_for_requests(&self, count: usize) -> Vec<RecordedRequest> {
        let (state, waited) = self
            .shared
            .arrived
            .wait_timeout_while(self.shared.lock(), PATIENCE, |state| state.requests.len() < count)
            .unwrap_or_else(PoisonError::into_inner);
        let requests = state.requests.clone();
        drop(state);
        if waited.timed_out() {
            panic!("{} requests instead of {count} after {PATIENCE:?}", requests.len());
        }
        requests
    }

    /// The times between one request and the next.
    #[must_use]
    pub fn gaps(&self) -> Vec<Duration> {
        self.requests()
            .windows(2)
            .map(|pair| pair[1].at.saturating_duration_since(pair[0].at))
            .collect()
    }

    /// The spans of all requests by identity, whatever the verdict was.
    #[must_use]
    pub fn sent_spans(&self) -> SpanIds {
        let mut ids = SpanIds::default();
        for request in &self.shared.lock().requests {
            ids.extend(&request.spans);
        }
        ids
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Times of arrival are what a test compares with the retry times that it asked for.
    #[allow(clippy::disallowed_methods)]
    fn answer(&self, info: &RequestInfo<'_>) -> Verdict {
        let request = RecordedRequest {
            at: Instant::now(),
            transport: info.transport,
            headers: info.headers.clone(),
            encoding: info.encoding().map(str::to_owned),
            message_bytes: info.message_bytes,
            spans: info.spans.to_vec(),
        };
        let mut state = self.lock();
        state.requests.push(request);
        let verdict = match state.script.pop_front() {
            Some(verdict) => verdict,
            None => state.fallback.clone(),
        };
        drop(state);
        self.arrived.notify_all();
        verdict
    }
}
