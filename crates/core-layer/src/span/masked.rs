//! Spans that may leave: masked, complete, immutable.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use opentelemetry_sdk::Resource;

use super::attributes::{Stored, Text};
use super::record::{RawSpan, SpanRecord, static_text};
use crate::masking::Masker;
use crate::pipeline::RecordPool;

/// A span whose secrets have been masked: the only form that exporters see.
#[derive(Debug)]
pub struct MaskedSpan(Box<SpanRecord>);

/// What the worker adds to a span of `tracing` besides its fields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extras {
    pub(crate) location: bool,
    pub(crate) threads: bool,
    pub(crate) busy_idle: bool,
    pub(crate) wall_offset: u64,
    /// The most attributes that a span may have, these included.
    pub(crate) attribute_limit: usize,
}

impl Extras {
    pub(crate) fn none() -> Self {
        Self {
            location: false,
            threads: false,
            busy_idle: false,
            wall_offset: 0,
            attribute_limit: usize::MAX,
        }
    }
}

impl MaskedSpan {
    /// Masks `raw` and completes it with what does not need the application's thread.
    pub(crate) fn new(raw: RawSpan, masker: &Masker, extras: Extras) -> Self {
        let mut record = raw.0;
        record.attributes.keep_last_of_each_key();
        mask(&mut record, masker);
        if let Some(metadata) = record.head.metadata {
            record.head.wall_offset = extras.wall_offset;
            complete(&mut record, metadata, extras);
        }
        if record.head.truncated {
            record.attributes.push(Text::Static("spanweave.truncated"), Stored::Bool(true));
        }
        if record.attributes.position("error.type").is_none()
            && let Some(class) = record.error_type().map(str::to_owned)
        {
            let class = record.attributes.append(&class);
            record.attributes.push(Text::Static("error.type"), Stored::Text(class));
        }
        Self(record)
    }

    /// The memory, to be used again.
    pub(crate) fn into_raw(self) -> RawSpan {
        RawSpan(self.0)
    }

    pub(crate) fn record_mut(&mut self) -> &mut SpanRecord {
        &mut self.0
    }
}

impl Deref for MaskedSpan {
    type Target = SpanRecord;
    fn deref(&self) -> &SpanRecord {
        &self.0
    }
}

fn mask(record: &mut SpanRecord, masker: &Masker) {
    for list in [&mut record.attributes, &mut record.event_attributes] {
        for position in 0..list.len() {
            let key = list.slots()[position].key;
            // Static keys are those of callsites, which have been judged there once for all, and
            // our own.
            if matches!(key, Text::Range { .. }) && masker.is_sensitive_key(list.resolve(key)) {
                list.replace(position, static_text(crate::masking::MASK));
            }
        }
    }
    for link in &mut record.links {
        for attribute in &mut link.attributes {
            if masker.is_sensitive_key(attribute.key.as_str()) {
                attribute.value = crate::masking::MASK.into();
            }
        }
    }
}

fn complete(
    record: &mut SpanRecord,
    metadata: &'static tracing_core::Metadata<'static>,
    extras: Extras,
) {
    let (busy, duration) = (record.head.timing.busy, record.duration_nanos());
    let (thread_id, thread_name) = (record.head.thread_id, record.head.thread_name);
    let list = &mut record.attributes;
    let mut add = |key: &'static str, value: Stored| {
        if list.position(key).is_some() {
            return;
        }
        if list.len() < extras.attribute_limit {
            list.push(Text::Static(key), value);
        } else {
            list.add_dropped(1);
        }
    };
    let integer = |value: u64| Stored::I64(i64::try_from(value).unwrap_or(i64::MAX));
    if extras.location {
        add("target", static_text(metadata.target()));
        if let Some(file) = metadata.file() {
            add("code.file.path", static_text(file));
        }
        if let Some(line) = metadata.line() {
            add("code.line.number", Stored::I64(i64::from(line)));
        }
        if let Some(module) = metadata.module_path() {
            add("code.module.name", static_text(module));
        }
    }
    if extras.threads {
        add("thread.id", integer(thread_id));
        if let Some(name) = thread_name {
            add("thread.name", static_text(name));
        }
    }
    if extras.busy_idle {
        add("busy_ns", integer(busy));
        add("idle_ns", integer(duration.saturating_sub(busy)));
    }
}

/// Spans on their way to the backends, with the resource that made them.
///
/// Their memory goes back to the capture when the last holder drops the batch, so hold it only
/// as long as needed: encode, then let go.
#[derive(Debug)]
pub struct MaskedBatch {
    spans: Vec<MaskedSpan>,
    resource: Arc<Resource>,
    pool: Weak<RecordPool>,
}

impl MaskedBatch {
    pub(crate) fn new(
        spans: Vec<MaskedSpan>,
        resource: Arc<Resource>,
        pool: Weak<RecordPool>,
    ) -> Self {
        Self { spans, resource, pool }
    }

    /// The spans.
    pub fn spans(&self) -> &[MaskedSpan] {
        &self.spans
    }

    /// The number of spans.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The resource; the same `Arc` for all batches of a pipeline, so that its encoding can be
    /// cached by address.
    pub fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }
}

impl Drop for MaskedBatch {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.put(self.spans.drain(..).map(MaskedSpan::into_raw));
        }
    }
}
