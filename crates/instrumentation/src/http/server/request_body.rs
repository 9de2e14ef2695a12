//! The size of a request's body.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use http::Request;
use http::header::CONTENT_LENGTH;

use crate::http::exchange::RequestBody;

/// What is announced, else a count of what is read, where the body is one of axum's; a body of a
/// type that is not known cannot be replaced by one that counts.
pub(super) fn count<B: Any>(request: &mut Request<B>) -> Option<RequestBody> {
    let announced = request.headers().get(CONTENT_LENGTH);
    if let Some(length) = announced.and_then(|length| length.to_str().ok()?.parse().ok()) {
        return Some(RequestBody::Announced(length));
    }
    counted(request.body_mut()).map(RequestBody::Counted)
}

#[cfg(not(feature = "axum"))]
fn counted(_: &mut dyn Any) -> Option<Arc<AtomicU64>> {
    None
}

#[cfg(feature = "axum")]
fn counted(body: &mut dyn Any) -> Option<Arc<AtomicU64>> {
    use http_body::Body as _;

    let body = body.downcast_mut::<axum::body::Body>()?;
    if body.is_end_stream() {
        return None;
    }
    let bytes = Arc::<AtomicU64>::default();
    let inner = std::mem::take(body);
    *body = axum::body::Body::new(axum_body::Counting { inner, bytes: Arc::clone(&bytes) });
    Some(bytes)
}

#[cfg(feature = "axum")]
mod axum_body {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::{Context, Poll, ready};

    use axum::body::Body;
    use bytes::Bytes;
    use http_body::{Frame, SizeHint};

    #[derive(Debug)]
    pub(super) struct Counting {
        pub(super) inner: Body,
        pub(super) bytes: Arc<AtomicU64>,
    }

    impl http_body::Body for Counting {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
            if let Some(Ok(frame)) = &frame
                && let Some(data) = frame.data_ref()
            {
                self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            Poll::Ready(frame)
        }

        fn is_end_stream(&self) -> bool {
            self.inner.is_end_stream()
        }

        fn size_hint(&self) -> SizeHint {
            self.inner.size_hint()
        }
    }
}
