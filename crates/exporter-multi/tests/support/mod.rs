//! Scripted backends on loopback, and spans to send to them.
#![allow(dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use prost::Message;
use spanweave_core::MaskedBatch;
use spanweave_core::clock;
use spanweave_core::masking::Masker;

pub fn span(number: u64) -> SpanData {
    let start = clock::system_time();
    SpanData {
        span_context: SpanContext::new(
            TraceId::from(u128::from(number)),
            SpanId::from(number),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "test".into(),
        start_time: start,
        end_time: start,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::default(),
    }
}

/// A batch of spans with these numbers.
pub fn batch(numbers: std::ops::Range<u64>) -> Arc<MaskedBatch> {
    let resource = Arc::new(Resource::builder_empty().with_service_name("test").build());
    let spans = numbers.map(|number| span(number + 1)).collect();
    Arc::new(MaskedBatch::from_sdk(spans, resource, &Masker::default()))
}

/// As [`batch`], each span with an attribute of `bytes` bytes.
pub fn wide_batch(numbers: std::ops::Range<u64>, bytes: usize) -> Arc<MaskedBatch> {
    let resource = Arc::new(Resource::builder_empty().with_service_name("test").build());
    let spans = numbers.map(|number| {
        let mut span = span(number + 1);
        span.attributes.push(KeyValue::new("wide", "x".repeat(bytes)));
        span
    });
    Arc::new(MaskedBatch::from_sdk(spans.collect(), resource, &Masker::default()))
}

/// What a scripted backend does with one request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Answers with a status, headers and a body.
    Reply(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Never answers.
    Hang,
    /// Closes the connection.
    Close,
    /// Answers 200 with a body that does not end.
    Endless,
}

pub fn ok() -> Answer {
    Answer::Reply(200, Vec::new(), Vec::new())
}

pub fn status(status: u16) -> Answer {
    Answer::Reply(status, Vec::new(), Vec::new())
}

#[derive(Clone, Debug)]
pub struct Received {
    pub at: Instant,
    /// Request line and headers, lower-case.
    pub head: Vec<String>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.head.iter().find_map(|line| line.strip_prefix(prefix.as_str()))
    }

    /// The span numbers in the request.
    pub fn spans(&self) -> Vec<u64> {
        numbers(&ExportTraceServiceRequest::decode(self.plain().as_slice()).unwrap())
    }

    /// The span numbers in a request of OTLP JSON.
    pub fn json_spans(&self) -> Vec<u64> {
        numbers(&serde_json::from_slice(&self.plain()).unwrap())
    }

    fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        if self.header("content-encoding") == Some("zstd") {
            zstd::stream::copy_decode(self.body.as_slice(), &mut plain).unwrap();
        } else if self.header("content-encoding") == Some("gzip") {
            flate2::read::GzDecoder::new(self.body.as_slice()).read_to_end(&mut plain).unwrap();
        } else {
            plain.clone_from(&self.body);
        }
        plain
    }
}

pub fn numbers(request: &ExportTraceServiceRequest) -> Vec<u64> {
    let spans = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    spans
        .flat_map(|scope| &scope.spans)
        .map(|span| u64::from_be_bytes(span.span_id.as_slice().try_into().unwrap()))
        .collect()
}

/// An HTTP/1.1 server whose answers are decided by a function of the request's number.
pub struct Server {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub fn start(answer: impl Fn(usize, &Received) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (list, answer, count) = (received.clone(), Arc::new(answer), connections.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                let (list, answer) = (list.clone(), answer.clone());
                thread::spawn(move || serve(stream, &list, &*answer));
            }
        });
        Self { address, received, connections }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

fn serve(
    stream: TcpStream,
    list: &Mutex<Vec<Received>>,
    answer: &(dyn Fn(usize, &Received) -> Answer + Send + Sync),
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(request) = read_request(&mut reader) {
        let number = {
            let mut list = list.lock().unwrap();
            list.push(request.clone());
            list.len() - 1
        };
        match answer(number, &request) {
            Answer::Reply(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n", body.len());
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                head.push_str("\r\n");
                let mut all = head.into_bytes();
                all.extend(body);
                if stream.write_all(&all).is_err() {
                    return;
                }
            }
            Answer::Hang => thread::sleep(Duration::from_secs(20)),
            Answer::Close => return,
            Answer::Endless => {
                let head = "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n";
                let mut chunk = b"10000\r\n".to_vec();
                chunk.extend([b'x'; 0x10000]);
                chunk.extend(b"\r\n");
                if stream.write_all(head.as_bytes()).is_err() {
                    return;
                }
                while stream.write_all(&chunk).is_ok() {}
                return;
            }
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Received> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some((name, value)) => head.push(format!("{}: {value}", name.to_lowercase())),
            None => head.push(line),
        }
    }
    let mut received = Received { at: clock::instant(), head, body: Vec::new() };
    let len = received.header("content-length")?.parse().ok()?;
    received.body = vec![0; len];
    reader.read_exact(&mut received.body).ok()?;
    Some(received)
}

/// An address that refuses connections.
pub fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = clock::instant() + Duration::from_secs(5);
    while !condition() {
        assert!(clock::instant() < end, "never happened: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
