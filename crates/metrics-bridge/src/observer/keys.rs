//! From a span to its series: a keyed hash of raw values, and the masked values themselves.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use opentelemetry::trace::SpanKind;
use spanweave_core::SpanStart;
use spanweave_core::masking::Masker;
use spanweave_core::span::AttributeValue;

use crate::ended::{Ended, attribute, callee, caller, error_type, is_database_call};
use crate::model::{DATABASE_CALL, Key, SpanMetric, kind_code, status_code};
use crate::schema::Schema;
use crate::{conventions, label};

/// The keys by which a name of a span and of a service are masked.
const NAME: &str = "name";
const SERVICE: &str = "service.name";

/// The keyed hash of a span's name.
pub(super) type NameHash = u64;

/// Finds the series of spans.
#[derive(Debug)]
pub(super) struct Keys {
    hasher: RandomState,
    /// What the hash of a series begins with that has no own values: as secret as the others.
    seed: u64,
    masker: Arc<Masker>,
    schema: Arc<Schema>,
}

impl Keys {
    pub(super) fn new(masker: Arc<Masker>, schema: Arc<Schema>) -> Self {
        let hasher = RandomState::new();
        Self { seed: hasher.hash_one(0_u8), hasher, masker, schema }
    }

    /// Whether name, kind and status tell the series of spans apart.
    #[inline]
    pub(super) fn has_plain_spans(&self) -> bool {
        self.schema.labels(SpanMetric::Spans).is_empty()
    }

    /// The keyed hash of a raw text, as far as the text counts.
    pub(super) fn hash(&self, text: &str) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(label::significant(text).as_bytes());
        hasher.finish()
    }

    pub(super) fn span_hash(&self, span: &impl Ended, name: NameHash) -> u64 {
        self.hash_with(SpanMetric::Spans, kind_and_status(span), name, &|key| attribute(span, key))
    }

    pub(super) fn span_key(&self, span: &impl Ended) -> Key {
        self.key(SpanMetric::Spans, kind_and_status(span), &[(NAME, span.name())], &|key| {
            attribute(span, key)
        })
    }

    pub(super) fn error_hash(&self, span: &impl Ended, name: NameHash) -> u64 {
        let hash = mix(name, self.hash(error_type(span)));
        self.hash_with(SpanMetric::Errors, (0, 0), hash, &|key| attribute(span, key))
    }

    pub(super) fn error_key(&self, span: &impl Ended) -> Key {
        let own = [(NAME, span.name()), (conventions::ERROR_TYPE, error_type(span))];
        self.key(SpanMetric::Errors, (0, 0), &own, &|key| attribute(span, key))
    }

    pub(super) fn request_hash(&self, span: &impl Ended, name: NameHash) -> u64 {
        let hash = mix(name, self.hash(caller(span)));
        let metric = SpanMetric::Requests;
        self.hash_with(metric, kind_and_status(span), hash, &|key| attribute(span, key))
    }

    pub(super) fn request_key(&self, span: &impl Ended) -> Key {
        let own = [(SERVICE, caller(span)), (NAME, span.name())];
        let metric = SpanMetric::Requests;
        self.key(metric, kind_and_status(span), &own, &|key| attribute(span, key))
    }

    pub(super) fn call_hash(&self, span: &impl Ended, name: NameHash) -> u64 {
        let hash = mix(name, self.hash(callee(span)));
        self.hash_with(SpanMetric::Calls, call(span), hash, &|key| attribute(span, key))
    }

    pub(super) fn call_key(&self, span: &impl Ended) -> Key {
        let own = [(SERVICE, callee(span)), (NAME, span.name())];
        self.key(SpanMetric::Calls, call(span), &own, &|key| attribute(span, key))
    }

    /// The metric of the semantic conventions that a span belongs to, if any.
    #[inline]
    pub(super) fn convention(&self, span: &impl Ended) -> Option<SpanMetric> {
        let metric = || conventions::metric_of(span.kind(), |key| span.attribute(key));
        self.schema.has_conventions().then(metric).flatten()
    }

    pub(super) fn convention_hash(&self, metric: SpanMetric, span: &impl Ended) -> u64 {
        self.hash_with(metric, (0, 0), self.seed, &|key| attribute(span, key))
    }

    pub(super) fn convention_key(&self, metric: SpanMetric, span: &impl Ended) -> Key {
        self.key(metric, (0, 0), &[], &|key| attribute(span, key))
    }

    /// Whether a span that starts is a request that is active from now on.
    #[inline]
    pub(super) fn is_active(&self, span: &SpanStart<'_>) -> bool {
        *span.kind() == SpanKind::Server
            && self.schema.has_conventions()
            && span.attribute(conventions::METHOD).is_some()
    }

    pub(super) fn active_hash<'a>(
        &self,
        attribute: &dyn Fn(&str) -> Option<AttributeValue<'a>>,
    ) -> u64 {
        self.hash_with(SpanMetric::ActiveRequests, (0, 0), self.seed, attribute)
    }

    pub(super) fn active_key<'a>(
        &self,
        attribute: &dyn Fn(&str) -> Option<AttributeValue<'a>>,
    ) -> Key {
        self.key(SpanMetric::ActiveRequests, (0, 0), &[], attribute)
    }

    /// The hash of a series; `own` is that of its own values.
    fn hash_with<'a>(
        &self,
        metric: SpanMetric,
        (kind, status): (u8, u8),
        own: u64,
        attribute: &dyn Fn(&str) -> Option<AttributeValue<'a>>,
    ) -> u64 {
        let identity = (metric as u64) << 16 | u64::from(kind) << 8 | u64::from(status);
        let hash = mix(own, identity);
        self.schema
            .labels(metric)
            .iter()
            .fold(hash, |hash, label| self.hash_value(hash, attribute(&label.attribute)))
    }

    /// The keyed hash of a label's raw value; `hash` is that of what stands before it.
    fn hash_value(&self, hash: u64, value: Option<AttributeValue<'_>>) -> u64 {
        let (kind, value) = match value {
            None => (0, 0),
            Some(AttributeValue::Bool(value)) => (1, u64::from(value)),
            Some(AttributeValue::I64(value)) => (2, value.cast_unsigned()),
            Some(AttributeValue::F64(value)) => (3, value.to_bits()),
            Some(AttributeValue::Str(value)) => (4, self.hash(value)),
            Some(value @ AttributeValue::Array(_)) => (5, self.hash(&value.to_string())),
        };
        mix(mix(hash, kind), value)
    }

    fn key<'a>(
        &self,
        metric: SpanMetric,
        (kind, status): (u8, u8),
        own: &[(&str, &str)],
        attribute: &dyn Fn(&str) -> Option<AttributeValue<'a>>,
    ) -> Key {
        let own = own.iter().map(|(key, raw)| label::value(&self.masker, key, raw));
        let labels = self.schema.labels(metric).iter().map(|label| {
            let masked = |raw: &str| {
                label::value(&self.masker, &label.attribute, &label.mapped(label::significant(raw)))
            };
            match attribute(&label.attribute) {
                Some(AttributeValue::Str(value)) => masked(value),
                Some(value) => masked(&value.to_string()),
                None => "".into(),
            }
        });
        Key { metric, kind, status, values: own.chain(labels).collect() }
    }
}

#[inline]
fn kind_and_status(span: &impl Ended) -> (u8, u8) {
    (kind_code(span.kind()), status_code(span.status()))
}

fn call(span: &impl Ended) -> (u8, u8) {
    let (kind, status) = kind_and_status(span);
    (if is_database_call(span) { DATABASE_CALL } else { kind }, status)
}

/// Mixes a second number into a keyed hash.
#[inline]
fn mix(hash: u64, with: u64) -> u64 {
    // The golden ratio in 64 bits: odd, without a pattern.
    const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15;
    let product = u128::from(hash ^ with.rotate_left(32)) * FACTOR;
    (product ^ (product >> 64)) as u64
}
