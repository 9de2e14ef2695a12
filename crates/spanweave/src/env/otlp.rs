//! `OTEL_EXPORTER_OTLP_*`: where and how spans are sent. A form for traces
//! (`OTEL_EXPORTER_OTLP_TRACES_*`) beats the base form of the same setting.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::list;
use super::reader::Reader;

/// The destination as the variables name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EnvEndpoint {
    /// None is given: the default of the protocol.
    Default,
    /// The base form: HTTP appends `v1/traces`.
    Base(String),
    /// The form for traces: HTTP uses it as it is.
    Traces(String),
}

/// The protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EnvProtocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP, in protobuf.
    #[default]
    HttpProtobuf,
    /// OTLP over HTTP, in JSON.
    HttpJson,
}

/// The compression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EnvCompression {
    /// None.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Zstandard, which the specification does not name.
    Zstd,
}

/// All of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct OtlpConfig {
    pub(crate) endpoint: EnvEndpoint,
    pub(crate) protocol: EnvProtocol,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) compression: Option<EnvCompression>,
    /// A gRPC endpoint without a scheme is `http` if true, else `https`.
    pub(crate) insecure: bool,
    pub(crate) timeout: Duration,
    /// Files, PEM.
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) client_certificate: Option<PathBuf>,
    pub(crate) client_key: Option<PathBuf>,
}

/// The default of `OTEL_EXPORTER_OTLP_TIMEOUT`.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: EnvEndpoint::Default,
            protocol: EnvProtocol::default(),
            headers: Vec::new(),
            compression: None,
            insecure: false,
            timeout: TIMEOUT,
            certificate: None,
            client_certificate: None,
            client_key: None,
        }
    }
}

impl std::fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values of headers, and of endpoints with user information, are secrets.
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("OtlpConfig")
            .field("protocol", &self.protocol)
            .field("headers", &names)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The two forms of a setting, the one for traces first.
fn forms(setting: &str) -> [String; 2] {
    [format!("OTEL_EXPORTER_OTLP_TRACES_{setting}"), format!("OTEL_EXPORTER_OTLP_{setting}")]
}

/// The first form that holds a usable value. A bad one is named and counts as unset.
fn either<T>(
    reader: &mut Reader<'_>,
    setting: &str,
    read: impl Fn(&mut Reader<'_>, &str) -> Option<T>,
) -> Option<T> {
    forms(setting).iter().find_map(|variable| read(reader, variable))
}

pub(super) fn read(reader: &mut Reader<'_>) -> OtlpConfig {
    const PROTOCOLS: [(&str, EnvProtocol); 3] = [
        ("grpc", EnvProtocol::Grpc),
        ("http/protobuf", EnvProtocol::HttpProtobuf),
        ("http/json", EnvProtocol::HttpJson),
    ];
    const COMPRESSIONS: [(&str, EnvCompression); 3] = [
        ("none", EnvCompression::None),
        ("gzip", EnvCompression::Gzip),
        ("zstd", EnvCompression::Zstd),
    ];
    let file = |reader: &mut Reader<'_>, setting| {
        either(reader, setting, |reader, name| reader.text(name)).map(PathBuf::from)
    };

    OtlpConfig {
        endpoint: endpoint(reader),
        protocol: either(reader, "PROTOCOL", |r, name| r.choice(name, &PROTOCOLS))
            .unwrap_or_default(),
        headers: either(reader, "HEADERS", headers).unwrap_or_default(),
        compression: either(reader, "COMPRESSION", |r, name| r.choice(name, &COMPRESSIONS)),
        insecure: either(reader, "INSECURE", |r, name| r.boolean(name)).unwrap_or(false),
        timeout: either(reader, "TIMEOUT", |r, name| r.timeout(name)).unwrap_or(TIMEOUT),
        certificate: file(reader, "CERTIFICATE"),
        client_certificate: file(reader, "CLIENT_CERTIFICATE"),
        client_key: file(reader, "CLIENT_KEY"),
    }
}

fn endpoint(reader: &Reader<'_>) -> EnvEndpoint {
    let [traces, base] = forms("ENDPOINT");
    match (reader.text(&traces), reader.text(&base)) {
        (Some(traces), _) => EnvEndpoint::Traces(traces),
        (None, Some(base)) => EnvEndpoint::Base(base),
        (None, None) => EnvEndpoint::Default,
    }
}

/// The members of a header list. One that HTTP does not allow is left out; the warning tells its
/// place, never its text.
fn headers(reader: &mut Reader<'_>, variable: &str) -> Option<Vec<(String, String)>> {
    let text = reader.text(variable)?;
    let mut headers = Vec::new();
    for (index, member) in list::members(&text).enumerate() {
        let problem = match &member {
            Err(error) => error.as_str(),
            Ok((name, _)) if HeaderName::from_bytes(name.as_bytes()).is_err() => {
                "has a name that HTTP does not allow"
            }
            Ok((_, value)) if HeaderValue::from_str(value).is_err() => {
                "has a value that HTTP does not allow"
            }
            Ok(_) => "",
        };
        match member {
            Ok(header) if problem.is_empty() => headers.push(header),
            _ => reader.warn(variable, format!("header {} {problem}; left out", index + 1)),
        }
    }
    (!headers.is_empty()).then_some(headers)
}
