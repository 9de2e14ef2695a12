use std::borrow::Cow;

use http::Method;
use reqwest::IntoUrl;
use spanweave_core::clock::Deadline;

use super::attempt;
use super::redirect::Replay;
use super::{Attempts, RequestBuilder, Response};
use crate::http::KnownMethods;

/// As reqwest.
const MAX_REDIRECTS: usize = 10;

/// A `reqwest::Client` with spans and propagation; see the [module](super). Cloning is cheap.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: reqwest::Client,
    methods: KnownMethods,
    /// `None` leaves redirects to `inner`.
    max_redirects: Option<usize>,
}

impl HttpClient {
    /// A client with reqwest's defaults.
    ///
    /// # Panics
    /// As `reqwest::Client::new` does: where no TLS or resolver can be set up. [`build`](Self::build)
    /// returns that as an error.
    pub fn new() -> Self {
        Self::build(reqwest::Client::builder())
            .unwrap_or_else(|_| Self::from_client(reqwest::Client::new()))
    }

    /// A client with the settings of `builder`, except that redirects are followed here.
    ///
    /// # Errors
    /// Those of `reqwest::ClientBuilder::build`.
    pub fn build(builder: reqwest::ClientBuilder) -> reqwest::Result<Self> {
        let inner = builder.redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { inner, methods: KnownMethods::from_env(), max_redirects: Some(MAX_REDIRECTS) })
    }

    /// Wraps a client whose own redirect policy stays. The headers of a redirect that it follows
    /// are those of the first hop, baggage included.
    pub fn from_client(client: reqwest::Client) -> Self {
        Self { inner: client, methods: KnownMethods::from_env(), max_redirects: None }
    }

    /// How many redirects are followed here; 10 by default, 0 for none. Without effect on
    /// [`from_client`](Self::from_client).
    #[must_use]
    pub fn max_redirects(mut self, limit: usize) -> Self {
        self.max_redirects = self.max_redirects.map(|_| limit);
        self
    }

    /// Replaces the list of known methods.
    #[must_use]
    pub fn known_methods(mut self, methods: KnownMethods) -> Self {
        self.methods = methods;
        self
    }

    /// Starts a `GET`.
    pub fn get<U: IntoUrl>(&self, url: U) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// Starts a `POST`.
    pub fn post<U: IntoUrl>(&self, url: U) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// Starts a `PUT`.
    pub fn put<U: IntoUrl>(&self, url: U) -> RequestBuilder {
        self.request(Method::PUT, url)
    }

    /// Starts a `PATCH`.
    pub fn patch<U: IntoUrl>(&self, url: U) -> RequestBuilder {
        self.request(Method::PATCH, url)
    }

    /// Starts a `DELETE`.
    pub fn delete<U: IntoUrl>(&self, url: U) -> RequestBuilder {
        self.request(Method::DELETE, url)
    }

    /// Starts a `HEAD`.
    pub fn head<U: IntoUrl>(&self, url: U) -> RequestBuilder {
        self.request(Method::HEAD, url)
    }

    /// Starts a request.
    pub fn request<U: IntoUrl>(&self, method: Method, url: U) -> RequestBuilder {
        RequestBuilder::new(self.clone(), self.inner.request(method, url))
    }

    /// Sends a request that is built already.
    ///
    /// # Errors
    /// Those of `reqwest::Client::execute`.
    pub async fn execute(&self, request: reqwest::Request) -> reqwest::Result<Response> {
        self.run(request, None, Attempts::new()).await
    }

    /// The client inside; what is sent by it has no span.
    pub fn inner(&self) -> &reqwest::Client {
        &self.inner
    }

    pub(super) async fn run(
        &self,
        mut request: reqwest::Request,
        template: Option<Cow<'static, str>>,
        attempts: Attempts,
    ) -> reqwest::Result<Response> {
        let limit = self.max_redirects.unwrap_or(0);
        let deadline = request.timeout().copied().map(Deadline::after);
        let mut template = template.as_deref();
        let mut hop = 0;
        loop {
            let replay = (hop < limit).then(|| Replay::of(&request));
            let resend_count = attempts.next();
            let response =
                attempt::send(&self.inner, &self.methods, request, template, resend_count).await?;
            let next =
                replay.and_then(|replay| replay.follow(response.status(), response.headers()));
            let Some(next) = next else {
                return Ok(response);
            };
            request = next;
            if let Some(deadline) = deadline {
                *request.timeout_mut() = Some(deadline.remaining());
            }
            // The template described the first URL.
            template = None;
            hop += 1;
        }
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}
