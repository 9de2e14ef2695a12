//! The `Retry-After` header.

use std::time::{Duration, SystemTime};

/// Nobody is waited for longer than this, whatever a backend asks for.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How long a `Retry-After` header asks to wait: seconds, or an HTTP date in any of its three
/// forms. At most [`LONGEST_WAIT`]; a date that has passed is no wait. `None` if it is neither.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that do not fit are a very long time.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_WAIT));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_understood_and_capped() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let seconds = Duration::from_secs;
        for (value, wait) in [
            ("0", Some(seconds(0))),
            ("2", Some(seconds(2))),
            (" 120 ", Some(seconds(120))),
            ("86400", Some(seconds(300))),
            ("99999999999999999999999", Some(seconds(300))),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(seconds(10))),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(seconds(10))),
            ("Sun Nov  6 08:49:47 1994", Some(seconds(10))),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(seconds(0))),
            ("Fri, 31 Dec 1999 23:59:59 GMT", Some(seconds(300))),
            ("", None),
            ("-1", None),
            ("+2", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(value, now), wait, "{value:?}");
        }
    }
}
