//! What an endpoint means.

use std::path::PathBuf;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};

use super::text::{base64_encode, percent_decode};

/// How spans travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    HttpProtobuf,
    HttpJson,
}

/// Where requests go.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) protocol: Protocol,
    /// Complete, without user information.
    pub(crate) uri: Uri,
    /// The socket to connect to instead of the URI's host.
    pub(crate) unix: Option<PathBuf>,
    /// The user information, as HTTP's Basic scheme has it; marked sensitive.
    pub(crate) authorization: Option<HeaderValue>,
}

/// What is wrong with an endpoint, as it stands behind "the endpoint … ".
pub(crate) type Problem = &'static str;

const GRPC_METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const HTTP_PATH: &str = "/v1/traces";
const JAEGER_GRPC_PORT: u16 = 4317;
const JAEGER_HTTP_PORT: u16 = 4318;

/// An endpoint of OTLP/gRPC: scheme, host and port.
pub(crate) fn parse_grpc(endpoint: &str) -> Result<Endpoint, Problem> {
    let parts = Parts::parse(endpoint)?;
    if parts.has_path() || parts.query.is_some() {
        return Err("has a path, which gRPC has no use for (is it meant for otlp_http?)");
    }
    parts.build(Protocol::Grpc, GRPC_METHOD)
}

/// A base URL of OTLP/HTTP; `v1/traces` is appended.
pub(crate) fn parse_http_base(endpoint: &str) -> Result<Endpoint, Problem> {
    let parts = Parts::parse(endpoint)?;
    let path = format!("{}{HTTP_PATH}", parts.path.trim_end_matches('/'));
    parts.build(Protocol::HttpProtobuf, &path)
}

/// A URL of OTLP/HTTP, used as it is.
pub(crate) fn parse_http_url(endpoint: &str) -> Result<Endpoint, Problem> {
    let parts = Parts::parse(endpoint)?;
    let path = parts.path.clone();
    parts.build(Protocol::HttpProtobuf, &path)
}

/// An endpoint of Jaeger: OTLP/HTTP if the port is 4318 or there is a path, else OTLP/gRPC, on
/// port 4317 if none is given.
pub(crate) fn parse_jaeger(endpoint: &str) -> Result<Endpoint, Problem> {
    let mut parts = Parts::parse(endpoint)?;
    let http = parts.has_path() || parts.port() == Some(JAEGER_HTTP_PORT);
    if !http {
        parts.default_port(JAEGER_GRPC_PORT)?;
        return parts.build(Protocol::Grpc, GRPC_METHOD);
    }
    if parts.scheme == Scheme::HTTP {
        parts.default_port(JAEGER_HTTP_PORT)?;
    }
    let path = parts.path.trim_end_matches('/');
    let path =
        if path.ends_with(HTTP_PATH) { path.to_owned() } else { format!("{path}{HTTP_PATH}") };
    parts.build(Protocol::HttpProtobuf, &path)
}

struct Parts {
    scheme: Scheme,
    /// Without user information.
    authority: Authority,
    user_info: Option<String>,
    path: String,
    query: Option<String>,
    unix: Option<PathBuf>,
}

impl Parts {
    fn parse(endpoint: &str) -> Result<Self, Problem> {
        let endpoint = endpoint.trim();
        if let Some(path) = endpoint.strip_prefix("unix:") {
            return Self::unix(path);
        }
        if endpoint.is_empty() {
            return Err("is empty");
        }
        if !endpoint.contains("://") {
            return Err("has no scheme");
        }
        let uri: Uri = endpoint.parse().map_err(|_| "is not a URL")?;
        let scheme = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS => scheme.clone(),
            _ => return Err("has a scheme that is neither http nor https"),
        };
        let authority = uri.authority().ok_or("has no host")?;
        let (user_info, host) = match authority.as_str().rsplit_once('@') {
            Some((user_info, host)) => (Some(user_info.to_owned()), host),
            None => (None, authority.as_str()),
        };
        let bare: Authority = host.parse().map_err(|_| "has no valid host")?;
        if bare.host().is_empty() {
            return Err("has no host");
        }
        // The parser takes any digits; only ports that fit are ports.
        let port = host.strip_prefix(bare.host()).unwrap_or_default();
        if !port.is_empty() && bare.port_u16().is_none_or(|port| port == 0) {
            return Err("has no valid port");
        }
        Ok(Self {
            scheme,
            authority: bare,
            user_info,
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            unix: None,
        })
    }

    /// `unix:/path` and `unix:///path`, as gRPC has it; the server sees the host `localhost`.
    fn unix(path: &str) -> Result<Self, Problem> {
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') {
            return Err("has no absolute path to a socket");
        }
        Ok(Self {
            scheme: Scheme::HTTP,
            authority: Authority::from_static("localhost"),
            user_info: None,
            path: "/".to_owned(),
            query: None,
            unix: Some(path.into()),
        })
    }

    fn has_path(&self) -> bool {
        !self.path.trim_end_matches('/').is_empty()
    }

    fn port(&self) -> Option<u16> {
        self.authority.port_u16()
    }

    fn default_port(&mut self, port: u16) -> Result<(), Problem> {
        if self.port().is_none() && self.unix.is_none() {
            self.authority = format!("{}:{port}", self.authority.host())
                .parse()
                .map_err(|_| "has no valid host")?;
        }
        Ok(())
    }

    fn build(self, protocol: Protocol, path: &str) -> Result<Endpoint, Problem> {
        let path = match self.query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let path: PathAndQuery = path.parse().map_err(|_| "has no valid path")?;
        let uri = Uri::builder()
            .scheme(self.scheme)
            .authority(self.authority)
            .path_and_query(path)
            .build()
            .map_err(|_| "is not a URL")?;
        let authorization = match self.user_info {
            None => None,
            Some(user_info) => {
                let encoded = base64_encode(&percent_decode(&user_info));
                let mut value = HeaderValue::try_from(format!("Basic {encoded}"))
                    .map_err(|_| "has no valid user information")?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Endpoint { protocol, uri, unix: self.unix, authorization })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(endpoint: Result<Endpoint, Problem>) -> (Protocol, String) {
        let endpoint = endpoint.unwrap_or_else(|problem| panic!("{problem}"));
        (endpoint.protocol, endpoint.uri.to_string())
    }

    #[test]
    fn a_base_url_gets_the_signal_path_and_a_signal_url_is_used_as_it_is() {
        for (endpoint, expected) in [
            ("http://host:4318", "http://host:4318/v1/traces"),
            ("http://host:4318/", "http://host:4318/v1/traces"),
            ("https://host/otlp/", "https://host/otlp/v1/traces"),
            ("https://host/otlp?key=1", "https://host/otlp/v1/traces?key=1"),
            ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
        ] {
            assert_eq!(uri(parse_http_base(endpoint)).1, expected);
        }
        assert_eq!(uri(parse_http_url("http://host:4318")).1, "http://host:4318/");
        assert_eq!(uri(parse_http_url("http://host/my/traces")).1, "http://host/my/traces");
    }

    #[test]
    fn jaeger_means_grpc_unless_port_or_path_say_http() {
        let grpc = format!("http://host:4317{GRPC_METHOD}");
        for (endpoint, protocol, expected) in [
            ("http://host", Protocol::Grpc, grpc.as_str()),
            ("http://host:4317/", Protocol::Grpc, grpc.as_str()),
            ("http://host:4318", Protocol::HttpProtobuf, "http://host:4318/v1/traces"),
            ("http://host/v1/traces", Protocol::HttpProtobuf, "http://host:4318/v1/traces"),
            ("https://host/jaeger", Protocol::HttpProtobuf, "https://host/jaeger/v1/traces"),
        ] {
            assert_eq!(uri(parse_jaeger(endpoint)), (protocol, expected.to_owned()), "{endpoint}");
        }
    }

    #[test]
    fn user_information_becomes_a_header_and_leaves_the_url() {
        let endpoint =
            parse_http_base("http://us%65r:p%40ss@host:1").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(endpoint.uri.to_string(), "http://host:1/v1/traces");
        let header = endpoint.authorization.map(|value| value.as_bytes().to_vec());
        assert_eq!(header, Some(format!("Basic {}", base64_encode(b"user:p@ss")).into_bytes()));
    }

    #[test]
    fn a_unix_socket_is_an_endpoint() {
        for text in ["unix:/run/otel.sock", "unix:///run/otel.sock"] {
            let endpoint = parse_grpc(text).unwrap_or_else(|problem| panic!("{problem}"));
            assert_eq!(endpoint.unix, Some(PathBuf::from("/run/otel.sock")));
            assert_eq!(endpoint.uri.host(), Some("localhost"));
            assert_eq!(uri(parse_http_base(text)).1, "http://localhost/v1/traces");
        }
        assert!(parse_grpc("unix:relative").is_err());
    }

    #[test]
    fn malformed_endpoints_are_refused() {
        for endpoint in [
            "",
            " ",
            "localhost:4317",
            "host",
            "ftp://host",
            "http://",
            "http://:4318",
            "http://host:port",
            "http://host:99999",
            "http://host:0",
            "http:// host",
            "grpc://h:1",
        ] {
            assert!(parse_http_base(endpoint).is_err(), "{endpoint}");
            assert!(parse_grpc(endpoint).is_err(), "{endpoint}");
            assert!(parse_jaeger(endpoint).is_err(), "{endpoint}");
        }
        assert!(parse_grpc("http://host:4317/v1/traces").is_err());
    }
}
