use std::fmt;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// An attribute's value, typed as OTLP types it.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Sent without a value, or with one of a kind that this version does not know.
    #[default]
    Empty,
    /// A truth value.
    Bool(bool),
    /// A 64-bit signed integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// UTF-8 text.
    String(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list; elements may differ in kind.
    Array(Vec<Value>),
    /// A map, in the order received.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// The text, where this is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, where this is one.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// Bytes on the heap, roughly; what the store's limit counts.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Empty | Self::Bool(_) | Self::Int(_) | Self::Double(_) => 0,
            Self::String(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Array(values) => {
                values.iter().map(|value| size_of::<Value>() + value.heap_bytes()).sum()
            }
            Self::Map(entries) => attributes_bytes(entries),
        }
    }
}

/// Bytes of a list of attributes, roughly.
pub(crate) fn attributes_bytes(attributes: &[(String, Value)]) -> usize {
    attributes
        .iter()
        .map(|(key, value)| size_of::<(String, Value)>() + key.len() + value.heap_bytes())
        .sum()
}

impl fmt::Display for Value {
    /// Text as it is; lists and maps in the style of JSON; bytes in hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => Ok(()),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Double(value) => value.fmt(f),
            Self::String(text) => f.write_str(text),
            Self::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::Array(values) => {
                f.write_str("[")?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Map(entries) => {
                f.write_str("{")?;
                for (i, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key}: {value}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

impl Serialize for Value {
    /// Plain JSON: a double that is not finite becomes `null`, bytes become hex text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Empty => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Double(value) => serializer.serialize_f64(*value),
            Self::String(text) => serializer.serialize_str(text),
            Self::Bytes(_) => serializer.collect_str(self),
            Self::Array(values) => serializer.collect_seq(values),
            Self::Map(entries) => attributes_to_map(entries, serializer),
        }
    }
}

/// Attributes as one JSON object; of a key sent twice both stay, and JSON readers take the last.
pub(crate) fn attributes_to_map<S: Serializer>(
    attributes: &[(String, Value)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(attributes.len()))?;
    for (key, value) in attributes {
        map.serialize_entry(key, value)?;
    }
    map.end()
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::Array(values.into_iter().map(Into::into).collect())
    }
}
