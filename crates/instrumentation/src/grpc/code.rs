//! Status codes: their names, and which of them are errors.

use http::{HeaderMap, StatusCode};
use tonic::Code;

use super::call::Side;

/// The code in headers or trailers.
pub(super) fn in_headers(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get("grpc-status")?.as_bytes()))
}

/// The code that stands for an HTTP status without one (gRPC's own table).
pub(super) fn of_http(status: StatusCode) -> Option<Code> {
    Some(match status.as_u16() {
        200 => return None,
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    })
}

pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// By the semantic conventions.
pub(super) fn is_error(code: Code, side: Side) -> bool {
    match side {
        Side::Client => code != Code::Ok,
        Side::Server => matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_name_and_the_callers_mistakes_are_no_errors_of_a_server() {
        let mut errors = Vec::new();
        for number in 0..=16 {
            let code = Code::from(number);
            assert_eq!(code as i32, number);
            let plain = format!("{code:?}").to_uppercase();
            assert_eq!(name(code).replace('_', ""), plain);
            assert_eq!(is_error(code, Side::Client), number != 0);
            if is_error(code, Side::Server) {
                errors.push(number);
            }
        }
        assert_eq!(errors, [2, 4, 12, 13, 14, 15]);
    }

    #[test]
    fn a_response_that_is_not_grpcs_has_a_code_too() {
        assert_eq!(of_http(StatusCode::OK), None);
        assert_eq!(of_http(StatusCode::BAD_GATEWAY), Some(Code::Unavailable));
        assert_eq!(of_http(StatusCode::IM_A_TEAPOT), Some(Code::Unknown));
        assert_eq!(in_headers(&HeaderMap::new()), None);
    }
}
