use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why a collector did not start.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    NotLoopback(SocketAddr),
    Bind(SocketAddr, io::Error),
    Runtime(io::Error),
}

impl Error {
    pub(crate) fn not_loopback(address: SocketAddr) -> Self {
        Self { kind: Kind::NotLoopback(address) }
    }

    pub(crate) fn bind(address: SocketAddr, source: io::Error) -> Self {
        Self { kind: Kind::Bind(address, source) }
    }

    pub(crate) fn runtime(source: io::Error) -> Self {
        Self { kind: Kind::Runtime(source) }
    }

    /// Whether another process has the address.
    #[must_use]
    pub fn is_address_in_use(&self) -> bool {
        matches!(&self.kind, Kind::Bind(_, source) if source.kind() == io::ErrorKind::AddrInUse)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::NotLoopback(address) => write!(
                f,
                "the collector listens on loopback only, and {address} is not; use 127.0.0.1 or [::1]"
            ),
            Kind::Bind(address, _) => write!(
                f,
                "cannot listen on {address}; choose another address, or port 0 for a free one"
            ),
            Kind::Runtime(_) => f.write_str("cannot start the collector's thread"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::NotLoopback(_) => None,
            Kind::Bind(_, source) | Kind::Runtime(source) => Some(source),
        }
    }
}
