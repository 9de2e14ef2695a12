//! Finished spans in a row, as they are handed to the worker.
//!
//! A record is emptied into the chunk and stays with its thread, warm in its cache; the worker
//! fills records of its own from the chunk. What crosses between the two cores is a few arrays
//! that are written and read from front to back, which the hardware fetches ahead.
//!
//! Layout: one entry of fixed size a span, and for everything that varies one array over all
//! spans, in the order of the spans. Reading is possible only from the front, all of it.

use super::attributes::{Extent, Slot};
use super::error_type::Source;
use super::record::{EventHead, Head, Link, RawSpan, SpanRecord};
use crate::ports::Measurement;

#[derive(Debug)]
struct Entry {
    head: Head,
    // Lengths in the arrays; limits on spans keep all of them far below four billion.
    name: u32,
    status: u32,
    error: u32,
    error_source: Source,
    attributes: Extent,
    event_attributes: Extent,
    events: u32,
    links: u32,
    measurements: u32,
}

/// Finished spans in a row.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    entries: Vec<Entry>,
    slots: Vec<Slot>,
    events: Vec<EventHead>,
    links: Vec<Link>,
    measurements: Vec<Measurement>,
    text: String,
}

impl Chunk {
    /// The number of spans.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Empties `record` into the chunk.
    pub(crate) fn push(&mut self, record: &mut SpanRecord) {
        let text = &mut self.text;
        text.push_str(&record.name_text);
        text.push_str(&record.status_message);
        let entry = Entry {
            name: record.name_text.len() as u32,
            status: record.status_message.len() as u32,
            error: record.error_type.len() as u32,
            error_source: record.error_type.move_to(text),
            attributes: record.attributes.move_to(&mut self.slots, text),
            event_attributes: record.event_attributes.move_to(&mut self.slots, text),
            events: record.events.len() as u32,
            links: record.links.len() as u32,
            measurements: record.measurements.len() as u32,
            head: std::mem::take(&mut record.head),
        };
        self.entries.push(entry);
        record.name_text.clear();
        record.status_message.clear();
        self.events.append(&mut record.events);
        self.links.append(&mut record.links);
        self.measurements.append(&mut record.measurements);
    }

    /// Gives every span to `take`, in a record from `spare`, and keeps the memory.
    pub(crate) fn drain(
        &mut self,
        mut spare: impl FnMut() -> RawSpan,
        mut take: impl FnMut(RawSpan),
    ) {
        let mut slots = self.slots.drain(..);
        let mut events = self.events.drain(..);
        let mut links = self.links.drain(..);
        let mut measurements = self.measurements.drain(..);
        let mut rest = self.text.as_str();
        let mut next = |len: u32| {
            let (text, after) = rest.split_at_checked(len as usize).unwrap_or((rest, ""));
            rest = after;
            text
        };
        for entry in self.entries.drain(..) {
            let mut raw = spare();
            let record: &mut SpanRecord = &mut raw;
            record.head = entry.head;
            record.name_text.push_str(next(entry.name));
            record.status_message.push_str(next(entry.status));
            record.error_type.move_from(entry.error_source, next(entry.error));
            let text = next(entry.attributes.text);
            record.attributes.move_from(entry.attributes, slots.by_ref(), text);
            let text = next(entry.event_attributes.text);
            record.event_attributes.move_from(entry.event_attributes, slots.by_ref(), text);
            record.events.extend(events.by_ref().take(entry.events as usize));
            record.links.extend(links.by_ref().take(entry.links as usize));
            record.measurements.extend(measurements.by_ref().take(entry.measurements as usize));
            take(raw);
        }
        drop((slots, events, links, measurements));
        self.text.clear();
    }

    /// Whether the chunk has as many spans as a chunk should.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= SPANS
    }

    /// Gives memory back that unusually large spans have left behind.
    pub(crate) fn shrink(&mut self) {
        self.slots.shrink_to(SPANS * 32);
        self.events.shrink_to(SPANS * 8);
        self.links.shrink_to(SPANS);
        self.text.shrink_to(SPANS * 1024);
    }
}

/// Spans in a chunk. Chunks of one size are never grown once they have been used, and some of
/// them fit the second-level cache.
const SPANS: usize = 128;

#[cfg(test)]
mod tests {
    use opentelemetry::trace::SpanId;

    use super::super::attributes::{Stored, Text};
    use super::*;

    fn record(number: u64) -> RawSpan {
        let mut raw = RawSpan::default();
        let record: &mut SpanRecord = &mut raw;
        record.head.span_id = SpanId::from(number);
        record.set_name(&format!("span {number}"));
        record.set_error(&format!("error {number}"));
        record.error_type.offer(Source::RecordedType, &format!("Type{number}"));
        for attribute in 0..number {
            let value = record.attributes.append(&attribute.to_string());
            record.attributes.push(Text::Static("key"), Stored::Text(value));
        }
        let attributes = record.attributes.clone();
        record.add_event(Text::Static("event"), number, &attributes, 8);
        record.measurements.push(Measurement { series: number, value: 1 });
        raw
    }

    #[test]
    fn spans_come_out_as_they_went_in() {
        let mut chunk = Chunk::default();
        for round in 0..2 {
            for number in 1..5 {
                let mut raw = record(number);
                chunk.push(&mut raw);
                assert!(raw.name_text.is_empty() && raw.attributes.is_empty());
            }
            let mut out = Vec::new();
            chunk.drain(RawSpan::default, |raw| out.push(format!("{raw:?}")));
            let expected: Vec<_> = (1..5).map(|number| format!("{:?}", record(number))).collect();
            assert_eq!(out, expected, "round {round}");
            assert_eq!(chunk.len(), 0);
        }
    }
}
