//! Headers from a callback, for tokens that rotate.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use spanweave_core::BoxError;

type Headers = Vec<(String, String)>;
type Answer = Pin<Box<dyn Future<Output = Result<Headers, BoxError>> + Send>>;

/// Asked for headers before each request.
#[derive(Clone)]
pub(crate) struct HeaderSource(Arc<dyn Fn() -> Answer + Send + Sync>);

impl HeaderSource {
    pub(crate) fn new<F>(source: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Headers, BoxError>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(source())))
    }

    /// The headers now, marked sensitive.
    pub(crate) async fn headers(&self) -> Result<HeaderMap, BoxError> {
        let mut headers = HeaderMap::new();
        for (name, value) in (self.0)().await? {
            let name: HeaderName = name.trim().parse()?;
            let mut value: HeaderValue = value.trim().parse()?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }
}
