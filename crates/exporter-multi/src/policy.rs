//! What one backend gets of the spans.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::{KeyValue, TraceId};
use spanweave_core::masking::{MASK, Masking};
use spanweave_core::span::{SpanRecord, StatusCode};
use spanweave_core::{MaskedBatch, MaskedSpan};

/// What one backend gets of the spans, and what it does not see of them.
///
/// A span has to meet every condition that is set. What a backend does not get counts as sampled
/// out in its account. Backends with equal policies share their encoding.
///
/// ```
/// use std::time::Duration;
/// use spanweave_exporter::{Backend, Policy};
///
/// // Errors to a vendor, without the names of users; everything to the local file.
/// let vendor = Backend::otlp_http("https://collector.example.com")
///     .policy(Policy::new().only_errors().redact(["enduser.id", "user.*"]));
/// let local = Backend::file("spans.jsonl");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    only: Vec<String>,
    without: Vec<String>,
    only_errors: bool,
    slower_than: Option<Duration>,
    ratio: Option<f64>,
    redacted: Vec<String>,
}

/// The low 56 bits of a trace id are its randomness (W3C Trace Context level 2).
const RANDOM: u128 = (1 << 56) - 1;

impl Policy {
    /// Everything, as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only spans with these names (operations). A `*` at the end stands for any ending.
    #[must_use]
    pub fn only_operations(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.only.extend(names.into_iter().map(Into::into));
        self
    }

    /// No spans with these names (operations). A `*` at the end stands for any ending.
    #[must_use]
    pub fn without_operations(
        mut self,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.without.extend(names.into_iter().map(Into::into));
        self
    }

    /// Only spans whose status is Error.
    #[must_use]
    pub fn only_errors(mut self) -> Self {
        self.only_errors = true;
        self
    }

    /// Only spans that took longer.
    #[must_use]
    pub fn only_slower_than(mut self, duration: Duration) -> Self {
        self.slower_than = Some(duration);
        self
    }

    /// Only this share of the traces (0 to 1), decided by the trace id, so that the spans of a
    /// trace stay together, also between services and with collectors that do the same. Spans
    /// that have a threshold in their trace state already (`ot=th:…`) keep it: this backend's
    /// counts are this much lower.
    #[must_use]
    pub fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = Some(if ratio.is_nan() { 1.0 } else { ratio.clamp(0.0, 1.0) });
        self
    }

    /// Shows `[masked]` instead of the values of these attributes, on spans, events and links. A
    /// `*` at the end stands for any ending.
    #[must_use]
    pub fn redact(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.redacted.extend(keys.into_iter().map(Into::into));
        self
    }

    /// Whether a span goes to the backend.
    fn keeps(&self, span: &SpanRecord) -> bool {
        (self.only.is_empty() || matches_any(&self.only, span.name()))
            && !matches_any(&self.without, span.name())
            && (!self.only_errors || span.status() == StatusCode::Error)
            && self
                .slower_than
                .is_none_or(|limit| Duration::from_nanos(span.duration_nanos()) > limit)
            && self.ratio.is_none_or(|ratio| is_sampled(span.trace_id(), ratio))
    }

    /// What is left of a batch; the same one where nothing changes.
    pub(crate) fn apply(&self, batch: &Arc<MaskedBatch>) -> Arc<MaskedBatch> {
        let kept: Vec<&MaskedSpan> = batch.spans().iter().filter(|span| self.keeps(span)).collect();
        if kept.len() == batch.len() && self.redacted.is_empty() {
            return batch.clone();
        }
        let spans = kept.iter().map(|span| {
            let mut span = span.to_span_data();
            self.redact_all(&mut span.attributes);
            span.events.events.iter_mut().for_each(|event| self.redact_all(&mut event.attributes));
            span.links.links.iter_mut().for_each(|link| self.redact_all(&mut link.attributes));
            span
        });
        // They are masked already.
        let masker = Masking::off().compile();
        Arc::new(MaskedBatch::from_sdk(spans.collect(), batch.resource().clone(), &masker))
    }

    fn redact_all(&self, attributes: &mut [KeyValue]) {
        for attribute in attributes {
            if matches_any(&self.redacted, attribute.key.as_str()) {
                attribute.value = MASK.into();
            }
        }
    }

    /// Tells policies apart on disk.
    pub(crate) fn hash(&self) -> u32 {
        crc32fast::hash(format!("{self:?}").as_bytes())
    }
}

fn matches_any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => pattern == text,
    })
}

/// Consistent probability sampling: kept where the randomness is not below the threshold.
fn is_sampled(trace: TraceId, ratio: f64) -> bool {
    let random = u128::from_be_bytes(trace.to_bytes()) & RANDOM;
    let threshold = (1.0 - ratio) * (RANDOM + 1) as f64;
    random as f64 >= threshold
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{batch, span_data};
    use opentelemetry::trace::{Event, Status};

    fn names(batch: &MaskedBatch) -> Vec<String> {
        batch.spans().iter().map(|span| span.name().to_owned()).collect()
    }

    fn spans() -> Arc<MaskedBatch> {
        let mut failed = span_data(1, 2, Some(1), "GET /orders");
        failed.status = Status::error("no");
        let mut slow = span_data(2, 3, None, "report");
        slow.end_time += Duration::from_secs(1);
        slow.attributes.push(KeyValue::new("enduser.id", "lovelace"));
        slow.attributes.push(KeyValue::new("kept", "yes"));
        let event =
            Event::new("e", slow.start_time, vec![KeyValue::new("enduser.id", "lovelace")], 0);
        slow.events.events.push(event);
        Arc::new(batch(vec![span_data(1, 1, None, "GET /health"), failed, slow]))
    }

    #[test]
    fn spans_are_chosen_by_operation_status_and_duration() {
        for (policy, expected) in [
            (Policy::new().only_errors(), vec!["GET /orders"]),
            (Policy::new().only_slower_than(Duration::from_millis(500)), vec!["report"]),
            (Policy::new().only_operations(["GET *"]), vec!["GET /health", "GET /orders"]),
            (Policy::new().without_operations(["GET /health"]), vec!["GET /orders", "report"]),
            (Policy::new().only_operations(["GET *"]).only_errors(), vec!["GET /orders"]),
            (Policy::new().ratio(0.0), vec![]),
        ] {
            assert_eq!(names(&policy.apply(&spans())), expected, "{policy:?}");
        }
    }

    #[test]
    fn nothing_is_copied_where_nothing_changes() {
        let all = spans();
        assert!(Arc::ptr_eq(&Policy::new().ratio(1.0).apply(&all), &all));
    }

    #[test]
    fn redacted_attributes_are_masked_on_spans_and_events() {
        let redacted = Policy::new().redact(["enduser.*"]).apply(&spans());
        let span = &redacted.spans()[2];
        assert_eq!(span.attributes().get("enduser.id").unwrap().as_str(), Some(MASK));
        assert_eq!(span.attributes().get("kept").unwrap().as_str(), Some("yes"));
        assert!(!format!("{span:?}").contains("lovelace"));
    }

    #[test]
    fn a_share_of_the_traces_is_kept_and_the_same_ones_at_every_backend() {
        let kept = |ratio: f64| {
            (1..=2000u128)
                .filter(|n| {
                    is_sampled(TraceId::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c)), ratio)
                })
                .collect::<Vec<_>>()
        };
        let (tenth, half) = (kept(0.1), kept(0.5));
        assert!(
            (120..280).contains(&tenth.len()) && (880..1120).contains(&half.len()),
            "{} {}",
            tenth.len(),
            half.len()
        );
        assert!(tenth.iter().all(|trace| half.contains(trace)));
        assert_eq!(kept(1.0).len(), 2000);
    }
}
