use std::borrow::Cow;
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::attempt::{body_class, class};
use crate::http::TracedBody;
use crate::http::exchange::{Exchange, Outcome, inside};

/// The body of a [`Response`], for whoever reads it as an `http_body::Body`.
pub type ResponseBody = TracedBody<reqwest::Body>;

/// A `reqwest::Response` whose span lasts until its body has been read, or it is dropped.
///
/// Status, headers, URL and so on are those of the `reqwest::Response` that it dereferences to.
#[derive(Debug)]
pub struct Response {
    inner: reqwest::Response,
    exchange: Option<Exchange>,
}

impl Response {
    pub(super) fn new(inner: reqwest::Response, exchange: Option<Exchange>) -> Self {
        Self { inner, exchange }
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// Where reading fails, or the body is not JSON of this type.
    pub async fn json<T: DeserializeOwned>(self) -> reqwest::Result<T> {
        let url = self.inner.url().clone();
        let (bytes, exchange) = self.read().await?;
        let parsed = reqwest::Response::from(http::Response::new(bytes)).json().await;
        finish(exchange, &parsed, class);
        parsed.map_err(|error| error.with_url(url))
    }

    /// Reads the body as text.
    ///
    /// # Errors
    /// Where reading fails.
    pub async fn text(self) -> reqwest::Result<String> {
        let headers = self.inner.headers().clone();
        let (bytes, exchange) = self.read().await?;
        let mut response = http::Response::new(bytes);
        // The character set stands there.
        *response.headers_mut() = headers;
        let text = reqwest::Response::from(response).text().await;
        finish(exchange, &text, class);
        text
    }

    /// Reads the body.
    ///
    /// # Errors
    /// Where reading fails.
    pub async fn bytes(self) -> reqwest::Result<Bytes> {
        let (bytes, exchange) = self.read().await?;
        finish(exchange, &Ok(()), class);
        Ok(bytes)
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// Where reading fails.
    pub async fn chunk(&mut self) -> reqwest::Result<Option<Bytes>> {
        let Self { inner, exchange } = self;
        let mut chunk = std::pin::pin!(inner.chunk());
        let read = poll_fn(|cx| inside(exchange, || chunk.as_mut().poll(cx))).await;
        match (&read, &mut *exchange) {
            (Ok(Some(bytes)), Some(exchange)) => exchange.add_body_bytes(bytes.len()),
            (Ok(Some(_)), None) => {}
            (Ok(None) | Err(_), _) => finish(exchange.take(), &read, body_class),
        }
        read
    }

    /// Turns a status of 4xx or 5xx into an error. The span ends there, unread.
    ///
    /// # Errors
    /// For 4xx and 5xx.
    pub fn error_for_status(self) -> reqwest::Result<Self> {
        let Self { inner, exchange } = self;
        inner.error_for_status().map(|inner| Self { inner, exchange })
    }

    /// The body, still covered by the span.
    pub fn into_body(self) -> ResponseBody {
        TracedBody::new(reqwest::Body::from(self.inner), self.exchange, body_class)
    }

    /// The response inside. The span ends here, it does not cover the body.
    pub fn into_inner(self) -> reqwest::Response {
        self.inner
    }

    async fn read(self) -> reqwest::Result<(Bytes, Option<Exchange>)> {
        let Self { inner, mut exchange } = self;
        let mut body: Pin<Box<_>> = Box::pin(inner.bytes());
        let read = poll_fn(|cx| inside(&mut exchange, || body.as_mut().poll(cx))).await;
        match read {
            Ok(bytes) => {
                if let Some(exchange) = &mut exchange {
                    exchange.add_body_bytes(bytes.len());
                }
                Ok((bytes, exchange))
            }
            Err(error) => {
                let failed = Err(error);
                finish(exchange, &failed, body_class);
                failed
            }
        }
    }
}

impl Deref for Response {
    type Target = reqwest::Response;

    fn deref(&self) -> &reqwest::Response {
        &self.inner
    }
}

impl From<Response> for reqwest::Response {
    fn from(response: Response) -> Self {
        response.into_inner()
    }
}

fn finish<T>(
    exchange: Option<Exchange>,
    result: &reqwest::Result<T>,
    class: fn(&reqwest::Error) -> Cow<'static, str>,
) {
    if let Some(exchange) = exchange {
        exchange.finish(match result {
            Ok(_) => Outcome::Complete,
            Err(error) => Outcome::Failed(class(error)),
        });
    }
}
