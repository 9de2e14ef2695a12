//! What a series is and what it has counted. Nothing here reads a clock or touches a thread.

mod buckets;
mod exemplar;
mod family;
mod series;

pub(crate) use buckets::Buckets;
pub(crate) use exemplar::{Exemplar, ExemplarSlots};
pub(crate) use family::{Bucket, Family, FamilyKind, Label, Number, Point, Value};
pub(crate) use series::{
    Key, Metric, Series, kind_code, kind_name, status_code, status_name, zeroes,
};
