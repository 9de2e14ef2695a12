//! The bodies of a call, whose messages are counted, and the future between them.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Code;

use super::call::{Call, inside};
use super::code;
use super::messages::Messages;
use crate::peer;

/// The body of a request, with its messages counted.
pub(super) fn counted(body: tonic::body::Body, count: Arc<AtomicU64>) -> tonic::body::Body {
    if body.is_end_stream() {
        return body;
    }
    tonic::body::Body::new(RequestBody { inner: body, messages: Messages::default(), count })
}

#[derive(Debug)]
struct RequestBody {
    inner: tonic::body::Body,
    messages: Messages,
    count: Arc<AtomicU64>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.messages.take(data);
            self.count.store(self.messages.count(), Ordering::Relaxed);
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

pin_project! {
    /// The body of a response: passes everything through, counts messages and ends the span with
    /// the trailers. It is polled inside the span.
    #[derive(Debug)]
    pub struct CallBody<B> {
        #[pin]
        inner: B,
        call: Option<Call>,
    }
}

impl<B> Body for CallBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Any,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let polled = ready!(inside(this.call, || this.inner.poll_frame(cx)));
        let code = match &polled {
            // A stream without trailers has no outcome.
            None => Some(Code::Unknown),
            Some(Err(error)) => {
                let error: &dyn Any = error;
                Some(
                    error
                        .downcast_ref::<tonic::Status>()
                        .map_or(Code::Unknown, tonic::Status::code),
                )
            }
            Some(Ok(frame)) => {
                if let (Some(data), Some(call)) = (frame.data_ref(), &mut *this.call) {
                    call.response_bytes(data);
                }
                frame
                    .trailers_ref()
                    .map(|trailers| code::in_headers(trailers).unwrap_or(Code::Unknown))
            }
        };
        if let Some(code) = code
            && let Some(call) = this.call.take()
        {
            call.finish(code);
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Default> Default for CallBody<B> {
    fn default() -> Self {
        Self { inner: B::default(), call: None }
    }
}

pin_project! {
    /// The future of a response: polled inside the call's span, which goes on with the body.
    #[derive(Debug)]
    pub struct CallFuture<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
        end: End,
    }
}

/// What the two ends of a call do with the response's head.
#[derive(Debug)]
pub(super) enum End {
    /// Reads the name of the service on this host.
    Client { host: String },
    /// Writes its own name.
    Server { own_name: Option<HeaderValue> },
}

impl<F> CallFuture<F> {
    pub(super) fn new(inner: F, call: Option<Call>, end: End) -> Self {
        Self { inner, call, end }
    }
}

impl<F, R, E> Future for CallFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
    E: Any,
{
    type Output = Result<Response<CallBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(inside(this.call, || this.inner.poll(cx)));
        let mut call = this.call.take();
        Poll::Ready(match result {
            Ok(mut response) => {
                match this.end {
                    End::Client { host } => {
                        if let Some(service) = peer::service_of(response.headers(), host)
                            && let Some(call) = &call
                        {
                            call.span.record("service.peer.name", service.as_str());
                        }
                    }
                    End::Server { own_name } => {
                        if let Some(name) = own_name.take() {
                            peer::write_name(name, response.headers_mut());
                        }
                    }
                }
                let head = code::in_headers(response.headers())
                    .or_else(|| code::of_http(response.status()));
                if let Some(code) = head
                    && let Some(call) = call.take()
                {
                    call.finish(code);
                }
                Ok(response.map(|inner| CallBody { inner, call }))
            }
            Err(error) => {
                if let Some(call) = call {
                    call.finish(code_of(&error));
                }
                Err(error)
            }
        })
    }
}

/// What tonic makes of an error of the transport.
fn code_of<E: Any>(error: &E) -> Code {
    const MAX_DEPTH: usize = 16;
    let any: &dyn Any = error;
    let boxed = any.downcast_ref::<Box<dyn std::error::Error + Send + Sync>>();
    let mut next = boxed.map(|error| &**error as &(dyn std::error::Error + 'static));
    for _ in 0..MAX_DEPTH {
        let Some(error) = next else { break };
        if let Some(status) = error.downcast_ref::<tonic::Status>() {
            return status.code();
        }
        if error.is::<tonic::TimeoutExpired>() {
            return Code::DeadlineExceeded;
        }
        next = error.source();
    }
    Code::Unavailable
}
