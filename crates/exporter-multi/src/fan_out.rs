//! Encodes a batch once for all backends that get the same spans, and hands it to their lanes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use spanweave_core::MaskedBatch;
use spanweave_core::ledger::DropReason;
use spanweave_core::sync::lock;

use crate::backend::FileFormat;
use crate::encode::{JaegerBatch, Limits, OtlpEncoder, otlp_json_line, spans_json_lines};
use crate::lane::{Count, Form, Lane, Lines, Request};
use crate::policy::Policy;
use crate::spool::{LONGEST_PAYLOAD, Spool};
use crate::transport::Protocol;

/// OTLP's limit on requests before compression; protobuf requests are kept far smaller.
const LONGEST_REQUEST: usize = 64 * 1024 * 1024;
/// What a record of the spool leaves for resource and scopes.
const RECORD_MARGIN: usize = 64 * 1024;

/// Backends that get the same spans, by what they take.
pub(crate) struct Group {
    pub(crate) policy: Policy,
    pub(crate) encoder: Mutex<OtlpEncoder>,
    pub(crate) requests: Vec<RequestLane>,
    pub(crate) json_requests: Vec<RequestLane>,
    pub(crate) lines: Vec<(FileFormat, Arc<Lane<Lines>>)>,
    pub(crate) jaeger_files: Vec<Arc<Lane<Arc<JaegerBatch>>>>,
    pub(crate) consoles: Vec<Arc<Lane<Arc<MaskedBatch>>>>,
    pub(crate) foreign: Vec<(Duration, Arc<Lane<Arc<MaskedBatch>>>)>,
}

pub(crate) struct RequestLane {
    pub(crate) lane: Arc<Lane<Arc<Request>>>,
    pub(crate) spool: Option<(Arc<Spool>, u32)>,
}

impl Group {
    /// The group with this policy.
    pub(crate) fn of<'a>(groups: &'a mut Vec<Self>, policy: &Policy) -> &'a mut Self {
        let known = groups.iter().position(|group| group.policy == *policy);
        let number = known.unwrap_or_else(|| {
            groups.push(Self {
                policy: policy.clone(),
                encoder: Mutex::default(),
                requests: Vec::new(),
                json_requests: Vec::new(),
                lines: Vec::new(),
                jaeger_files: Vec::new(),
                consoles: Vec::new(),
                foreign: Vec::new(),
            });
            groups.len() - 1
        });
        &mut groups[number]
    }

    pub(crate) fn add_requests(&mut self, protocol: Protocol, lane: RequestLane) {
        match protocol {
            Protocol::HttpJson => self.json_requests.push(lane),
            Protocol::Grpc | Protocol::HttpProtobuf => {
                if lane.spool.is_some() {
                    // Requests have to fit into a record.
                    let target = LONGEST_PAYLOAD - RECORD_MARGIN;
                    let limits = Limits { target, ..Limits::default() };
                    self.encoder = Mutex::new(OtlpEncoder::new(limits));
                }
                self.requests.push(lane);
            }
        }
    }

    pub(crate) fn accept(&self, all: &Arc<MaskedBatch>) {
        let applied = catch_unwind(AssertUnwindSafe(|| self.policy.apply(all)));
        let Ok(batch) = applied else {
            self.each(|queue| queue.refuse(DropReason::Panicked, all.len() as u64));
            return;
        };
        let sampled_out = (all.len() - batch.len()) as u64;
        if sampled_out > 0 {
            self.each(|queue| queue.sample_out(sampled_out));
        }
        if batch.is_empty() {
            return;
        }
        self.accept_requests(&batch);
        self.accept_lines(&batch, FileFormat::OtlpJson);
        self.accept_lines(&batch, FileFormat::Spans);
        self.accept_jaeger_files(&batch);
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

    /// The accounting of all its lanes.
    fn each(&self, count: impl Fn(&dyn Count)) {
        let requests = self.requests.iter().chain(&self.json_requests);
        requests.for_each(|lane| count(lane.lane.queue()));
        self.lines.iter().for_each(|(_, lane)| count(lane.queue()));
        self.jaeger_files.iter().for_each(|lane| count(lane.queue()));
        self.consoles.iter().for_each(|lane| count(lane.queue()));
        self.foreign.iter().for_each(|(_, lane)| count(lane.queue()));
    }

    fn accept_requests(&self, batch: &MaskedBatch) {
        if self.requests.is_empty() {
            return;
        }
        let encoded = catch_unwind(AssertUnwindSafe(|| lock(&self.encoder).encode(batch)));
        let Ok(encoded) = encoded else {
            for lane in &self.requests {
                lane.lane.queue().refuse(DropReason::Panicked, batch.len() as u64);
            }
            return;
        };
        for lane in &self.requests {
            lane.lane.queue().refuse(DropReason::TooLarge, encoded.too_large);
        }
        for request in encoded.requests {
            let request = Arc::new(Request::new(Form::Protobuf, request.body, request.spans));
            hand_over(&self.requests, &request);
        }
    }

    /// OTLP JSON is made once for files and requests.
    fn accept_lines(&self, batch: &MaskedBatch, format: FileFormat) {
        let files = || self.lines.iter().filter(|(of, _)| *of == format).map(|(_, lane)| lane);
        let requests = match format {
            FileFormat::OtlpJson => self.json_requests.as_slice(),
            FileFormat::Spans | FileFormat::JaegerJson => &[],
        };
        if files().next().is_none() && requests.is_empty() {
            return;
        }
        let spans = batch.len() as u64;
        let text = catch_unwind(AssertUnwindSafe(|| match format {
            FileFormat::OtlpJson => otlp_json_line(batch),
            FileFormat::Spans | FileFormat::JaegerJson => spans_json_lines(batch),
        }));
        let Ok(text) = text else {
            files().for_each(|lane| lane.queue().refuse(DropReason::Panicked, spans));
            requests.iter().for_each(|lane| lane.lane.queue().refuse(DropReason::Panicked, spans));
            return;
        };
        let text = Bytes::from(text);
        for lane in files() {
            lane.queue().push(Lines { text: text.clone(), spans }, spans, text.len());
        }
        if requests.is_empty() {
            return;
        }
        let spooled = requests.iter().any(|lane| lane.spool.is_some());
        let limit = if spooled { LONGEST_PAYLOAD } else { LONGEST_REQUEST };
        for request in within_limit(Arc::new(Request::new(Form::Json, text, spans)), limit) {
            match request {
                Ok(request) => hand_over(requests, &request),
                Err(spans) => requests
                    .iter()
                    .for_each(|lane| lane.lane.queue().refuse(DropReason::TooLarge, spans)),
            }
        }
    }

    fn accept_jaeger_files(&self, batch: &MaskedBatch) {
        if self.jaeger_files.is_empty() {
            return;
        }
        let spans = batch.len() as u64;
        let encoded = catch_unwind(AssertUnwindSafe(|| Arc::new(JaegerBatch::of(batch))));
        for lane in &self.jaeger_files {
            match &encoded {
                Ok(encoded) => lane.queue().push(encoded.clone(), spans, encoded.len()),
                Err(_) => lane.queue().refuse(DropReason::Panicked, spans),
            }
        }
    }
}

/// Hands a request to lanes: to the disk, once for all that share a spool, or else to memory.
fn hand_over(lanes: &[RequestLane], request: &Arc<Request>) {
    let mut written: Vec<(&Arc<Spool>, bool)> = Vec::new();
    for RequestLane { lane, spool } in lanes {
        let queue = lane.queue();
        let Some((spool, stream)) = spool else {
            queue.push(request.clone(), request.spans, request.len());
            continue;
        };
        if request.spans == 0 || !queue.announce(request.spans) {
            continue;
        }
        let known = written.iter().find(|(known, _)| Arc::ptr_eq(known, spool));
        let is_written = match known {
            Some((_, is_written)) => *is_written,
            None => {
                let is_written = spool.append(*stream, request).is_ok();
                written.push((spool, is_written));
                is_written
            }
        };
        match is_written {
            // In a forked child there is no lane to wake: its threads stayed with the parent.
            true if spool.is_own() => queue.added(),
            true => {}
            false => queue.hold(request.clone(), request.spans, request.len()),
        }
    }
}

/// Halves a request until each part may be sent; `Err` counts spans that never may.
fn within_limit(request: Arc<Request>, limit: usize) -> Vec<Result<Arc<Request>, u64>> {
    let (mut open, mut done) = (vec![request], Vec::new());
    while let Some(request) = open.pop() {
        if request.len() <= limit {
            done.push(Ok(request));
        } else if let Some((first, second)) = request.halves() {
            open.extend([Arc::new(second), Arc::new(first)]);
        } else if request.len() <= LONGEST_REQUEST {
            // A span that is too long for a record of the spool is held in memory.
            done.push(Ok(request));
        } else {
            done.push(Err(request.spans));
        }
    }
    done
}
