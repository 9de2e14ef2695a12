//! What the environment exports to: first as plain values, then as backends.

use std::path::PathBuf;
use std::time::Duration;

use spanweave_exporter::{Backend, Compression};

use crate::env::{EnvCompression, EnvConfig, EnvEndpoint, EnvProtocol, OtlpConfig, TraceExporter};

/// The defaults of the specification.
const GRPC: &str = "http://localhost:4317";
const HTTP: &str = "http://localhost:4318";

/// A backend that the environment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Destination {
    Grpc(String),
    /// `v1/traces` is appended.
    HttpBase(String),
    /// Used as it is.
    HttpUrl(String),
    Console,
    File(PathBuf),
}

/// The backends that the environment asks for.
pub(crate) fn backends(env: &EnvConfig) -> Vec<Backend> {
    // The batch processor's timeout bounds each export, the exporter's each request.
    let timeout = env.export_timeout.map_or(env.otlp.timeout, |limit| limit.min(env.otlp.timeout));
    let spooled = |backend: Backend| match &env.spool {
        Some(directory) => backend.durable(directory),
        None => backend,
    };
    destinations(env).into_iter().map(|to| spooled(backend(to, &env.otlp, timeout))).collect()
}

fn destinations(env: &EnvConfig) -> Vec<Destination> {
    let exporters = env.trace_exporters.iter().map(|exporter| match exporter {
        TraceExporter::Otlp => otlp(&env.otlp),
        TraceExporter::Console => Destination::Console,
    });
    exporters.chain(env.file.clone().map(Destination::File)).collect()
}

fn otlp(config: &OtlpConfig) -> Destination {
    let endpoint = config.endpoint.clone();
    if config.protocol == EnvProtocol::Grpc {
        return Destination::Grpc(match endpoint {
            EnvEndpoint::Default => GRPC.to_owned(),
            EnvEndpoint::Base(text) | EnvEndpoint::Traces(text) => {
                with_scheme(text, config.insecure)
            }
        });
    }
    match endpoint {
        EnvEndpoint::Default => Destination::HttpBase(HTTP.to_owned()),
        EnvEndpoint::Base(base) => Destination::HttpBase(base),
        EnvEndpoint::Traces(url) => Destination::HttpUrl(url),
    }
}

/// gRPC endpoints may lack a scheme (`collector:4317`); then `OTEL_EXPORTER_OTLP_INSECURE` says
/// which one is meant.
fn with_scheme(endpoint: String, insecure: bool) -> String {
    if endpoint.contains("://") || endpoint.starts_with("unix:") {
        endpoint
    } else {
        format!("{}://{endpoint}", if insecure { "http" } else { "https" })
    }
}

fn backend(to: Destination, config: &OtlpConfig, timeout: Duration) -> Backend {
    let backend = match to {
        Destination::Console => return Backend::console(),
        Destination::File(path) => return Backend::file(path),
        Destination::Grpc(endpoint) => Backend::otlp_grpc(endpoint),
        Destination::HttpBase(base) => Backend::otlp_http(base),
        Destination::HttpUrl(url) => Backend::otlp_http_url(url),
    };
    let compression = match config.compression {
        Some(EnvCompression::Gzip) => Compression::Gzip,
        Some(EnvCompression::Zstd) => Compression::Zstd,
        Some(EnvCompression::None) | None => Compression::None,
    };
    let json = config.protocol == EnvProtocol::HttpJson;
    let backend = if json { backend.json() } else { backend };
    let mut backend = backend.timeout(timeout).compression(compression);
    if let Some(certificate) = &config.certificate {
        backend = backend.certificate(certificate);
    }
    if let Some(certificate) = &config.client_certificate {
        backend = backend.client_certificate(certificate);
    }
    if let Some(key) = &config.client_key {
        backend = backend.client_key(key);
    }
    config.headers.iter().fold(backend, |backend, (name, value)| backend.header(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Vec<Destination> {
        let lookup = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let (env, warnings) = EnvConfig::read(&lookup);
        assert_eq!(warnings, []);
        destinations(&env)
    }

    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
    const INSECURE: &str = "OTEL_EXPORTER_OTLP_INSECURE";

    #[test]
    fn the_endpoint_follows_protocol_and_form() {
        use Destination::{Grpc, HttpBase, HttpUrl};
        assert_eq!(of(&[]), [HttpBase(HTTP.into())]);
        assert_eq!(of(&[(PROTOCOL, "grpc")]), [Grpc(GRPC.into())]);
        assert_eq!(of(&[(ENDPOINT, "http://c:1")]), [HttpBase("http://c:1".into())]);
        let both = [(ENDPOINT, "http://c:1"), (TRACES_ENDPOINT, "http://t:2/in")];
        assert_eq!(of(&both), [HttpUrl("http://t:2/in".into())]);
        let grpc = [(PROTOCOL, "grpc"), (TRACES_ENDPOINT, "http://t:2")];
        assert_eq!(of(&grpc), [Grpc("http://t:2".into())]);
    }

    #[test]
    fn a_grpc_endpoint_without_scheme_is_secure_unless_said_otherwise() {
        use Destination::Grpc;
        let grpc = [(PROTOCOL, "grpc"), (ENDPOINT, "c:4317")];
        assert_eq!(of(&grpc), [Grpc("https://c:4317".into())]);
        let insecure = [grpc[0], grpc[1], (INSECURE, "true")];
        assert_eq!(of(&insecure), [Grpc("http://c:4317".into())]);
        let explicit = [(PROTOCOL, "grpc"), (ENDPOINT, "https://c:4317"), (INSECURE, "true")];
        assert_eq!(of(&explicit), [Grpc("https://c:4317".into())]);
    }

    #[test]
    fn a_file_comes_on_top_of_the_exporters() {
        use Destination::{Console, File, HttpBase};
        let file = ("SPANWEAVE_FILE", "/tmp/x.jsonl");
        assert_eq!(of(&[file]), [HttpBase(HTTP.into()), File("/tmp/x.jsonl".into())]);
        assert_eq!(of(&[file, ("OTEL_TRACES_EXPORTER", "none")]), [File("/tmp/x.jsonl".into())]);
        assert_eq!(of(&[("OTEL_TRACES_EXPORTER", "none")]), []);
        let all = [("OTEL_TRACES_EXPORTER", "console,otlp")];
        assert_eq!(of(&all), [Console, HttpBase(HTTP.into())]);
    }
}
