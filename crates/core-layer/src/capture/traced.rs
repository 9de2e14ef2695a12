//! A function as one measured operation.

use std::borrow::Cow;
use std::error::Error;
use std::future::Future;

use tracing::Instrument;

use super::ext::SpanExt;

/// Runs `operation` as a span named `name`: measured, and its error recorded with its type.
///
/// The span is a child of the current one. What `operation` returns is passed on.
///
/// ```
/// # use std::io;
/// # async fn charge() -> io::Result<u32> { Ok(7) }
/// # async fn run() -> io::Result<()> {
/// let amount = spanweave_core::traced("ProcessPayment", charge()).await?;
/// # assert_eq!(amount, 7);
/// # Ok(())
/// # }
/// ```
pub async fn traced<T, E, F>(name: impl Into<Cow<'static, str>>, operation: F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: Error + 'static,
{
    let name: Cow<'static, str> = name.into();
    let span = tracing::info_span!("traced", otel.name = name.as_ref());
    let result = operation.instrument(span.clone()).await;
    if let Err(error) = &result {
        span.record_error(error);
    }
    result
}
