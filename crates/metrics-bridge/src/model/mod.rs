//! What a series is and what it has counted. Nothing here reads a clock or touches a thread.

mod metric;

mod buckets;
mod exemplar;
mod series;

mod family;

pub(crate) use buckets::Buckets;
pub(crate) use exemplar::{Exemplar, ExemplarSlots};
pub(crate) use family::{Bucket, Family, FamilyKind, Label, Number, Point, Value};
pub use metric::SpanMetric;
pub(crate) use series::{
    DATABASE_CALL, FAILED, Key, Series, connection_type, kind_code, kind_name, status_code,
    status_name, zeroes,
};
