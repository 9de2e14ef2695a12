//! What is known of a callsite, worked out once.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::{Arc, PoisonError};

use tracing_core::Metadata;

use crate::masking::Masker;
use crate::pipeline::Core;
use crate::ports::EventSpans;

/// What a field means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldClass {
    /// An attribute.
    Plain,
    /// An attribute whose value is a secret and is never looked at.
    Sensitive,
    /// An attribute that decides the class of an error or that an observer wants: kept on spans
    /// that are not recorded, too.
    Observed,
    OtelName,
    OtelKind,
    OtelStatusCode,
    OtelStatusDescription,
    /// `message` of an event.
    Message,
    /// `error` of an event.
    Error,
    /// `log.*` of an event that comes from the `log` crate.
    Log,
}

#[derive(Debug)]
pub(crate) struct CallsiteInfo {
    /// Dense number of the callsite in its pipeline.
    pub(crate) index: u32,
    pub(crate) enabled: bool,
    /// By the field's index.
    pub(crate) fields: Box<[FieldClass]>,
    /// Which of the pipeline's `event_spans` has claimed it.
    pub(crate) claimed_by: Option<usize>,
    /// It is the one through which records of the `log` crate arrive.
    pub(crate) is_log: bool,
}

/// Rules by which callsites are judged.
pub(crate) struct Rules {
    pub(crate) core: Arc<Core>,
    pub(crate) masker: Arc<Masker>,
    pub(crate) observed: Vec<String>,
    pub(crate) enabled: Option<crate::CallsiteFilter>,
    pub(crate) event_spans: Vec<Arc<dyn EventSpans>>,
}

/// Attributes that decide the class of an error (see `SpanRecord::classify_error`).
const ERROR_ATTRIBUTES: [&str; 5] = [
    "error.type",
    "http.response.status_code",
    "rpc.status_code",
    "rpc.grpc.status_code",
    "db.response.status_code",
];

impl Rules {
    fn judge(&self, metadata: &'static Metadata<'static>, index: u32) -> CallsiteInfo {
        let claimed_by = metadata
            .is_event()
            .then(|| {
                let claims = |spans: &Arc<dyn EventSpans>| {
                    self.core.guarded(|| spans.claims(metadata)).unwrap_or(false)
                };
                self.event_spans.iter().position(claims)
            })
            .flatten();
        let enabled = self
            .enabled
            .as_ref()
            .is_none_or(|enabled| self.core.guarded(|| enabled(metadata)).unwrap_or(true));
        let fields: Box<[_]> =
            metadata.fields().iter().map(|field| self.class(field.name(), metadata)).collect();
        CallsiteInfo {
            index,
            enabled,
            is_log: metadata.target() == "log" && fields.contains(&FieldClass::Log),
            fields,
            claimed_by,
        }
    }

    fn class(&self, field: &str, metadata: &Metadata<'_>) -> FieldClass {
        match field {
            "message" if metadata.is_event() => FieldClass::Message,
            "error" if metadata.is_event() => FieldClass::Error,
            _ if metadata.is_event() && field.starts_with("log.") => FieldClass::Log,
            "otel.name" if metadata.is_span() => FieldClass::OtelName,
            "otel.kind" if metadata.is_span() => FieldClass::OtelKind,
            "otel.status_code" if metadata.is_span() => FieldClass::OtelStatusCode,
            "otel.status_description" | "otel.status_message" if metadata.is_span() => {
                FieldClass::OtelStatusDescription
            }
            _ if self.masker.is_sensitive_key(field) => FieldClass::Sensitive,
            _ if ERROR_ATTRIBUTES.contains(&field) => FieldClass::Observed,
            _ if self.observed.iter().any(|observed| observed == field) => FieldClass::Observed,
            _ => FieldClass::Plain,
        }
    }
}

/// All callsites that one pipeline has seen.
///
/// An entry lives as long as the process, as the callsite itself does.
pub(crate) struct Callsites {
    rules: Rules,
    known: RwLock<HashMap<usize, &'static CallsiteInfo>>,
}

impl Callsites {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, known: RwLock::new(HashMap::new()) }
    }

    pub(crate) fn event_spans(&self) -> &[Arc<dyn EventSpans>] {
        &self.rules.event_spans
    }

    pub(crate) fn is_observed(&self, key: &str) -> bool {
        ERROR_ATTRIBUTES.contains(&key) || self.rules.observed.iter().any(|known| known == key)
    }

    pub(crate) fn get(&self, metadata: &'static Metadata<'static>) -> &'static CallsiteInfo {
        let key = address(metadata);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(info) = known.get(&key) {
            return info;
        }
        drop(known);
        // Judged outside the lock: filters and claims are foreign code.
        let mut info = self.rules.judge(metadata, 0);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let next = u32::try_from(known.len()).unwrap_or(u32::MAX - 1);
        known.entry(key).or_insert_with(|| {
            info.index = next;
            Box::leak(Box::new(info))
        })
    }
}

/// The address of a callsite's metadata, which is its identity.
pub(crate) fn address(metadata: &'static Metadata<'static>) -> usize {
    std::ptr::from_ref(metadata).addr()
}
