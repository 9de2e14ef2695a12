use std::{fmt, io};

/// Why metrics could not be served.
#[derive(Debug)]
pub struct Error(Kind);

#[derive(Debug)]
enum Kind {
    Bind { address: String, source: io::Error },
    Start { address: String, source: io::Error },
}

impl Error {
    pub(crate) fn bind(address: impl fmt::Display, source: io::Error) -> Self {
        Self(Kind::Bind { address: address.to_string(), source })
    }

    pub(crate) fn start(address: impl fmt::Display, source: io::Error) -> Self {
        Self(Kind::Start { address: address.to_string(), source })
    }

    /// Whether the address is taken by another socket.
    pub fn is_address_in_use(&self) -> bool {
        matches!(&self.0, Kind::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Bind { address, source } if source.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "cannot serve metrics on {address}: the address is in use by another socket; \
                 choose another one with Metrics::serve or OTEL_EXPORTER_PROMETHEUS_PORT"
            ),
            Kind::Bind { address, source } => write!(
                f,
                "cannot serve metrics on {address}: {source}; the address is host:port, set by \
                 Metrics::serve or OTEL_EXPORTER_PROMETHEUS_HOST and _PORT"
            ),
            Kind::Start { address, source } => {
                write!(f, "cannot start the server of metrics on {address}: {source}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Kind::Bind { source, .. } | Kind::Start { source, .. } => Some(source),
        }
    }
}
