//! Why a pipeline could not start.

use std::fmt;

/// Why a pipeline could not start.
#[derive(Debug)]
pub struct Error {
    source: std::io::Error,
}

impl Error {
    pub(crate) fn thread(source: std::io::Error) -> Self {
        Self { source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pipeline's worker thread could not be started; check the process limits")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
