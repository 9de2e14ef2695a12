//! A function as one measured operation.

use std::borrow::Cow;
use std::error::Error;
use std::future::Future;
use std::panic::Location;

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
#[track_caller]
pub fn traced<T, E, F>(
    name: impl Into<Cow<'static, str>>,
    operation: F,
) -> impl Future<Output = Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
    E: Error + 'static,
{
    let name: Cow<'static, str> = name.into();
    let caller = Location::caller();
    async move {
        let span = tracing::info_span!(
            target: "spanweave::traced",
            "traced",
            otel.name = name.as_ref(),
            code.file.path = caller.file(),
            code.line.number = caller.line(),
        );
        let result = operation.instrument(span.clone()).await;
        if let Err(error) = &result {
            span.record_error(error);
        }
        result
    }
}
