//! What is read of a span that ended.

use opentelemetry::trace::SpanKind;
use spanweave_core::SpanEnd;
use spanweave_core::span::{AttributeValue, StatusCode};

use crate::names;

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
}

/// A request from another service: the topmost span here, of a kind that receives.
pub(crate) fn is_request(span: &impl Ended) -> bool {
    matches!(span.kind(), SpanKind::Server | SpanKind::Consumer) && span.is_local_root()
}

pub(crate) fn error_type(span: &impl Ended) -> &str {
    span.error_type().unwrap_or(names::OTHER_ERROR)
}

pub(crate) fn caller(span: &impl Ended) -> &str {
    span.caller_service().filter(|name| !name.is_empty()).unwrap_or(names::UNKNOWN)
}
