//! Which request methods may become part of a span's name.

use std::sync::Arc;

use http::Method;

/// RFC 9110, with PATCH (RFC 5789) and QUERY.
const DEFAULT: [&str; 10] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"];

/// The variable that replaces the default list.
const VARIABLE: &str = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS";

/// The request methods that are known. Others are foreign text and would make names without
/// number: they are called `HTTP` in the span's name and `_OTHER` in `http.request.method`, and
/// what was sent stands in `http.request.method_original`.
///
/// ```
/// # use spanweave_instrumentation::http::KnownMethods;
/// let methods = KnownMethods::new(["GET", "PURGE"]);
/// assert!(methods.contains("PURGE"));
/// assert!(!methods.contains("purge"), "methods are case-sensitive");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownMethods(Arc<[Box<str>]>);

impl KnownMethods {
    /// These methods and no others.
    pub fn new<M: Into<Box<str>>>(methods: impl IntoIterator<Item = M>) -> Self {
        Self(methods.into_iter().map(Into::into).collect())
    }

    /// The methods of `OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS`, a comma-separated list; the
    /// default (RFC 9110, PATCH and QUERY) where it is not set or names none.
    pub fn from_env() -> Self {
        Self::from_list(&std::env::var(VARIABLE).unwrap_or_default())
    }

    /// Whether the method is known; case matters.
    pub fn contains(&self, method: &str) -> bool {
        self.0.iter().any(|known| &**known == method)
    }

    pub(crate) fn describe<'a>(&self, method: &'a Method) -> Description<'a> {
        let text = method.as_str();
        if self.contains(text) {
            Description { attribute: text, name: text, original: None }
        } else {
            Description { attribute: "_OTHER", name: "HTTP", original: Some(text) }
        }
    }

    fn from_list(list: &str) -> Self {
        let methods: Vec<&str> =
            list.split(',').map(str::trim).filter(|method| !method.is_empty()).collect();
        if methods.is_empty() { Self::default() } else { Self::new(methods) }
    }
}

impl Default for KnownMethods {
    fn default() -> Self {
        Self::new(DEFAULT)
    }
}

/// What a span says of a method.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Description<'a> {
    /// `http.request.method`.
    pub(crate) attribute: &'a str,
    /// Its part of the span's name.
    pub(crate) name: &'a str,
    /// `http.request.method_original`, where it differs.
    pub(crate) original: Option<&'a str>,
}

impl Description<'_> {
    /// The name of a span: the method, and where it leads in few words, if that is known.
    pub(crate) fn span_name(&self, target: Option<&str>) -> String {
        match target {
            Some(target) => format!("{} {target}", self.name),
            None => self.name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_method_does_not_reach_the_name() {
        let method = Method::from_bytes(b"BREW").unwrap();
        let methods = KnownMethods::default();
        let brew = methods.describe(&method);
        assert_eq!((brew.attribute, brew.original), ("_OTHER", Some("BREW")));
        assert_eq!(brew.span_name(Some("/pots/{id}")), "HTTP /pots/{id}");
        assert_eq!(methods.describe(&Method::GET).span_name(None), "GET");
    }

    #[test]
    fn the_variable_replaces_the_list_and_an_empty_one_is_unset() {
        let methods = KnownMethods::from_list(" GET, BREW ,");
        assert!(methods.contains("BREW") && !methods.contains("POST"));
        assert_eq!(KnownMethods::from_list(" , "), KnownMethods::default());
    }
}
