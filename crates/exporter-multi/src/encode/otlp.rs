//! Spans to OTLP protobuf in one pass, straight from the records.
//!
//! Spans are written one after the other into a scratch buffer that is kept, each as a finished
//! `ScopeSpans.spans` field. Requests are then put together from slices of it behind the cached
//! bytes of resource and scope, so every length is known and every request is allocated once, at
//! its exact size. No message structs, no allocation a span.

use std::ops::Range;
use std::sync::Arc;

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use spanweave_core::MaskedBatch;
use spanweave_core::span::{
    AttributeValue, EventView, Link, SpanRecord, StatusCode, default_scope,
};

use super::scopes::Scopes;
use super::values;
use super::wire::{self, BYTES, FIXED32, FIXED64, VARINT, tag};

/// Sizes of requests, in bytes before compression.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Requests are closed before they grow over this. Just under 4 MiB, the size up to which
    /// gRPC servers accept messages by default.
    pub(crate) target: usize,
    /// The largest span that is sent at all: OTLP's 64 MiB, less room for resource and scope.
    pub(crate) span: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { target: 4 * 1024 * 1024 - 64 * 1024, span: 63 * 1024 * 1024 }
    }
}

/// An encoded `ExportTraceServiceRequest`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EncodedRequest {
    pub(crate) body: Vec<u8>,
    pub(crate) spans: u64,
}

/// A batch as requests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct EncodedBatch {
    pub(crate) requests: Vec<EncodedRequest>,
    /// Spans that are larger than any request may be.
    pub(crate) too_large: u64,
}

/// Encodes batches; keeps its buffers.
pub(crate) struct OtlpEncoder {
    limits: Limits,
    scratch: Vec<u8>,
    marks: Vec<Mark>,
    resource: Option<(Arc<Resource>, Envelope)>,
    tracing_scope: Envelope,
}

/// Where a span lies in the scratch buffer, and which scope it has.
#[derive(Clone)]
struct Mark {
    range: Range<usize>,
    scope: usize,
}

/// The fields that stand in front of and behind a list of messages.
#[derive(Clone, Default)]
struct Envelope {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Envelope {
    fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }
}

impl Default for OtlpEncoder {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl OtlpEncoder {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            scratch: Vec::new(),
            marks: Vec::new(),
            resource: None,
            tracing_scope: scope_envelope(&default_scope()),
        }
    }

    /// Encodes a batch. A request holds at least one span, so one that is larger than the target
    /// travels alone.
    pub(crate) fn encode(&mut self, batch: &MaskedBatch) -> EncodedBatch {
        /// One huge batch must not pin its memory for ever.
        const KEPT: usize = 4 * 1024 * 1024;
        self.scratch.clear();
        self.scratch.shrink_to(KEPT);
        self.marks.clear();

        let mut encoded = EncodedBatch::default();
        let mut scopes = Scopes::default();
        for span in batch.spans() {
            let start = self.scratch.len();
            wire::nested::<2>(&mut self.scratch, tag(2, BYTES), |out| write_span(out, span));
            if self.scratch.len() - start > self.limits.span {
                self.scratch.truncate(start);
                encoded.too_large += 1;
                continue;
            }
            let scope = scopes.number(span);
            self.marks.push(Mark { range: start..self.scratch.len(), scope });
        }

        let scopes: Vec<Envelope> = scopes
            .known()
            .iter()
            .map(|scope| scope.map_or_else(|| self.tracing_scope.clone(), scope_envelope))
            .collect();
        let resource = resource_envelope(&mut self.resource, batch.resource());

        let mut rest = self.marks.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fitting(rest, self.limits.target));
            let body = assemble(&self.scratch, now, &scopes, resource);
            encoded.requests.push(EncodedRequest { body, spans: now.len() as u64 });
            rest = later;
        }
        encoded
    }
}

/// How many of `marks` go into the next request; at least one.
fn fitting(marks: &[Mark], target: usize) -> usize {
    let mut size = 0;
    marks
        .iter()
        .take_while(|mark| {
            size += mark.range.len();
            size <= target
        })
        .count()
        .max(1)
}

fn assemble(scratch: &[u8], marks: &[Mark], scopes: &[Envelope], resource: &Envelope) -> Vec<u8> {
    // The slices of each scope; neighbours are joined, so usually there is one of each.
    let mut groups: Vec<(usize, Vec<Range<usize>>)> = Vec::new();
    for mark in marks {
        let found = groups.iter_mut().find(|(scope, _)| *scope == mark.scope);
        match found {
            None => groups.push((mark.scope, vec![mark.range.clone()])),
            Some((_, slices)) => match slices.last_mut() {
                Some(last) if last.end == mark.range.start => last.end = mark.range.end,
                _ => slices.push(mark.range.clone()),
            },
        }
    }
    let sizes: Vec<usize> = groups
        .iter()
        .map(|(scope, slices)| {
            scopes[*scope].len() + slices.iter().map(ExactSizeIterator::len).sum::<usize>()
        })
        .collect();
    let content = resource.len() + sizes.iter().map(|size| wire::field_len(*size)).sum::<usize>();

    let mut out = Vec::with_capacity(wire::field_len(content));
    out.push(tag(1, BYTES));
    wire::varint(&mut out, content as u64);
    out.extend_from_slice(&resource.head);
    for ((scope, slices), size) in groups.iter().zip(sizes) {
        out.push(tag(2, BYTES));
        wire::varint(&mut out, size as u64);
        out.extend_from_slice(&scopes[*scope].head);
        for slice in slices {
            out.extend_from_slice(&scratch[slice.clone()]);
        }
        out.extend_from_slice(&scopes[*scope].tail);
    }
    out.extend_from_slice(&resource.tail);
    out
}

/// The resource's fields, encoded once for all batches that share it.
fn resource_envelope<'a>(
    cache: &'a mut Option<(Arc<Resource>, Envelope)>,
    resource: &Arc<Resource>,
) -> &'a Envelope {
    if !cache.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, resource)) {
        *cache = None;
    }
    let (_, envelope) = cache.get_or_insert_with(|| {
        let mut envelope = Envelope::default();
        wire::nested::<2>(&mut envelope.head, tag(1, BYTES), |out| {
            for (key, value) in resource.iter() {
                write_attribute(out, tag(1, BYTES), key.as_str(), values::borrow(value));
            }
        });
        wire::text(&mut envelope.tail, tag(3, BYTES), resource.schema_url().unwrap_or_default());
        (resource.clone(), envelope)
    });
    envelope
}

fn scope_envelope(scope: &InstrumentationScope) -> Envelope {
    let mut envelope = Envelope::default();
    wire::nested::<1>(&mut envelope.head, tag(1, BYTES), |out| {
        wire::text(out, tag(1, BYTES), scope.name());
        wire::text(out, tag(2, BYTES), scope.version().unwrap_or_default());
        for attribute in scope.attributes() {
            write_key_value(out, tag(3, BYTES), attribute);
        }
    });
    wire::text(&mut envelope.tail, tag(3, BYTES), scope.schema_url().unwrap_or_default());
    envelope
}

fn write_span(out: &mut Vec<u8>, span: &SpanRecord) {
    wire::bytes(out, tag(1, BYTES), &span.trace_id().to_bytes());
    wire::bytes(out, tag(2, BYTES), &span.span_id().to_bytes());
    if let Some(state) = span.trace_state() {
        wire::text(out, tag(3, BYTES), &state.header());
    }
    if let Some(parent) = span.parent_span_id() {
        wire::bytes(out, tag(4, BYTES), &parent.to_bytes());
    }
    wire::text(out, tag(5, BYTES), span.name());
    wire::number(out, tag(6, VARINT), values::kind(span.kind()).into());
    wire::fixed64(out, tag(7, FIXED64), span.start_unix_nano());
    wire::fixed64(out, tag(8, FIXED64), span.end_unix_nano());
    for (key, value) in span.attributes().iter() {
        write_attribute(out, tag(9, BYTES), key, value);
    }
    wire::number(out, tag(10, VARINT), span.attributes().dropped().into());
    for event in span.events() {
        wire::nested::<1>(out, tag(11, BYTES), |out| write_event(out, &event));
    }
    wire::number(out, tag(12, VARINT), span.dropped_events().into());
    for link in span.links() {
        wire::nested::<1>(out, tag(13, BYTES), |out| write_link(out, link));
    }
    wire::number(out, tag(14, VARINT), span.dropped_links().into());
    if span.status() != StatusCode::Unset {
        wire::nested::<1>(out, tag(15, BYTES), |out| {
            wire::text(out, tag(2, BYTES), span.status_message());
            wire::number(out, tag(3, VARINT), values::status(span.status()).into());
        });
    }
    // Field 16: its tag takes two bytes.
    wire::varint(out, 16 << 3 | u64::from(FIXED32));
    out.extend_from_slice(&values::span_flags(span).to_le_bytes());
}

fn write_event(out: &mut Vec<u8>, event: &EventView<'_>) {
    wire::fixed64(out, tag(1, FIXED64), event.time_unix_nano());
    wire::text(out, tag(2, BYTES), event.name());
    for (key, value) in event.attributes() {
        write_attribute(out, tag(3, BYTES), key, value);
    }
    wire::number(out, tag(4, VARINT), event.dropped_attributes().into());
}

fn write_link(out: &mut Vec<u8>, link: &Link) {
    wire::bytes(out, tag(1, BYTES), &link.context.trace_id().to_bytes());
    wire::bytes(out, tag(2, BYTES), &link.context.span_id().to_bytes());
    wire::text(out, tag(3, BYTES), &link.context.trace_state().header());
    for attribute in &link.attributes {
        write_key_value(out, tag(4, BYTES), attribute);
    }
    wire::number(out, tag(5, VARINT), link.dropped_attributes.into());
    out.push(tag(6, FIXED32));
    out.extend_from_slice(&values::link_flags(&link.context).to_le_bytes());
}

fn write_key_value(out: &mut Vec<u8>, tag: u8, attribute: &KeyValue) {
    write_attribute(out, tag, attribute.key.as_str(), values::borrow(&attribute.value));
}

/// A `KeyValue`. The lengths of scalars are known beforehand, so nothing has to move.
fn write_attribute(out: &mut Vec<u8>, field: u8, key: &str, value: AttributeValue<'_>) {
    if let AttributeValue::Str(text) = value
        && !key.is_empty()
        && key.len() + text.len() < 0x80 - 6
    {
        // The usual case: all lengths are single bytes, and the frame is two writes.
        let (key_len, text_len) = (key.len() as u8, text.len() as u8);
        out.extend_from_slice(&[field, key_len + text_len + 6, tag(1, BYTES), key_len]);
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(&[tag(2, BYTES), text_len + 2, tag(1, BYTES), text_len]);
        out.extend_from_slice(text.as_bytes());
        return;
    }
    let value_len = match value {
        AttributeValue::Bool(_) => 2,
        AttributeValue::I64(value) => 1 + wire::varint_len(value as u64),
        AttributeValue::F64(_) => 9,
        AttributeValue::Str(text) => wire::field_len(text.len()),
        AttributeValue::Array(_) => {
            return wire::nested::<1>(out, field, |out| {
                wire::text(out, tag(1, BYTES), key);
                wire::nested::<1>(out, tag(2, BYTES), |out| write_value(out, value));
            });
        }
    };
    let key_len = if key.is_empty() { 0 } else { wire::field_len(key.len()) };
    out.push(field);
    wire::varint(out, (key_len + wire::field_len(value_len)) as u64);
    wire::text(out, tag(1, BYTES), key);
    out.push(tag(2, BYTES));
    wire::varint(out, value_len as u64);
    write_value(out, value);
}

/// The content of an `AnyValue`: a oneof, so defaults are written too.
fn write_value(out: &mut Vec<u8>, value: AttributeValue<'_>) {
    match value {
        AttributeValue::Str(text) => wire::bytes(out, tag(1, BYTES), text.as_bytes()),
        AttributeValue::Bool(value) => out.extend_from_slice(&[tag(2, VARINT), value.into()]),
        AttributeValue::I64(value) => {
            out.push(tag(3, VARINT));
            // Negative integers take ten bytes: two's complement, as int64 has it.
            wire::varint(out, value as u64);
        }
        AttributeValue::F64(value) => {
            out.push(tag(4, FIXED64));
            out.extend_from_slice(&value.to_le_bytes());
        }
        AttributeValue::Array(array) => wire::nested::<1>(out, tag(5, BYTES), |out| {
            values::for_each(array, |value| {
                wire::nested::<1>(out, tag(1, BYTES), |out| write_value(out, value));
            });
        }),
    }
}
