//! Records to bytes. Pure: no clock, no socket, no file.

mod scopes;
mod values;
mod wire;

mod otlp;
mod split;

mod jaeger;
mod json;
mod otlp_json;
mod spans_json;
mod split_json;
mod time;

pub(crate) use otlp::{Limits, OtlpEncoder};
pub(crate) use split::split;

pub(crate) use jaeger::{JaegerBatch, JaegerTraces};
pub(crate) use otlp_json::otlp_json_line;
pub(crate) use spans_json::spans_json_lines;
pub(crate) use split_json::{count_json_spans, split_json};
pub(crate) use time::{duration_text, rfc3339};

#[cfg(test)]
mod tests;
