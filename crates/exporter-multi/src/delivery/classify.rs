//! The OTLP table: which answers deliver, which are tried again, which are final.

use std::time::Duration;

use super::response::{self, ReplyBody};
use super::retry_after::LONGEST_WAIT;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It arrived; never send it again. `rejected` of its spans were refused for good.
    Delivered {
        rejected: u64,
        /// What the backend had to say about it; empty if nothing.
        message: String,
    },
    /// Send it again, not before `after` if that is given.
    Retry { after: Option<Duration> },
    /// Send it in smaller pieces.
    Split,
    /// Never send it again.
    Refused,
}

/// An answer over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct HttpReply<'a> {
    pub(crate) status: u16,
    /// The `Retry-After` header, understood.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: ReplyBody<'a>,
}

/// An answer over gRPC.
#[derive(Clone, Debug)]
pub(crate) struct GrpcReply<'a> {
    pub(crate) code: u32,
    /// `grpc-status-details-bin`, decoded; else empty.
    pub(crate) details: &'a [u8],
    /// The response message; empty if there was none.
    pub(crate) message: &'a [u8],
}

/// OTLP/HTTP: 2xx delivers, 429, 502, 503 and 504 are tried again, 413 is split, all others are
/// final.
pub(crate) fn http(reply: &HttpReply<'_>) -> Verdict {
    match reply.status {
        200..300 => delivered(reply.body),
        413 => Verdict::Split,
        429 | 502 | 503 | 504 => Verdict::Retry {
            after: reply.retry_after.or_else(|| positive(reply.body.retry_info())),
        },
        _ => Verdict::Refused,
    }
}

/// OTLP/gRPC: CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE and DATA_LOSS are
/// tried again, RESOURCE_EXHAUSTED only if it comes with a RetryInfo, all others are final.
pub(crate) fn grpc(reply: &GrpcReply<'_>) -> Verdict {
    let retry_info = response::retry_info(reply.details);
    match reply.code {
        0 => delivered(ReplyBody::Protobuf(reply.message)),
        1 | 4 | 10 | 11 | 14 | 15 => Verdict::Retry { after: positive(retry_info) },
        8 if retry_info.is_some() => Verdict::Retry { after: positive(retry_info) },
        _ => Verdict::Refused,
    }
}

/// A delay of zero names no time; the backoff decides.
fn positive(delay: Option<Duration>) -> Option<Duration> {
    delay.filter(|delay| !delay.is_zero()).map(|delay| delay.min(LONGEST_WAIT))
}

fn delivered(body: ReplyBody<'_>) -> Verdict {
    let partial = body.partial_success();
    Verdict::Delivered { rejected: partial.rejected, message: partial.message }
}

#[cfg(test)]
mod tests {
    use super::super::response::tests::status_with_retry_info;
    use super::*;

    fn http_status(status: u16) -> Verdict {
        http(&HttpReply { status, retry_after: None, body: ReplyBody::Unknown })
    }

    #[test]
    fn http_statuses_follow_the_otlp_table_exactly() {
        for status in 100..=599 {
            let expected = match status {
                200..=299 => Verdict::Delivered { rejected: 0, message: String::new() },
                413 => Verdict::Split,
                429 | 502 | 503 | 504 => Verdict::Retry { after: None },
                _ => Verdict::Refused,
            };
            assert_eq!(http_status(status), expected, "{status}");
        }
    }

    #[test]
    fn grpc_codes_follow_the_otlp_table_exactly() {
        let retried = [1, 4, 10, 11, 14, 15];
        let with_info = status_with_retry_info(2, 0);
        for code in 0..=17 {
            let bare = grpc(&GrpcReply { code, details: &[], message: &[] });
            let informed = grpc(&GrpcReply { code, details: &with_info, message: &[] });
            let two = Verdict::Retry { after: Some(Duration::from_secs(2)) };
            if code == 0 {
                assert!(matches!(bare, Verdict::Delivered { rejected: 0, .. }));
            } else if retried.contains(&code) {
                assert_eq!((bare, informed), (Verdict::Retry { after: None }, two), "{code}");
            } else if code == 8 {
                assert_eq!((bare, informed), (Verdict::Refused, two));
            } else {
                assert_eq!((bare, informed), (Verdict::Refused, Verdict::Refused), "{code}");
            }
        }
    }

    #[test]
    fn the_time_that_a_backend_names_is_kept_and_capped() {
        let named = http(&HttpReply {
            status: 503,
            retry_after: Some(Duration::from_secs(2)),
            body: ReplyBody::Protobuf(&status_with_retry_info(9, 0)),
        });
        assert_eq!(named, Verdict::Retry { after: Some(Duration::from_secs(2)) });
        let info = http(&HttpReply {
            status: 429,
            retry_after: None,
            body: ReplyBody::Protobuf(&status_with_retry_info(9, 0)),
        });
        assert_eq!(info, Verdict::Retry { after: Some(Duration::from_secs(9)) });
    }

    #[test]
    fn partial_success_is_a_delivery() {
        let body = [0x0a, 0x02, 0x08, 0x03];
        let expected = Verdict::Delivered { rejected: 3, message: String::new() };
        assert_eq!(
            http(&HttpReply { status: 200, retry_after: None, body: ReplyBody::Protobuf(&body) }),
            expected
        );
        assert_eq!(grpc(&GrpcReply { code: 0, details: &[], message: &body }), expected);
    }
}
