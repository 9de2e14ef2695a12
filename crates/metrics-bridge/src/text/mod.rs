//! The two text formats of Prometheus, written from families.
//!
//! [`Format::Text`] is the text format 0.0.4, [`Format::OpenMetrics`] is OpenMetrics 1.0: the
//! family's name has no suffix of its samples, bounds are floats in canonical form, exemplars
//! are written, and the exposition ends with `# EOF`.

mod number;
mod write;

pub(crate) use write::write;

/// A format of the exposition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The text format 0.0.4, without exemplars.
    #[default]
    Text,
    /// OpenMetrics 1.0.0, with exemplars.
    OpenMetrics,
}

impl Format {
    /// The `Content-Type` of the format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests;
