//! What a backend's answer says: `ExportTraceServiceResponse` and `google.rpc.Status`.

use std::time::Duration;

use serde::Deserialize;

use super::wire::{Fields, Value};

/// The body of an answer over HTTP, by its content type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReplyBody<'a> {
    Protobuf(&'a [u8]),
    Json(&'a [u8]),
    /// Anything else; it is not looked at.
    Unknown,
}

impl ReplyBody<'_> {
    /// See [`partial_success`].
    pub(crate) fn partial_success(&self) -> PartialSuccess {
        match self {
            Self::Protobuf(bytes) => partial_success(bytes),
            Self::Json(bytes) => json_partial_success(bytes),
            Self::Unknown => PartialSuccess::default(),
        }
    }

    /// See [`retry_info`]. In JSON it is not looked for: HTTP has `Retry-After`.
    pub(crate) fn retry_info(&self) -> Option<Duration> {
        match self {
            Self::Protobuf(bytes) => retry_info(bytes),
            Self::Json(_) | Self::Unknown => None,
        }
    }

    /// The message of a `google.rpc.Status`.
    pub(crate) fn status_message(&self) -> Option<String> {
        match self {
            Self::Protobuf(bytes) => status_message(bytes).map(str::to_owned),
            Self::Json(bytes) => serde_json::from_slice::<JsonReply>(bytes).ok()?.message,
            Self::Unknown => None,
        }
    }
}

/// What is read of a JSON answer. Unknown members are skipped without being stored, so a hostile
/// answer costs no more than its own size.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonReply {
    partial_success: Option<JsonPartialSuccess>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonPartialSuccess {
    rejected_spans: Option<JsonInteger>,
    error_message: Option<String>,
}

/// A 64-bit integer: text, as protobuf's JSON mapping has it, or a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum JsonInteger {
    Number(i64),
    Text(String),
}

fn json_partial_success(response: &[u8]) -> PartialSuccess {
    let reply: JsonReply = serde_json::from_slice(response).unwrap_or_default();
    let partial = reply.partial_success.unwrap_or_default();
    let rejected = match partial.rejected_spans {
        Some(JsonInteger::Number(number)) => number,
        Some(JsonInteger::Text(text)) => text.parse().unwrap_or(0),
        None => 0,
    };
    PartialSuccess {
        rejected: u64::try_from(rejected).unwrap_or(0),
        message: partial.error_message.unwrap_or_default(),
    }
}

/// `ExportTracePartialSuccess`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartialSuccess {
    pub(crate) rejected: u64,
    pub(crate) message: String,
}

/// Reads an `ExportTraceServiceResponse`. One that cannot be read is one without partial
/// success: the status says already that the request was taken.
pub(crate) fn partial_success(response: &[u8]) -> PartialSuccess {
    let mut found = PartialSuccess::default();
    for (number, value) in Fields::new(response).map_while(Result::ok) {
        let (1, Value::Bytes(partial)) = (number, value) else { continue };
        for field in Fields::new(partial).map_while(Result::ok) {
            match field {
                // An int64; a negative number of spans rejects none.
                (1, Value::Varint(rejected)) => {
                    found.rejected = i64::try_from(rejected).map_or(0, i64::unsigned_abs);
                }
                (2, Value::Bytes(message)) => {
                    found.message = String::from_utf8_lossy(message).into_owned();
                }
                _ => {}
            }
        }
    }
    found
}

/// The message of a `google.rpc.Status`.
pub(crate) fn status_message(status: &[u8]) -> Option<&str> {
    Fields::new(status).map_while(Result::ok).find_map(|field| match field {
        (2, Value::Bytes(message)) => std::str::from_utf8(message).ok(),
        _ => None,
    })
}

/// The delay of a `RetryInfo` among the details of a `google.rpc.Status`. `Some(ZERO)` is a
/// `RetryInfo` without a delay.
pub(crate) fn retry_info(status: &[u8]) -> Option<Duration> {
    Fields::new(status).map_while(Result::ok).find_map(|field| match field {
        (3, Value::Bytes(any)) => any_retry_info(any),
        _ => None,
    })
}

fn any_retry_info(any: &[u8]) -> Option<Duration> {
    let (mut url, mut content) = (&[][..], &[][..]);
    for field in Fields::new(any) {
        match field.ok()? {
            (1, Value::Bytes(bytes)) => url = bytes,
            (2, Value::Bytes(bytes)) => content = bytes,
            _ => {}
        }
    }
    if !url.ends_with(b"/google.rpc.RetryInfo") {
        return None;
    }
    let mut delay = Duration::ZERO;
    for field in Fields::new(content) {
        if let (1, Value::Bytes(duration)) = field.ok()? {
            delay = read_duration(duration)?;
        }
    }
    Some(delay)
}

/// A `google.protobuf.Duration`; negative ones are zero.
fn read_duration(duration: &[u8]) -> Option<Duration> {
    let (mut seconds, mut nanos) = (0u64, 0u64);
    for field in Fields::new(duration) {
        match field.ok()? {
            (1, Value::Varint(value)) => seconds = value,
            (2, Value::Varint(value)) => nanos = value,
            _ => {}
        }
    }
    let seconds = i64::try_from(seconds).unwrap_or(0).unsigned_abs();
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000).unwrap_or(0);
    Some(Duration::new(seconds, nanos))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A `google.rpc.Status` with a `RetryInfo` of so many seconds and milliseconds.
    pub(crate) fn status_with_retry_info(seconds: u8, millis: u64) -> Vec<u8> {
        let mut duration = vec![0x08, seconds, 0x10];
        let mut nanos = millis * 1_000_000;
        while nanos >= 0x80 {
            duration.push(nanos as u8 | 0x80);
            nanos >>= 7;
        }
        duration.push(nanos as u8);
        let mut info = vec![0x0a, duration.len() as u8];
        info.extend(&duration);
        let url = b"type.googleapis.com/google.rpc.RetryInfo";
        let mut any = vec![0x0a, url.len() as u8];
        any.extend(url);
        any.extend([0x12, info.len() as u8]);
        any.extend(&info);
        let mut status = vec![0x08, 8, 0x12, 4];
        status.extend(b"slow");
        status.extend([0x1a, any.len() as u8]);
        status.extend(&any);
        status
    }

    #[test]
    fn retry_info_is_found_among_the_details() {
        let status = status_with_retry_info(2, 500);
        assert_eq!(retry_info(&status), Some(Duration::from_millis(2500)));
        assert_eq!(status_message(&status), Some("slow"));
        assert_eq!(retry_info(&[0x08, 8]), None);
    }

    #[test]
    fn a_partial_success_is_read() {
        let response = [0x0a, 0x06, 0x08, 0x07, 0x12, 0x02, b'n', b'o'];
        let expected = PartialSuccess { rejected: 7, message: "no".into() };
        assert_eq!(partial_success(&response), expected);
        assert_eq!(partial_success(&[]), PartialSuccess::default());
        // minus one
        let mut negative = vec![0x0a, 11, 0x08];
        negative.extend([0xff; 9]);
        negative.push(1);
        assert_eq!(partial_success(&negative).rejected, 0);
    }

    #[test]
    fn a_partial_success_is_read_from_json() {
        for (json, rejected) in [
            (r#"{"partialSuccess":{"rejectedSpans":"7","errorMessage":"no"}}"#, 7),
            (r#"{"partialSuccess":{"rejectedSpans":7,"more":[{}]},"x":1}"#, 7),
            (r#"{"partialSuccess":{"rejectedSpans":"-7"}}"#, 0),
            (r#"{"partialSuccess":null}"#, 0),
            ("{}", 0),
            ("[[[[", 0),
        ] {
            let read = ReplyBody::Json(json.as_bytes()).partial_success();
            assert_eq!(read.rejected, rejected, "{json}");
        }
        let status = ReplyBody::Json(br#"{"code":3,"message":"no","details":[]}"#);
        assert_eq!(status.status_message().as_deref(), Some("no"));
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            partial_success(&bytes);
            retry_info(&bytes);
            status_message(&bytes);
            ReplyBody::Json(&bytes).partial_success();
        }
    }
}
