//! A response body that its span covers.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::exchange::{Exchange, Outcome, inside};

pin_project! {
    /// A response body that passes everything through and ends its span when it ends, fails or
    /// is dropped. It is polled inside the span.
    pub struct TracedBody<B>
    where
        B: Body,
    {
        #[pin]
        inner: B,
        exchange: Option<Exchange>,
        classify: fn(&B::Error) -> Cow<'static, str>,
    }
}

impl<B: Body> TracedBody<B> {
    pub(crate) fn new(
        inner: B,
        exchange: Option<Exchange>,
        classify: fn(&B::Error) -> Cow<'static, str>,
    ) -> Self {
        Self { inner, exchange, classify }
    }
}

impl<B: Body> Body for TracedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let polled = inside(this.exchange, || this.inner.as_mut().poll_frame(cx));
        let outcome = match &polled {
            Poll::Pending => None,
            Poll::Ready(None) => Some(Outcome::Complete),
            Poll::Ready(Some(Err(error))) => Some(Outcome::Failed((this.classify)(error))),
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(data), Some(exchange)) = (frame.data_ref(), &mut this.exchange) {
                    exchange.add_body_bytes(data.remaining());
                }
                // A server that sees the end does not ask again.
                this.inner.is_end_stream().then_some(Outcome::Complete)
            }
        };
        if let Some(outcome) = outcome
            && let Some(exchange) = this.exchange.take()
        {
            exchange.finish(outcome);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Body + Default> Default for TracedBody<B> {
    fn default() -> Self {
        Self::new(B::default(), None, |_| Cow::Borrowed("_OTHER"))
    }
}

impl<B: Body> std::fmt::Debug for TracedBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TracedBody").field("open", &self.exchange.is_some()).finish_non_exhaustive()
    }
}
