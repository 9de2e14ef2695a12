//! What is read of a span that ended.

use opentelemetry::trace::SpanKind;
use spanweave_core::SpanEnd;
use spanweave_core::span::{AttributeValue, StatusCode};

use crate::{conventions, names};

/// A span that ended. Only tests have another than [`SpanEnd`].
pub(crate) trait Ended {
    fn callsite(&self) -> Option<u32>;
    fn static_name(&self) -> Option<&'static str>;
    fn name(&self) -> &str;
    fn kind(&self) -> &SpanKind;
    fn status(&self) -> StatusCode;
    fn error_type(&self) -> Option<&str>;
    fn duration_nanos(&self) -> u64;
    fn attribute(&self, key: &str) -> Option<AttributeValue<'_>>;
    fn is_local_root(&self) -> bool;
    fn caller_service(&self) -> Option<&str>;
    fn is_flagged(&self) -> bool;
}

impl Ended for SpanEnd<'_> {
    #[inline]
    fn callsite(&self) -> Option<u32> {
        self.callsite()
    }
    #[inline]
    fn static_name(&self) -> Option<&'static str> {
        self.static_name()
    }
    fn name(&self) -> &str {
        self.name()
    }
    #[inline]
    fn kind(&self) -> &SpanKind {
        self.kind()
    }
    #[inline]
    fn status(&self) -> StatusCode {
        self.status()
    }
    fn error_type(&self) -> Option<&str> {
        self.error_type()
    }
    #[inline]
    fn duration_nanos(&self) -> u64 {
        self.duration_nanos()
    }
    fn attribute(&self, key: &str) -> Option<AttributeValue<'_>> {
        self.attribute(key)
    }
    #[inline]
    fn is_local_root(&self) -> bool {
        self.is_local_root()
    }
    fn caller_service(&self) -> Option<&str> {
        self.caller_service()
    }
    #[inline]
    fn is_flagged(&self) -> bool {
        self.is_flagged()
    }
}

/// A request from another service: the topmost span here, of a kind that receives.
#[inline]
pub(crate) fn is_request(span: &impl Ended) -> bool {
    matches!(span.kind(), SpanKind::Server | SpanKind::Consumer) && span.is_local_root()
}

/// A request to another service.
#[inline]
pub(crate) fn is_call(span: &impl Ended) -> bool {
    matches!(span.kind(), SpanKind::Client | SpanKind::Producer)
}

pub(crate) fn error_type(span: &impl Ended) -> &str {
    span.error_type().unwrap_or(names::OTHER_ERROR)
}

pub(crate) fn caller(span: &impl Ended) -> &str {
    span.caller_service().filter(|name| !name.is_empty()).unwrap_or(names::UNKNOWN)
}

/// The service that was called: as it named itself, a database as its system is called.
pub(crate) fn callee(span: &impl Ended) -> &str {
    let text = |key| match span.attribute(key) {
        Some(AttributeValue::Str(name)) if !name.is_empty() => Some(name),
        _ => None,
    };
    text(conventions::PEER).or_else(|| text(conventions::DATABASE_SYSTEM)).unwrap_or(names::UNKNOWN)
}

pub(crate) fn is_database_call(span: &impl Ended) -> bool {
    *span.kind() == SpanKind::Client && span.attribute(conventions::DATABASE_SYSTEM).is_some()
}

/// An attribute as metrics take it: the class of an error is the span's.
pub(crate) fn attribute<'a>(span: &'a impl Ended, key: &str) -> Option<AttributeValue<'a>> {
    if key == conventions::ERROR_TYPE {
        let failed = span.status() == StatusCode::Error;
        return failed.then(|| AttributeValue::Str(error_type(span)));
    }
    span.attribute(key)
}
