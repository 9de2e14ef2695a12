//! Low-cardinality classes of errors whose type is the service's own.

use std::any::{Any, type_name};
use std::borrow::Cow;
use std::error::Error;
use std::io::ErrorKind;

/// Sources that are looked at.
const MAX_DEPTH: usize = 16;

/// `timeout`, `connect`, `body` or `io` where the error or one of its sources says so, else the path
/// of its type without parameters; `_OTHER` for a boxed error that says nothing.
pub(crate) fn class<E: Any>(error: &E) -> Cow<'static, str> {
    let any: &dyn Any = error;
    if let Some(error) = any.downcast_ref::<Box<dyn Error + Send + Sync>>() {
        return Cow::Borrowed(class_of(&**error).unwrap_or("_OTHER"));
    }
    if let Some(error) = any.downcast_ref::<Box<dyn Error + Send>>() {
        return Cow::Borrowed(class_of(&**error).unwrap_or("_OTHER"));
    }
    if let Some(error) = any.downcast_ref::<std::io::Error>() {
        return Cow::Borrowed(class_of(error).unwrap_or("io"));
    }
    #[cfg(feature = "hyper-client")]
    if let Some(error) = any.downcast_ref::<hyper_util::client::legacy::Error>() {
        let otherwise = if error.is_connect() { "connect" } else { own_name::<E>() };
        return Cow::Borrowed(class_of(error).unwrap_or(otherwise));
    }
    Cow::Borrowed(own_name::<E>())
}

fn own_name<E>() -> &'static str {
    let name = type_name::<E>();
    name.split_once('<').map_or(name, |(name, _)| name)
}

fn class_of(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    for _ in 0..MAX_DEPTH {
        let error = next?;
        let known = match error.downcast_ref::<std::io::Error>() {
            Some(error) => match error.kind() {
                ErrorKind::TimedOut => Some("timeout"),
                ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::AddrNotAvailable => Some("connect"),
                ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof => Some("body"),
                _ => None,
            },
            None => is_timeout(error).then_some("timeout"),
        };
        if known.is_some() {
            return known;
        }
        next = error.source();
    }
    None
}

/// The timeouts of tokio and tower, which are known by the name of their type alone: neither crate
/// is needed here.
fn is_timeout(error: &dyn Error) -> bool {
    struct Start {
        matches: bool,
        seen: usize,
    }
    impl std::fmt::Write for Start {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            const NAME: &str = "Elapsed";
            let expected = NAME.get(self.seen..).unwrap_or_default();
            let length = expected.len().min(text.len());
            self.matches &= text.as_bytes().get(..length) == expected.as_bytes().get(..length);
            self.seen += text.len();
            if self.matches { Ok(()) } else { Err(std::fmt::Error) }
        }
    }
    let mut start = Start { matches: true, seen: 0 };
    let written = std::fmt::write(&mut start, format_args!("{error:?}"));
    written.is_ok() && start.matches && start.seen > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_classed_by_what_they_or_their_sources_are() {
        #[derive(Debug)]
        struct Elapsed(#[allow(dead_code)] ());
        #[derive(Debug)]
        struct Wrapper(std::io::Error);
        #[derive(Debug)]
        struct Generic<T>(#[allow(dead_code)] T);
        impl std::fmt::Display for Elapsed {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("late")
            }
        }
        impl std::fmt::Display for Wrapper {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("wrapped")
            }
        }
        impl Error for Elapsed {}
        impl Error for Wrapper {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        type Boxed = Box<dyn Error + Send + Sync>;
        let io = |kind: ErrorKind| std::io::Error::from(kind);
        assert_eq!(class::<Boxed>(&Elapsed(()).into()), "timeout");
        assert_eq!(class::<Boxed>(&Wrapper(io(ErrorKind::ConnectionRefused)).into()), "connect");
        assert_eq!(class::<Boxed>(&"what".into()), "_OTHER");
        assert_eq!(class(&io(ErrorKind::TimedOut)), "timeout");
        assert_eq!(class(&io(ErrorKind::Other)), "io");
        assert!(class(&Generic(1)).ends_with("::Generic"));
    }
}
