//! The body of a request: shared bytes, with gRPC's frame header in front where it is needed.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Up to two pieces of shared bytes; cloning copies nothing.
#[derive(Clone, Debug)]
pub(crate) struct RequestBody {
    head: Bytes,
    tail: Bytes,
}

impl RequestBody {
    /// The bytes as they are.
    pub(crate) fn plain(bytes: Bytes) -> Self {
        Self { head: Bytes::new(), tail: bytes }
    }

    /// The bytes as one gRPC message: a flag (compressed or not), the length, the bytes.
    /// `None` if a length prefix of 32 bits cannot express it.
    pub(crate) fn grpc(bytes: Bytes, compressed: bool) -> Option<Self> {
        let [a, b, c, d] = u32::try_from(bytes.len()).ok()?.to_be_bytes();
        let head = Bytes::copy_from_slice(&[compressed.into(), a, b, c, d]);
        Some(Self { head, tail: bytes })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut next = std::mem::take(&mut self.head);
        if next.is_empty() {
            next = std::mem::take(&mut self.tail);
        }
        Poll::Ready((!next.is_empty()).then(|| Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.head.len() + self.tail.len()) as u64)
    }
}
