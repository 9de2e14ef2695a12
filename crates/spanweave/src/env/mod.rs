//! The environment: text in, a plain [`EnvConfig`] and warnings out. Nothing here touches the
//! process; the variables come through a look-up.
//!
//! The rules are those of the OpenTelemetry specification: an empty variable is unset, a boolean
//! is true only for `true`, a bad number or choice is named once and then ignored, and so is a
//! known variable that has no effect here.

// From one variable to all of them.
mod reader;

mod list;

mod otlp;
mod unsupported;

mod config;

pub use config::LogFormat;
#[cfg(any(feature = "metrics", test))]
pub(crate) use config::MetricsServe;
pub(crate) use config::{EnvConfig, TraceExporter};
pub(crate) use otlp::{EnvCompression, EnvEndpoint, EnvProtocol, OtlpConfig};
pub(crate) use reader::Warning;

/// Looks a variable up in the process. Bytes that are not Unicode are replaced, so that the value
/// fails its parser and is named instead of being overlooked.
pub(crate) fn process(variable: &str) -> Option<String> {
    std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
