//! Where spans go, and how.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_sdk::trace::SpanExporter;
use spanweave_core::BoxError;

use crate::delivery::RetryPolicy;
use crate::error::{Error, ErrorKind};
use crate::lane::{Fsync, Keeping, MakeExporter, Rotation, make_exporter};
use crate::policy::Policy;
use crate::spool;
use crate::transport::{
    ClientConfig, Endpoint, HeaderSource, Protocol, Tls, parse_grpc, parse_http_base,
    parse_http_url, parse_jaeger, redact,
};

/// How requests are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all. The default, as OTLP has it.
    #[default]
    None,
    /// Gzip.
    Gzip,
    /// Zstandard: smaller and faster than gzip. Ask whether the backend takes it: the OTLP
    /// specification names gzip only, the OpenTelemetry Collector takes both.
    Zstd,
}

/// What a file backend writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileFormat {
    /// OTLP JSON: one `TracesData` a line, which the OpenTelemetry Collector and Jaeger's page
    /// read. The default.
    #[default]
    OtlpJson,
    /// One object a span and line: `traceID`, `spanID`, `parentSpanID` (empty for roots),
    /// `serviceName`, `operationName`, `kind`, `startTime` and `endTime` (RFC 3339, nanoseconds),
    /// `duration` (such as `"150ms"`), `status`, `statusMessage` (where there is one), `tags`
    /// (an object), `logs` (`timestamp`, `message`, `fields`) and `links` (where there are any).
    Spans,
    /// Jaeger's own JSON, for its page: one document, `{"data":[…]}`. It is written anew for each
    /// batch, whole at any time, and a new one begins at 16 MiB, or before
    /// ([`Backend::rotation`]); an earlier file is put aside at the start. For one process.
    JaegerJson,
}

/// One place that spans are delivered to.
///
/// Nothing is checked and nothing is connected before the exporter is built.
///
/// ```
/// use std::time::Duration;
/// use spanweave_exporter::{Backend, Compression};
///
/// let backend = Backend::otlp_http("https://collector.example.com")
///     .named("vendor")
///     .header("api-key", "…")
///     .compression(Compression::Gzip)
///     .timeout(Duration::from_secs(5));
/// // What it shows is fit for logs.
/// assert!(!format!("{backend:?}").contains('…'));
/// ```
pub struct Backend {
    name: Option<String>,
    target: Target,
    headers: Vec<(String, String)>,
    header_source: Option<HeaderSource>,
    tls: Tls,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    json: bool,
    keeping: Keeping,
    pub(crate) timeout: Option<Duration>,
    pub(crate) compression: Compression,
    retry: Option<RetryPolicy>,
    pub(crate) queue_bytes: usize,
    pub(crate) policy: Policy,
    durable: Option<PathBuf>,
    pub(crate) spool: spool::Options,
}

pub(crate) enum Target {
    OtlpGrpc(String),
    OtlpHttp(String),
    OtlpHttpUrl(String),
    Jaeger(String),
    File { path: PathBuf, format: FileFormat },
    Console,
    Foreign { make: MakeExporter, type_name: &'static str },
}

impl Backend {
    /// The time for one request of our own transports (`OTEL_EXPORTER_OTLP_TIMEOUT`'s default).
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
    /// The time for one call of a foreign exporter (`OTEL_BSP_EXPORT_TIMEOUT`'s default).
    pub const DEFAULT_FOREIGN_TIMEOUT: Duration = Duration::from_secs(30);
    /// The size of a backend's queue: 32 MiB.
    pub const DEFAULT_QUEUE_BYTES: usize = 32 * 1024 * 1024;

    /// OTLP over gRPC. The endpoint is `http://host:port` (HTTP/2 without TLS) or
    /// `https://host:port`; the usual port is 4317.
    pub fn otlp_grpc(endpoint: impl Into<String>) -> Self {
        Self::new(Target::OtlpGrpc(endpoint.into()))
    }

    /// OTLP over HTTP, protobuf. The endpoint is a base URL, to which `v1/traces` is appended;
    /// the usual port is 4318. User information (`http://user:password@host`) is sent as HTTP
    /// Basic credentials.
    pub fn otlp_http(endpoint: impl Into<String>) -> Self {
        Self::new(Target::OtlpHttp(endpoint.into()))
    }

    /// OTLP over HTTP, protobuf, to exactly this URL (`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`).
    pub fn otlp_http_url(url: impl Into<String>) -> Self {
        Self::new(Target::OtlpHttpUrl(url.into()))
    }

    /// Jaeger, which takes OTLP since 1.35. An endpoint whose port is 4318, or that has a path,
    /// is OTLP/HTTP (port 4318 if none is given and the scheme is `http`; `v1/traces` is
    /// appended unless it stands there); any other is OTLP/gRPC (port 4317 if none is given).
    pub fn jaeger(endpoint: impl Into<String>) -> Self {
        Self::new(Target::Jaeger(endpoint.into()))
    }

    /// A file of OTLP JSON lines; see [`format`](Self::format) for others. It is appended to and
    /// made if it is missing, its folders too; on Unix only this user may read it. Several
    /// processes may append to one file. A file that is renamed or removed is opened anew within
    /// a second.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::new(Target::File { path: path.into(), format: FileFormat::OtlpJson })
    }

    /// Readable trees of spans on stderr, for development.
    pub fn console() -> Self {
        Self::new(Target::Console)
    }

    /// Any exporter of the OpenTelemetry SDK. It is called, and dropped, on a thread of its own
    /// inside a tokio runtime of its own. Exporters that must be made inside a runtime need
    /// [`exporter_with`](Self::exporter_with).
    pub fn exporter<E: SpanExporter + 'static>(exporter: E) -> Self {
        Self::exporter_with(move || exporter)
    }

    /// As [`exporter`](Self::exporter), but the exporter is made on that thread, inside that
    /// runtime.
    pub fn exporter_with<E: SpanExporter + 'static>(
        make: impl FnOnce() -> E + Send + 'static,
    ) -> Self {
        let type_name = std::any::type_name::<E>();
        Self::new(Target::Foreign { make: make_exporter(make), type_name })
    }

    fn new(target: Target) -> Self {
        Self {
            name: None,
            target,
            headers: Vec::new(),
            header_source: None,
            tls: Tls::default(),
            client_certificate: None,
            client_key: None,
            json: false,
            keeping: Keeping::default(),
            timeout: None,
            compression: Compression::None,
            retry: None,
            queue_bytes: Self::DEFAULT_QUEUE_BYTES,
            policy: Policy::default(),
            durable: None,
            spool: spool::Options::default(),
        }
    }

    /// The name in reports, metrics and logs. The default is the kind (`otlp`, `jaeger`, `file`,
    /// `console`, `exporter`); a number is added to a name that is taken.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What a file backend writes; others ignore it.
    #[must_use]
    pub fn format(mut self, new: FileFormat) -> Self {
        if let Target::File { format, .. } = &mut self.target {
            *format = new;
        }
        self
    }

    /// Sends OTLP/HTTP as JSON instead of protobuf (the protocol `http/json`): larger, but
    /// readable on the way. gRPC and other backends ignore it.
    #[must_use]
    pub fn json(mut self) -> Self {
        self.json = true;
        self
    }

    /// A header (gRPC: metadata) of every OTLP request, in place of an earlier one of that name.
    /// Its value is never shown.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Headers from a callback, asked before each attempt and within its time: for tokens that
    /// rotate. They come on top of the fixed ones. The callback runs on the lane's thread inside
    /// a tokio runtime; keep what it says while it is valid. If it fails, the attempt has failed,
    /// and its error is not shown.
    ///
    /// ```
    /// use spanweave_exporter::Backend;
    ///
    /// # async fn current_token() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// let backend = Backend::otlp_http("https://collector.example.com").headers_with(|| async {
    ///     let token = current_token().await?;
    ///     Ok(vec![("authorization".to_owned(), format!("Bearer {token}"))])
    /// });
    /// ```
    #[must_use]
    pub fn headers_with<F>(mut self, headers: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Vec<(String, String)>, BoxError>> + Send + 'static,
    {
        self.header_source = Some(HeaderSource::new(headers));
        self
    }

    /// The certificates (PEM) that the server's is checked against, instead of the public roots:
    /// `OTEL_EXPORTER_OTLP_CERTIFICATE`.
    #[must_use]
    pub fn certificate(mut self, pem_file: impl Into<PathBuf>) -> Self {
        self.tls.certificates = Some(pem_file.into());
        self
    }

    /// The client's own certificate (PEM, followed by those between it and the root) for mutual
    /// TLS: `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`. Needs a [`client_key`](Self::client_key).
    #[must_use]
    pub fn client_certificate(mut self, pem_file: impl Into<PathBuf>) -> Self {
        self.client_certificate = Some(pem_file.into());
        self
    }

    /// The key (PEM) of the client's own certificate: `OTEL_EXPORTER_OTLP_CLIENT_KEY`.
    #[must_use]
    pub fn client_key(mut self, pem_file: impl Into<PathBuf>) -> Self {
        self.client_key = Some(pem_file.into());
        self
    }

    /// Spools to this directory: what was accepted survives the end of the process, and the next
    /// one that uses the directory delivers it. For OTLP backends (Jaeger's included); others
    /// ignore it. Several backends, and several processes, may share a directory; backends are
    /// told apart by name, so give each its [name](Self::named).
    ///
    /// Accepted means written, as the process hands it to the system: SIGKILL loses nothing of
    /// it, a machine that loses power may lose the last seconds. Delivery is at least once. While
    /// the disk is full or fails, spans are queued in memory as for any backend.
    ///
    /// A durable backend does not give up on a request after a while unless
    /// [`retry`](Self::retry) says so.
    #[must_use]
    pub fn durable(mut self, directory: impl Into<PathBuf>) -> Self {
        self.durable = Some(directory.into());
        self
    }

    /// Whether it spools.
    pub fn is_durable(&self) -> bool {
        self.spool_directory().is_some()
    }

    /// How many bytes this process may spool, 1 GiB by default. At the limit the oldest spans go,
    /// and are lost for the backends that do not have them yet (`spool_full`). Of backends that
    /// share a directory, the largest limit counts.
    #[must_use]
    pub fn spool_bytes(mut self, bytes: u64) -> Self {
        self.spool.max_bytes = bytes;
        self
    }

    /// How long spans may stay in the spool, seven days by default; then they are lost for the
    /// backends that do not have them yet (`spool_expired`). Of backends that share a directory,
    /// the longest limit counts.
    #[must_use]
    pub fn spool_age(mut self, age: Duration) -> Self {
        self.spool.max_age = age;
        self
    }

    /// How many bytes a second are sent of what earlier processes have left, 16 MiB by default,
    /// so that what is new is not held up.
    #[must_use]
    pub fn spool_rate(mut self, bytes_a_second: u64) -> Self {
        self.spool.leftover_rate = bytes_a_second.max(1);
        self
    }

    /// What the backend gets of the spans; everything by default.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// When a file backend begins a new file; others ignore it.
    #[must_use]
    pub fn rotation(mut self, rotation: Rotation) -> Self {
        self.keeping.rotation = rotation;
        self
    }

    /// When a file backend makes what it wrote survive the machine; others ignore it.
    #[must_use]
    pub fn fsync(mut self, fsync: Fsync) -> Self {
        self.keeping.fsync = fsync;
        self
    }

    /// The time for one attempt: resolving, connecting, TLS, sending and receiving; for foreign
    /// exporters the time for one export.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How OTLP requests are compressed.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How OTLP requests that failed are tried again.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = Some(retry);
        self
    }

    /// How many bytes the backend's queue may hold: of encoded spans, or of records for the
    /// console and foreign exporters. What does not fit is dropped, the newest first, and
    /// counted.
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// How requests are tried again.
    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        let default = RetryPolicy::default();
        self.retry.unwrap_or(match self.spool_directory() {
            // What is on disk waits.
            Some(_) => default.give_up_after(None),
            None => default,
        })
    }

    /// Where it spools to, if it does.
    pub(crate) fn spool_directory(&self) -> Option<&PathBuf> {
        let others =
            matches!(self.target, Target::File { .. } | Target::Console | Target::Foreign { .. });
        self.durable.as_ref().filter(|_| !others)
    }

    /// Its name, without a number.
    pub(crate) fn base_name(&self) -> &str {
        match (&self.name, &self.target) {
            (Some(name), _) => name,
            (_, Target::Jaeger(_)) => "jaeger",
            (_, Target::OtlpGrpc(_) | Target::OtlpHttp(_) | Target::OtlpHttpUrl(_)) => "otlp",
            (_, Target::File { .. }) => "file",
            (_, Target::Console) => "console",
            (_, Target::Foreign { .. }) => "exporter",
        }
    }

    /// Checks everything that can be checked without the world.
    pub(crate) fn plan(self, name: &str) -> Result<Plan, Error> {
        let error = |kind| Error::new(name, kind);
        let endpoint = |text: &str, parsed: Result<Endpoint, &'static str>| {
            parsed.map_err(|problem| error(ErrorKind::Endpoint { endpoint: redact(text), problem }))
        };
        let endpoint = match &self.target {
            Target::OtlpGrpc(text) => endpoint(text, parse_grpc(text))?,
            Target::OtlpHttp(text) => endpoint(text, parse_http_base(text))?,
            Target::OtlpHttpUrl(text) => endpoint(text, parse_http_url(text))?,
            Target::Jaeger(text) => endpoint(text, parse_jaeger(text))?,
            Target::File { .. } | Target::Console | Target::Foreign { .. } => {
                return Ok(match self.target {
                    Target::File { path, format } => {
                        Plan::File { path, format, keeping: self.keeping }
                    }
                    Target::Foreign { make, .. } => {
                        Plan::Foreign(make, self.timeout.unwrap_or(Self::DEFAULT_FOREIGN_TIMEOUT))
                    }
                    _ => Plan::Console,
                });
            }
        };
        let mut endpoint = endpoint;
        if self.json && endpoint.protocol == Protocol::HttpProtobuf {
            endpoint.protocol = Protocol::HttpJson;
        }
        let mut headers = HeaderMap::new();
        for (key, value) in &self.headers {
            let wrong = |problem| error(ErrorKind::Header { name: key.clone(), problem });
            let key: HeaderName =
                key.trim().parse().map_err(|_| wrong("is no valid header name"))?;
            let mut value: HeaderValue =
                value.trim().parse().map_err(|_| wrong("has a value that no header can have"))?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        let timeout = self.timeout.unwrap_or(Self::DEFAULT_TIMEOUT);
        let mut tls = self.tls;
        tls.client = match (self.client_certificate, self.client_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(error(ErrorKind::HalfOfPair)),
        };
        let header_source = self.header_source;
        Ok(Plan::Otlp(Box::new(ClientConfig { endpoint, headers, header_source, tls, timeout })))
    }
}

/// A checked target.
pub(crate) enum Plan {
    Otlp(Box<ClientConfig>),
    File { path: PathBuf, format: FileFormat, keeping: Keeping },
    Console,
    Foreign(MakeExporter, Duration),
}

impl Plan {
    /// Tells what this backend gets apart from what others get, in a spool.
    pub(crate) fn stream(&self, policy: &Policy) -> u32 {
        let json = matches!(self, Self::Otlp(c) if c.endpoint.protocol == Protocol::HttpJson);
        policy.hash() ^ u32::from(json)
    }

    /// The kind, as `otel.component.type` has it where it knows one.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Otlp(config) => match config.endpoint.protocol {
                Protocol::Grpc => "otlp_grpc_span_exporter",
                Protocol::HttpProtobuf => "otlp_http_span_exporter",
                Protocol::HttpJson => "otlp_http_json_span_exporter",
            },
            Self::File { .. } => "file_span_exporter",
            Self::Console => "console_span_exporter",
            Self::Foreign(..) => "foreign_span_exporter",
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header_names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Backend")
            .field("name", &self.base_name())
            .field("target", &self.target)
            .field("json", &self.json)
            .field("header_names", &header_names)
            .field("timeout", &self.timeout)
            .field("compression", &self.compression)
            .field("retry", &self.retry)
            .field("queue_bytes", &self.queue_bytes)
            .field("policy", &self.policy)
            .field("durable", &self.durable)
            .field("tls", &self.tls)
            .finish()
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtlpGrpc(endpoint) => write!(f, "otlp_grpc({})", redact(endpoint)),
            Self::OtlpHttp(endpoint) => write!(f, "otlp_http({})", redact(endpoint)),
            Self::OtlpHttpUrl(url) => write!(f, "otlp_http_url({})", redact(url)),
            Self::Jaeger(endpoint) => write!(f, "jaeger({})", redact(endpoint)),
            Self::File { path, format } => write!(f, "file({}, {format:?})", path.display()),
            Self::Console => f.write_str("console"),
            Self::Foreign { type_name, .. } => write!(f, "exporter({type_name})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_backend_are_not_shown() {
        let backend = Backend::otlp_http("https://user:canary@host/p?token=canary")
            .header("authorization", "Bearer canary");
        let shown = format!("{backend:?}");
        assert!(!shown.contains("canary") && shown.contains("authorization"), "{shown}");
        let error = Backend::otlp_http("https://user:canary@ho st/").plan("a").err().unwrap();
        assert!(
            error.is_endpoint() && !format!("{error} {error:?}").contains("canary"),
            "{error:?}"
        );
        let error = Backend::otlp_grpc("http://h:1").header("k", "canary\n\u{1}").plan("a");
        let error = error.err().unwrap();
        assert!(error.is_header() && !format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}
