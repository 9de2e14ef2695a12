use http::Extensions;
use reqwest::ResponseBuilderExt;
use reqwest_middleware::{Middleware, Next, Result};

use super::attempt::{Attempt, body_class};
use super::{Attempts, UrlTemplate};
use crate::http::{KnownMethods, TracedBody};

/// A middleware for `reqwest-middleware` that gives every attempt a client span and carries the
/// trace along.
///
/// It belongs below a retry middleware (added after it): each attempt then has its span, a sibling
/// of the one before, with `http.request.resend_count`. A [`UrlTemplate`] in the request's
/// extensions becomes part of the name. Redirects are followed by the client below: they stay
/// invisible, and the headers of the first hop, baggage included, go to every one; switch them off
/// (`reqwest::redirect::Policy::none()`) where that matters, or use [`HttpClient`](super::HttpClient).
///
/// ```
/// use reqwest_middleware::ClientBuilder;
/// use spanweave_instrumentation::http::client::SpanMiddleware;
///
/// let client = ClientBuilder::new(reqwest::Client::new()).with(SpanMiddleware::new()).build();
/// ```
#[derive(Clone, Debug)]
pub struct SpanMiddleware {
    methods: KnownMethods,
}

impl SpanMiddleware {
    /// The middleware, with the known methods of the environment ([`KnownMethods::from_env`]).
    pub fn new() -> Self {
        Self { methods: KnownMethods::from_env() }
    }

    /// Replaces the list of known methods.
    #[must_use]
    pub fn known_methods(mut self, methods: KnownMethods) -> Self {
        self.methods = methods;
        self
    }
}

impl Default for SpanMiddleware {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait::async_trait]
impl Middleware for SpanMiddleware {
    async fn handle(
        &self,
        mut request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<reqwest::Response> {
        let template = extensions.get::<UrlTemplate>().map(|template| template.0.clone());
        let resend_count = extensions.get_or_insert_default::<Attempts>().next();
        let attempt =
            Attempt::start(&mut request, &self.methods, template.as_deref(), resend_count);
        let sent = attempt.inside(next.run(request, extensions)).await;
        match sent {
            Ok(response) => {
                let url = response.url().clone();
                let covered = attempt.arrived(&response);
                let (mut parts, body) =
                    http::Response::<reqwest::Body>::from(response).into_parts();
                // A response of `http` has no URL of its own.
                if let Ok(marked) = http::Response::builder().url(url).body(()) {
                    parts.extensions.extend(marked.into_parts().0.extensions);
                }
                let body = reqwest::Body::wrap(TracedBody::new(body, covered, body_class));
                Ok(http::Response::from_parts(parts, body).into())
            }
            Err(error) => {
                match &error {
                    reqwest_middleware::Error::Reqwest(error) => attempt.failed(error),
                    reqwest_middleware::Error::Middleware(_) => {
                        attempt.failed_otherwise("middleware")
                    }
                }
                Err(error)
            }
        }
    }
}
