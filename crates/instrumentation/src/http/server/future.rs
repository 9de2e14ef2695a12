use std::any::type_name;
use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use spanweave_core::SpanExt;

use super::layer::Settings;
use super::reply;
use crate::http::TracedBody;
use crate::http::exchange::{Exchange, Outcome, has_no_body, inside};
use crate::peer;

pin_project! {
    /// The future of a response: polled inside its span, which goes on with the body.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        exchange: Option<Exchange>,
        reply: Reply,
    }
}

/// What of the request decides how the response is dealt with.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) settings: Arc<Settings>,
    pub(super) method: Method,
    /// This service's name, for a caller that is told.
    pub(super) own_name: Option<HeaderValue>,
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: F, exchange: Option<Exchange>, reply: Reply) -> Self {
        Self { inner, exchange, reply }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<TracedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(inside(this.exchange, || this.inner.poll(cx)));
        let exchange = this.exchange.take();
        Poll::Ready(match result {
            Ok(response) => Ok(cover_body(response, this.reply, exchange)),
            Err(error) => {
                if let Some(exchange) = exchange {
                    exchange.finish(Outcome::Failed(Cow::Borrowed(type_name::<E>())));
                }
                Err(error)
            }
        })
    }
}

fn cover_body<R: Body>(
    mut response: Response<R>,
    reply: &mut Reply,
    exchange: Option<Exchange>,
) -> Response<TracedBody<R>> {
    if let Some(name) = reply.own_name.take() {
        peer::write_name(name, response.headers_mut());
    }
    if let Some(exchange) = &exchange {
        if reply.settings.trace_in_response {
            reply::write_trace(&exchange.span().span_context(), response.headers_mut());
        }
        reply.settings.response_headers.record(response.headers(), exchange.span());
    }
    let covered = exchange.and_then(|mut exchange| {
        let status = response.status();
        exchange.head(status, status.is_server_error());
        if has_no_body(&reply.method, status) {
            exchange.finish(Outcome::Complete);
            return None;
        }
        exchange.expect_body(announced_length(&response));
        if response.body().is_end_stream() {
            exchange.finish(Outcome::Complete);
            return None;
        }
        Some(exchange)
    });
    response.map(|body| TracedBody::new(body, covered, |_| Cow::Borrowed(type_name::<R::Error>())))
}

fn announced_length<R: Body>(response: &Response<R>) -> Option<u64> {
    response
        .body()
        .size_hint()
        .exact()
        .or_else(|| response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok())
}
