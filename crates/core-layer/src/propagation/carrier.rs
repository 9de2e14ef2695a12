//! HTTP headers as a carrier.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector};

/// Lines of one header that are looked at. No format honours more than 64 members, so that
/// further lines could only make more work.
const MAX_LINES: usize = 64;

/// Writes into an [`http::HeaderMap`], each header replacing what stood there.
///
/// A name or value that HTTP does not allow is left out.
#[derive(Debug)]
pub struct HeaderInjector<'a>(pub &'a mut HeaderMap);

impl Injector for HeaderInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let Ok(name) = HeaderName::from_bytes(key.as_bytes())
            && let Ok(value) = HeaderValue::try_from(value)
        {
            self.0.insert(name, value);
        }
    }

    fn reserve(&mut self, additional: usize) {
        self.0.reserve(additional);
    }
}

/// Reads from an [`http::HeaderMap`].
///
/// `get` gives the first line of a header, `get_all` each line (the first 64), so that lists over
/// several lines can be read as one. A line that is not visible ASCII reads as an empty one.
#[derive(Debug)]
pub struct HeaderExtractor<'a>(pub &'a HeaderMap);

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(text)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }

    fn get_all(&self, key: &str) -> Option<Vec<&str>> {
        let lines: Vec<_> = self.0.get_all(key).iter().take(MAX_LINES).map(text).collect();
        (!lines.is_empty()).then_some(lines)
    }
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_replaces_every_line() {
        let mut headers = HeaderMap::new();
        headers.append("baggage", HeaderValue::from_static("a=1"));
        headers.append("baggage", HeaderValue::from_static("b=2"));
        HeaderInjector(&mut headers).set("Baggage", "c=3".to_owned());
        assert_eq!(headers.get_all("baggage").iter().count(), 1);
        assert_eq!(headers["baggage"], "c=3");
    }

    #[test]
    fn what_http_does_not_allow_is_left_out() {
        let mut headers = HeaderMap::new();
        HeaderInjector(&mut headers).set("sp ace", "x".to_owned());
        HeaderInjector(&mut headers).set("x", "a\r\nb: c".to_owned());
        assert!(headers.is_empty());
    }

    #[test]
    fn a_line_that_is_not_ascii_reads_as_empty() -> Result<(), http::Error> {
        let mut headers = HeaderMap::new();
        headers.append("tracestate", HeaderValue::from_static("a=1"));
        headers.append("tracestate", HeaderValue::from_bytes(&[0xff, 0xfe])?);
        let extractor = HeaderExtractor(&headers);
        assert_eq!(extractor.get_all("tracestate"), Some(vec!["a=1", ""]));
        assert_eq!(extractor.get_all("absent"), None);
        assert_eq!(extractor.get("tracestate"), Some("a=1"));
        Ok(())
    }
}
