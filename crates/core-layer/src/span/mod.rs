//! The span record and its two states: `RawSpan`, as captured, and [`MaskedSpan`], which is
//! all that exporters ever see.

mod attributes;
mod error_type;
mod limits;
mod record;

mod chunk;

mod convert;
mod masked;

pub use attributes::{AttributeValue, Attributes};
pub use convert::{default_scope, observe_sdk_span};
pub use limits::SpanLimits;
pub use masked::{MaskedBatch, MaskedSpan};
pub use record::{EventView, Link, SpanRecord, StatusCode, Timing};

pub(crate) use attributes::{Stored, Text};
pub(crate) use chunk::Chunk;
pub(crate) use error_type::{Source as ErrorSource, class_of_error, type_of_error};
pub(crate) use masked::Extras;
pub(crate) use record::{Name, RawSpan};
