//! OTLP/HTTP on axum: `POST /v1/traces`, protobuf or JSON, gzip.

use std::io::Read;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

use super::intake::{Intake, Reply};
use super::verdict::{http_of_grpc, whole_seconds};
use crate::model::Transport;

pub(super) fn router(intake: Arc<Intake>) -> Router {
    Router::new().route("/v1/traces", post(export)).with_state(intake)
}

async fn export(State(intake): State<Arc<Intake>>, headers: HeaderMap, body: Body) -> Response {
    let format = match Format::of(&headers) {
        Ok(format) => format,
        // The answer to an unknown type is written in the default encoding.
        Err(refusal) => return refuse(&intake, Format::Protobuf, refusal),
    };
    match read_message(format, &headers, body, intake.max_message_bytes).await {
        Ok((message, bytes)) => {
            let reply = intake.take(message, format.transport(), &headers, bytes).await;
            respond(format, reply)
        }
        Err(refusal) => refuse(&intake, format, refusal),
    }
}

fn refuse(intake: &Intake, format: Format, refusal: Refusal) -> Response {
    intake.count_malformed();
    format.status(refusal.status, refusal.code, refusal.message)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Protobuf,
    Json,
}

#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    code: tonic::Code,
    message: String,
}

impl Refusal {
    fn unsupported(message: &str) -> Self {
        Self {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            code: tonic::Code::InvalidArgument,
            message: message.to_owned(),
        }
    }

    fn bad(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: tonic::Code::InvalidArgument, message }
    }

    fn too_large(limit: usize) -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            code: tonic::Code::OutOfRange,
            message: format!("the message is larger than {limit} bytes"),
        }
    }
}

impl Format {
    /// By the media type alone; parameters such as a charset are ignored.
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let value =
            headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = value.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/x-protobuf") {
            Ok(Self::Protobuf)
        } else if media_type.eq_ignore_ascii_case("application/json") {
            Ok(Self::Json)
        } else {
            Err(Refusal::unsupported(
                "content-type has to be application/x-protobuf or application/json",
            ))
        }
    }

    fn transport(self) -> Transport {
        match self {
            Self::Protobuf => Transport::HttpProtobuf,
            Self::Json => Transport::HttpJson,
        }
    }

    fn decode(self, bytes: &[u8]) -> Result<ExportTraceServiceRequest, Refusal> {
        match self {
            Self::Protobuf => ExportTraceServiceRequest::decode(bytes)
                .map_err(|error| Refusal::bad(format!("not a trace export request: {error}"))),
            Self::Json => serde_json::from_slice(bytes)
                .map_err(|error| Refusal::bad(format!("not a trace export request: {error}"))),
        }
    }

    fn success(self, message: &ExportTraceServiceResponse) -> Response {
        let body = match self {
            Self::Protobuf => message.encode_to_vec(),
            Self::Json => match &message.partial_success {
                Some(partial) => serde_json::json!({ "partialSuccess": {
                    // 64-bit integers are strings in OTLP JSON.
                    "rejectedSpans": partial.rejected_spans.to_string(),
                    "errorMessage": partial.error_message,
                }})
                .to_string()
                .into_bytes(),
                None => b"{}".to_vec(),
            },
        };
        self.response(StatusCode::OK, body)
    }

    /// An error with a `google.rpc.Status` as its body, as OTLP/HTTP asks for.
    fn status(self, status: StatusCode, code: tonic::Code, message: String) -> Response {
        let body = match self {
            Self::Protobuf => {
                tonic_types::Status { code: code as i32, message, details: Vec::new() }
                    .encode_to_vec()
            }
            Self::Json => serde_json::json!({ "code": code as i32, "message": message })
                .to_string()
                .into_bytes(),
        };
        self.response(status, body)
    }

    fn response(self, status: StatusCode, body: Vec<u8>) -> Response {
        let content_type = match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

async fn read_message(
    format: Format,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<(ExportTraceServiceRequest, usize), Refusal> {
    let encoding = headers
        .get(CONTENT_ENCODING)
        .map_or(Some("identity"), |value| value.to_str().ok())
        .map(str::trim);
    let gzip = match encoding {
        Some(name) if name.eq_ignore_ascii_case("gzip") => true,
        Some(name) if name.is_empty() || name.eq_ignore_ascii_case("identity") => false,
        _ => {
            return Err(Refusal::unsupported("content-encoding has to be gzip or identity"));
        }
    };
    if announced_length(headers).is_some_and(|length| length > limit as u64) {
        return Err(Refusal::too_large(limit));
    }
    let bytes = to_bytes(body, limit).await.map_err(|error| {
        let cause = std::error::Error::source(&error);
        if cause.is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>()) {
            Refusal::too_large(limit)
        } else {
            Refusal::bad("the body ended early".to_owned())
        }
    })?;
    let bytes = if gzip { gunzip(&bytes, limit)? } else { bytes };
    Ok((format.decode(&bytes)?, bytes.len()))
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Never holds more than `limit` and a byte, whatever the input promises.
fn gunzip(compressed: &[u8], limit: usize) -> Result<Bytes, Refusal> {
    let mut bytes = Vec::new();
    let most = (limit as u64).saturating_add(1);
    MultiGzDecoder::new(compressed)
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| Refusal::bad(format!("not gzip: {error}")))?;
    if bytes.len() > limit {
        return Err(Refusal::too_large(limit));
    }
    Ok(bytes.into())
}

fn respond(format: Format, reply: Reply) -> Response {
    match reply {
        Reply::Success(message) => format.success(&message),
        Reply::Grpc { code, message, retry_after } => {
            let status = status_code(http_of_grpc(code));
            let mut response = if code == tonic::Code::Ok {
                format.success(&ExportTraceServiceResponse::default())
            } else {
                format.status(status, code, message)
            };
            if let Some(wait) = retry_after {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
            }
            response
        }
        Reply::Http { status, headers, body } => {
            let mut response = format.response(status_code(status), body);
            for (name, value) in headers {
                if let (Ok(name), Ok(value)) =
                    (HeaderName::try_from(name), HeaderValue::try_from(value))
                {
                    response.headers_mut().insert(name, value);
                }
            }
            response
        }
    }
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn the_media_type_decides_and_parameters_do_not() {
        let of = |value: &'static str| {
            Format::of(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]))
        };
        assert_eq!(of("application/x-protobuf"), Ok(Format::Protobuf));
        assert_eq!(of("Application/JSON; charset=utf-8"), Ok(Format::Json));
        for bad in ["", "text/plain", "application/json2", "application/protobuf"] {
            assert_eq!(
                of(bad).map_err(|refusal| refusal.status),
                Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
                "{bad}"
            );
        }
        assert!(Format::of(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_gzip_bomb_stops_at_the_limit() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 4096);
        assert_eq!(gunzip(&bomb, 1 << 20).unwrap().len(), 1 << 20);
        assert_eq!(gunzip(&bomb, (1 << 20) - 1).unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(gunzip(b"plain", 100).unwrap_err().status, StatusCode::BAD_REQUEST);
    }
}
