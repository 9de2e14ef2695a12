use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Version};
use serde::Serialize;

use super::{Attempts, HttpClient, Response};

/// Builds a request, as `reqwest::RequestBuilder` does; errors come out of [`send`](Self::send).
#[derive(Debug)]
#[must_use = "a request is only sent by `send`"]
pub struct RequestBuilder {
    client: HttpClient,
    inner: reqwest::RequestBuilder,
    template: Option<Cow<'static, str>>,
    attempts: Option<Attempts>,
}

impl RequestBuilder {
    pub(super) fn new(client: HttpClient, inner: reqwest::RequestBuilder) -> Self {
        Self { client, inner, template: None, attempts: None }
    }

    /// The URL with names in place of its values, such as `/users/{id}`: it becomes
    /// `url.template` and part of the span's name, so it must be one of few.
    pub fn url_template(mut self, template: impl Into<Cow<'static, str>>) -> Self {
        self.template = Some(template.into());
        self
    }

    /// Numbers the attempts of an application's own retries: given to each of them, later ones
    /// carry `http.request.resend_count`.
    pub fn attempts(mut self, attempts: &Attempts) -> Self {
        self.attempts = Some(attempts.clone());
        self
    }

    /// Anything that `reqwest::RequestBuilder` can do and that has no method here.
    pub fn configure(
        mut self,
        change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Self {
        self.inner = change(self.inner);
        self
    }

    /// Adds a header.
    pub fn header<K, V>(self, key: K, value: V) -> Self
    where
        HeaderName: TryFrom<K>,
        <HeaderName as TryFrom<K>>::Error: Into<http::Error>,
        HeaderValue: TryFrom<V>,
        <HeaderValue as TryFrom<V>>::Error: Into<http::Error>,
    {
        self.configure(|inner| inner.header(key, value))
    }

    /// Adds headers, each in place of one of the same name.
    pub fn headers(self, headers: HeaderMap) -> Self {
        self.configure(|inner| inner.headers(headers))
    }

    /// Adds pairs to the query.
    pub fn query<T: Serialize + ?Sized>(self, query: &T) -> Self {
        self.configure(|inner| inner.query(query))
    }

    /// Sets the body to JSON.
    pub fn json<T: Serialize + ?Sized>(self, json: &T) -> Self {
        self.configure(|inner| inner.json(json))
    }

    /// Sets the body to a URL-encoded form.
    pub fn form<T: Serialize + ?Sized>(self, form: &T) -> Self {
        self.configure(|inner| inner.form(form))
    }

    /// Sets the body.
    pub fn body<T: Into<reqwest::Body>>(self, body: T) -> Self {
        self.configure(|inner| inner.body(body))
    }

    /// Sends a bearer token.
    pub fn bearer_auth<T: Display>(self, token: T) -> Self {
        self.configure(|inner| inner.bearer_auth(token))
    }

    /// Sends a user name and a password.
    pub fn basic_auth<U: Display, P: Display>(self, username: U, password: Option<P>) -> Self {
        self.configure(|inner| inner.basic_auth(username, password))
    }

    /// How long the whole request may take, redirects and the body included.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.configure(|inner| inner.timeout(timeout))
    }

    /// Sets the protocol version.
    pub fn version(self, version: Version) -> Self {
        self.configure(|inner| inner.version(version))
    }

    /// A copy, unless the body is a stream.
    pub fn try_clone(&self) -> Option<Self> {
        let inner = self.inner.try_clone()?;
        let (template, attempts) = (self.template.clone(), self.attempts.clone());
        Some(Self { client: self.client.clone(), inner, template, attempts })
    }

    /// The request itself, for [`HttpClient::execute`].
    ///
    /// # Errors
    /// What was wrong with an earlier step, such as the URL.
    pub fn build(self) -> reqwest::Result<reqwest::Request> {
        self.inner.build()
    }

    /// Sends the request.
    ///
    /// # Errors
    /// Those of `reqwest::RequestBuilder::send`. A request that could not be built has no span.
    pub async fn send(self) -> reqwest::Result<Response> {
        let request = self.inner.build()?;
        self.client.run(request, self.template, self.attempts.unwrap_or_default()).await
    }
}
