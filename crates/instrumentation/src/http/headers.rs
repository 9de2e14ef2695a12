//! Headers that are captured because the application has named them.

use http::{HeaderMap, HeaderName};
use opentelemetry::{Array, StringValue, Value};
use spanweave_core::SpanExt;
use tracing::Span;

/// Lines of one header that are captured, and bytes of each: the limit on the length of values does
/// not reach into arrays.
const MAX_LINES: usize = 32;
const MAX_BYTES: usize = 4096;

/// The headers to capture, with the attributes that they become
/// (`http.request.header.<name>`, an array of strings with a value for each line).
#[derive(Clone, Debug, Default)]
pub(crate) struct Captured(Vec<(HeaderName, String)>);

impl Captured {
    /// Names that HTTP does not allow cannot come, and are left out.
    pub(crate) fn new<N: AsRef<str>>(prefix: &str, names: impl IntoIterator<Item = N>) -> Self {
        let names = names.into_iter().filter_map(|name| {
            let name = HeaderName::from_bytes(name.as_ref().as_bytes()).ok()?;
            let key = format!("{prefix}{name}");
            Some((name, key))
        });
        Self(names.collect())
    }

    /// Writes what is there into the span. Keys that name a secret are masked like those of any
    /// attribute.
    pub(crate) fn record(&self, headers: &HeaderMap, span: &Span) {
        for (name, key) in &self.0 {
            let lines: Vec<StringValue> = headers
                .get_all(name)
                .iter()
                .take(MAX_LINES)
                .map(|line| {
                    let line = line.as_bytes();
                    let kept = line.get(..MAX_BYTES).unwrap_or(line);
                    String::from_utf8_lossy(kept).into_owned().into()
                })
                .collect();
            if !lines.is_empty() {
                span.set_attribute(key.clone(), Value::Array(Array::String(lines)));
            }
        }
    }
}
