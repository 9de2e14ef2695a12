//! Why the start failed.

use std::fmt;

use spanweave_core::BoxError;

/// Why spans cannot be captured, exported or measured as configured. The text says what to do.
///
/// A backend that is merely down is not an error: its spans wait for it.
pub struct Error {
    kind: Kind,
    cause: Option<BoxError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Another subscriber is the global default.
    AlreadyInstalled,
    /// A backend: its endpoint, its file.
    Backend,
    /// `/metrics`: its address.
    Metrics,
    /// The pipeline itself: its thread.
    Pipeline,
}

impl Error {
    pub(crate) fn already_installed() -> Self {
        Self { kind: Kind::AlreadyInstalled, cause: None }
    }

    /// An error of a part, whose text and source are taken over as they are.
    pub(crate) fn of(kind: Kind, cause: impl Into<BoxError>) -> Self {
        Self { kind, cause: Some(cause.into()) }
    }

    /// Whether a subscriber is installed already, by spanweave or by somebody else.
    pub fn is_already_installed(&self) -> bool {
        self.kind == Kind::AlreadyInstalled
    }

    /// Whether a backend is configured wrongly: a malformed endpoint, a file that cannot be
    /// written.
    pub fn is_backend(&self) -> bool {
        self.kind == Kind::Backend
    }

    /// Whether `/metrics` cannot be served at its address.
    pub fn is_metrics(&self) -> bool {
        self.kind == Kind::Metrics
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => cause.fmt(f),
            None => f.write_str(
                "a global tracing subscriber is installed already: call spanweave::init() or \
                 Builder::install() once, instead of any other subscriber's init(), or use \
                 Builder::build() and add its layer to your own subscriber",
            ),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A `main` that returns this error prints this form: say it for people.
        fmt::Display::fmt(self, f)?;
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().and_then(|cause| cause.source())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Taken(std::io::Error);
    impl fmt::Display for Taken {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("choose another port")
        }
    }
    impl std::error::Error for Taken {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_says_what_to_do_and_keeps_its_source() {
        let error = Error::of(Kind::Metrics, Taken(std::io::Error::other("in use")));
        assert_eq!(error.to_string(), "choose another port");
        assert_eq!(format!("{error:?}"), "choose another port: in use");
        assert!(error.is_metrics() && !error.is_backend() && !error.is_already_installed());
        assert!(Error::already_installed().to_string().contains("Builder::build()"));
    }
}
