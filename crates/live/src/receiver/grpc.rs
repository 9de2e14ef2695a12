//! OTLP/gRPC on tonic.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::intake::{Intake, Reply};
use super::verdict::grpc_of_http;
use crate::model::Transport;

pub(super) fn service(intake: Arc<Intake>) -> TraceServiceServer<impl TraceService> {
    let limit = intake.max_message_bytes;
    TraceServiceServer::new(Service(intake))
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(limit)
}

struct Service(Arc<Intake>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let bytes = message.encoded_len();
        let headers = metadata.into_headers();
        let reply = self.0.take(message, Transport::Grpc, &headers, bytes).await;
        match reply {
            Reply::Success(response) => Ok(Response::new(response)),
            Reply::Http { status, .. } => match grpc_of_http(status) {
                tonic::Code::Ok => Ok(Response::new(ExportTraceServiceResponse::default())),
                code => Err(Status::new(code, format!("HTTP status {status}"))),
            },
            Reply::Grpc { code: tonic::Code::Ok, .. } => {
                Ok(Response::new(ExportTraceServiceResponse::default()))
            }
            Reply::Grpc { code, message, retry_after: None } => Err(Status::new(code, message)),
            Reply::Grpc { code, message, retry_after } => Err(Status::with_error_details(
                code,
                message,
                ErrorDetails::with_retry_info(retry_after),
            )),
        }
    }
}
