//! Where a redirect leads, and with what: the rules of reqwest and of RFC 9110, 15.4.

use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, LOCATION,
    PROXY_AUTHORIZATION, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, StatusCode};
use reqwest::{Request, Url};

/// What of a request can be sent again. Taken before anything is injected, so that every hop gets
/// its own trace headers and no hop those of another.
#[derive(Debug)]
pub(super) struct Replay {
    request: Request,
    has_whole_body: bool,
}

impl Replay {
    pub(super) fn of(request: &Request) -> Self {
        match request.try_clone() {
            Some(request) => Self { request, has_whole_body: true },
            None => {
                let mut head = Request::new(request.method().clone(), request.url().clone());
                *head.headers_mut() = request.headers().clone();
                *head.version_mut() = request.version();
                Self { request: head, has_whole_body: false }
            }
        }
    }

    /// The request that a response asks for, if it is a redirect that can be followed.
    pub(super) fn follow(mut self, status: StatusCode, headers: &HeaderMap) -> Option<Request> {
        let location = headers.get(LOCATION)?.to_str().ok()?;
        let from = self.request.url();
        let to = from.join(location).ok()?;
        if !matches!(to.scheme(), "http" | "https") {
            return None;
        }
        let becomes_get = match status {
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => {
                self.request.method() == Method::POST
            }
            StatusCode::SEE_OTHER => self.request.method() != Method::HEAD,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => false,
            _ => return None,
        };
        if becomes_get {
            *self.request.method_mut() = Method::GET;
            *self.request.body_mut() = None;
            for header in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING] {
                self.request.headers_mut().remove(header);
            }
        } else if !self.has_whole_body {
            return None;
        }
        if !same_origin(self.request.url(), &to) {
            let headers = self.request.headers_mut();
            for header in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE] {
                headers.remove(header);
            }
            headers.remove("cookie2");
            // Written by the application itself, for the first host; ours are not in yet.
            headers.remove("baggage");
        }
        *self.request.url_mut() = to;
        Some(self.request)
    }
}

fn same_origin(from: &Url, to: &Url) -> bool {
    from.scheme() == to.scheme()
        && from.host_str() == to.host_str()
        && from.port_or_known_default() == to.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(method: Method, status: u16, location: &str) -> Option<Request> {
        let mut request = Request::new(method, "http://a.example/dir/page?q=1".parse().unwrap());
        *request.body_mut() = Some("text".into());
        for (key, value) in
            [("authorization", "x"), ("cookie", "x"), ("content-type", "x"), ("accept", "x")]
        {
            request.headers_mut().insert(key, value.parse().unwrap());
        }
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, location.parse().unwrap());
        Replay::of(&request).follow(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn the_method_and_the_body_follow_the_status() {
        let table = [
            (Method::POST, 301, Method::GET),
            (Method::POST, 302, Method::GET),
            (Method::PUT, 302, Method::PUT),
            (Method::PUT, 303, Method::GET),
            (Method::HEAD, 303, Method::HEAD),
            (Method::POST, 307, Method::POST),
            (Method::POST, 308, Method::POST),
        ];
        for (method, status, expected) in table {
            let next = follow(method.clone(), status, "/other").unwrap();
            assert_eq!(next.method(), expected, "{method} {status}");
            assert_eq!(next.url().as_str(), "http://a.example/other");
            let keeps_body = method == expected;
            assert_eq!(next.body().is_some(), keeps_body, "{method} {status}");
            assert_eq!(next.headers().contains_key("content-type"), keeps_body);
            assert!(next.headers().contains_key("authorization"), "the host is the same");
        }
    }

    #[test]
    fn credentials_stay_on_their_host() {
        for location in ["http://b.example/", "https://a.example/", "//a.example:81/"] {
            let next = follow(Method::GET, 302, location).unwrap();
            assert!(!next.headers().contains_key("authorization"), "{location}");
            assert!(!next.headers().contains_key("cookie"), "{location}");
            assert!(next.headers().contains_key("accept"), "{location}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_the_response() {
        assert!(follow(Method::GET, 200, "/other").is_none());
        assert!(follow(Method::GET, 304, "/other").is_none());
        assert!(follow(Method::GET, 302, "file:///etc/passwd").is_none());
        assert!(follow(Method::GET, 302, "http://[").is_none());
    }
}
