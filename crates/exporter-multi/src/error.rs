//! Why an exporter could not be built.

use std::path::PathBuf;
use std::{error, fmt, io};

use crate::transport::TlsProblem;

/// An exporter could not be built: the configuration is wrong, or a file cannot be written.
///
/// A backend that is merely down is no error; its lane keeps trying.
#[derive(Debug)]
pub struct Error {
    backend: String,
    kind: ErrorKind,
}

#[derive(Debug)]
pub(crate) enum ErrorKind {
    /// The endpoint, without user information, and what is wrong with it.
    Endpoint {
        endpoint: String,
        problem: &'static str,
    },
    /// The name of the header, and what is wrong with it. Never its value.
    Header {
        name: String,
        problem: &'static str,
    },
    File {
        path: PathBuf,
        source: io::Error,
    },
    Thread(io::Error),
    Tls(TlsProblem),
    /// A client's certificate without a key, or the other way round.
    HalfOfPair,
}

impl Error {
    pub(crate) fn new(backend: impl Into<String>, kind: ErrorKind) -> Self {
        Self { backend: backend.into(), kind }
    }

    /// The name of the backend that is meant.
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// Whether an endpoint is malformed.
    pub fn is_endpoint(&self) -> bool {
        matches!(self.kind, ErrorKind::Endpoint { .. })
    }

    /// Whether a header is malformed.
    pub fn is_header(&self) -> bool {
        matches!(self.kind, ErrorKind::Header { .. })
    }

    /// Whether TLS cannot be set up: a certificate or key that cannot be used.
    pub fn is_tls(&self) -> bool {
        matches!(self.kind, ErrorKind::Tls(_) | ErrorKind::HalfOfPair)
    }

    /// Whether a file cannot be opened for writing.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, ErrorKind::File { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend `{}`: ", self.backend)?;
        match &self.kind {
            ErrorKind::Endpoint { endpoint, problem } => write!(
                f,
                "the endpoint `{endpoint}` {problem}; write it as http://host:port or https://host:port"
            ),
            ErrorKind::Header { name, problem } => {
                write!(f, "the header `{name}` {problem}; correct or remove it")
            }
            ErrorKind::File { path, .. } => write!(
                f,
                "cannot open `{}` for writing; choose a path that this user may write to, or change its permissions",
                path.display()
            ),
            ErrorKind::Thread(_) => {
                f.write_str("cannot start its thread; raise the limit on threads of this process")
            }
            ErrorKind::Tls(problem) => write!(f, "cannot set up TLS: {problem}"),
            ErrorKind::HalfOfPair => f.write_str(
                "a client certificate and its key belong together; set both, or neither",
            ),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.kind {
            ErrorKind::File { source, .. } | ErrorKind::Thread(source) => Some(source),
            ErrorKind::Tls(problem) => error::Error::source(problem),
            _ => None,
        }
    }
}
