use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the attempts at one request; later ones carry `http.request.resend_count`. Copies count
/// together. It goes into the extensions of a request (`HttpClientLayer`), or to
/// `RequestBuilder::attempts`; the middleware has its own.
#[derive(Clone, Debug, Default)]
pub struct Attempts(Arc<AtomicUsize>);

impl Attempts {
    /// No attempt yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The attempts before this one.
    pub(super) fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
