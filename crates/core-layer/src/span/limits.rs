//! Limits on what one span may hold.

/// Limits of a span, as the `OTEL_*_LIMIT` variables name them.
///
/// What a limit keeps out is counted on the span (`dropped_attributes_count` and its siblings).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanLimits {
    /// Attributes on a span, those that tell its place and thread included. Default 128.
    pub attributes: usize,
    /// Events on a span. Default 128.
    pub events: usize,
    /// Links on a span. Default 128.
    pub links: usize,
    /// Attributes on an event. Default 128.
    pub attributes_per_event: usize,
    /// Attributes on a link. Default 128.
    pub attributes_per_link: usize,
    /// Bytes of one value, cut at a character boundary. Values that were cut mark their span
    /// with the attribute `spanweave.truncated`. Default [`SpanLimits::MAX_VALUE_BYTES`].
    pub value_bytes: usize,
}

impl SpanLimits {
    /// The length that a single text value never exceeds, in bytes, whatever the configuration:
    /// 256 KiB. The specification knows no default limit; without one, a few spans with values
    /// of 10 MB would hold the whole queue.
    pub const MAX_VALUE_BYTES: usize = 256 * 1024;
}

impl Default for SpanLimits {
    fn default() -> Self {
        // The defaults of the OpenTelemetry specification for `OTEL_SPAN_*_LIMIT`.
        Self {
            attributes: 128,
            events: 128,
            links: 128,
            attributes_per_event: 128,
            attributes_per_link: 128,
            value_bytes: Self::MAX_VALUE_BYTES,
        }
    }
}
