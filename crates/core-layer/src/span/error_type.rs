//! `error.type`: a low-cardinality class of an error, never its message.
//!
//! Sources, best first: a field `error.type`; an HTTP or gRPC status or an SQLSTATE; the type
//! given to `record_error` or `traced`; a downcast of a well-known error of the source chain; the
//! leading identifier of a `Debug` rendering; else `_OTHER`.

use std::error::Error;

/// The value for errors of which nothing better is known (semantic conventions: `error.type`).
pub(crate) const OTHER: &str = "_OTHER";

/// Longest class that is kept, in bytes. Type paths are shorter; a message that slipped in is cut.
const MAX_BYTES: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    None,
    DebugIdentifier,
    Downcast,
    RecordedType,
    StatusCode,
    Field,
}

/// The class of a span's error and where it came from; a better source replaces a worse one.
#[derive(Clone, Debug)]
pub(crate) struct ErrorType {
    source: Source,
    text: String,
}

impl Default for ErrorType {
    fn default() -> Self {
        Self { source: Source::None, text: String::new() }
    }
}

impl ErrorType {
    /// Takes `text` if its source is at least as good as what is known. Empty text is no class.
    pub(crate) fn offer(&mut self, source: Source, text: &str) {
        if source < self.source || text.is_empty() {
            return;
        }
        let mut end = text.len().min(MAX_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.source = source;
        self.text.clear();
        self.text.push_str(&text[..end]);
    }

    /// A numeric status: of HTTP from 400 on, of gRPC anything but 0.
    pub(crate) fn offer_status(&mut self, key: &str, code: i64) {
        let failed = if key.starts_with("rpc.") { code != 0 } else { code >= 400 };
        if failed {
            self.offer(Source::StatusCode, &code.to_string());
        }
    }

    /// A status in words: of gRPC anything but `OK`, or an SQLSTATE that is no success (class 00).
    pub(crate) fn offer_code(&mut self, code: &str) {
        if !code.eq_ignore_ascii_case("ok") && code != "00000" && code != "0" {
            self.offer(Source::StatusCode, code);
        }
    }

    pub(crate) fn offer_debug(&mut self, rendering: &str) {
        if let Some(identifier) = leading_identifier(rendering) {
            self.offer(Source::DebugIdentifier, identifier);
        }
    }

    /// Takes over what another one knows, if that is better.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.offer(other.source, &other.text);
    }

    pub(crate) fn get(&self) -> Option<&str> {
        (self.source != Source::None).then_some(self.text.as_str())
    }

    /// Appends the class to `text`; where it came from.
    pub(crate) fn move_to(&mut self, text: &mut String) -> Source {
        text.push_str(&self.text);
        self.text.clear();
        std::mem::replace(&mut self.source, Source::None)
    }

    /// Takes over a class that was moved away.
    pub(crate) fn move_from(&mut self, source: Source, text: &str) {
        self.source = source;
        self.text.clear();
        self.text.push_str(text);
    }

    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn clear(&mut self) {
        self.source = Source::None;
        self.text.clear();
    }
}

/// The leading identifier of a `Debug` rendering such as `NotFound(..)` or `Os { code: 2 }`.
///
/// `Display` text arrives in the same way, so only what looks like a Rust type or variant counts:
/// upper-case first letter, then the end or an opening bracket.
fn leading_identifier(rendering: &str) -> Option<&str> {
    let end = rendering
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(rendering.len());
    let (identifier, rest) = rendering.split_at(end);
    let rest = rest.trim_start();
    let shaped = identifier.rsplit("::").next().is_some_and(|last| {
        last.starts_with(|c: char| c.is_ascii_uppercase())
            && last.chars().any(|c| c.is_ascii_lowercase())
    });
    let closed = rest.is_empty() || rest.starts_with(['(', '{']);
    (shaped && closed && !identifier.ends_with(':')).then_some(identifier)
}

fn bounded_debug(error: &dyn Error) -> String {
    use std::fmt::Write;
    struct Bounded(String);
    impl Write for Bounded {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.push_str(text);
            if self.0.len() > MAX_BYTES { Err(std::fmt::Error) } else { Ok(()) }
        }
    }
    let mut out = Bounded(String::new());
    // The error only says that the text was cut.
    write!(out, "{error:?}").ok();
    out.0
}

/// The class of an error whose type is not known: of the first well-known error in its source
/// chain, else the leading identifier of its `Debug`.
pub(crate) fn class_of_error(error: &(dyn Error + 'static)) -> Option<String> {
    type_of_error(error).or_else(|| leading_identifier(&bounded_debug(error)).map(str::to_owned))
}

/// The class of the first well-known error in the source chain.
pub(crate) fn type_of_error(error: &(dyn Error + 'static)) -> Option<String> {
    // A cyclic `source` must not hang the application.
    const MAX_DEPTH: usize = 32;
    let mut next = Some(error);
    for _ in 0..MAX_DEPTH {
        let current = next?;
        if let Some(class) = well_known(current) {
            return Some(class);
        }
        next = current.source();
    }
    None
}

fn well_known(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(io) = error.downcast_ref::<std::io::Error>() {
        return Some(format!("std::io::ErrorKind::{:?}", io.kind()));
    }
    macro_rules! first_of {
        ($($type:ty),* $(,)?) => {
            $(if error.is::<$type>() {
                return Some(std::any::type_name::<$type>().to_owned());
            })*
        };
    }
    first_of!(
        std::fmt::Error,
        std::num::ParseIntError,
        std::num::ParseFloatError,
        std::num::TryFromIntError,
        std::str::Utf8Error,
        std::str::ParseBoolError,
        std::string::FromUtf8Error,
        std::char::ParseCharError,
        std::net::AddrParseError,
        std::env::VarError,
        std::time::SystemTimeError,
        std::sync::mpsc::RecvError,
        std::sync::mpsc::RecvTimeoutError,
        std::sync::mpsc::TryRecvError,
        std::cell::BorrowError,
        std::cell::BorrowMutError,
        std::array::TryFromSliceError,
        std::alloc::LayoutError,
        std::thread::AccessError,
        http::Error,
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_rendering_gives_its_leading_identifier_and_a_message_gives_none() {
        assert_eq!(leading_identifier("NotFound(7)"), Some("NotFound"));
        assert_eq!(leading_identifier("Os { code: 2 }"), Some("Os"));
        assert_eq!(leading_identifier("db::Error::Timeout"), Some("db::Error::Timeout"));
        assert_eq!(leading_identifier("connection refused"), None);
        assert_eq!(leading_identifier("Connection refused (os error 111)"), None);
        assert_eq!(leading_identifier("User: 42"), None);
        assert_eq!(leading_identifier(""), None);
    }

    #[test]
    fn a_better_source_replaces_a_worse_one_and_not_the_other_way_round() {
        let mut class = ErrorType::default();
        class.offer_debug("Broken(1)");
        class.offer(Source::RecordedType, "my::Error");
        class.offer_debug("Other(1)");
        assert_eq!(class.get(), Some("my::Error"));
        class.offer_status("http.response.status_code", 503);
        assert_eq!(class.get(), Some("503"));
        class.offer(Source::Field, "timeout");
        class.offer_status("http.response.status_code", 500);
        assert_eq!(class.get(), Some("timeout"));
    }

    #[test]
    fn a_well_known_error_is_found_down_the_source_chain() {
        #[derive(Debug)]
        struct Outer(std::io::Error);
        impl std::fmt::Display for Outer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("outer")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = Outer(std::io::ErrorKind::TimedOut.into());
        assert_eq!(type_of_error(&error).as_deref(), Some("std::io::ErrorKind::TimedOut"));
    }
}
