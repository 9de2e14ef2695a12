//! OTLP/gRPC lanes against a tonic server: another implementation of gRPC.

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use spanweave_core::SpanSink;
use spanweave_core::clock::{self, Deadline};
use spanweave_core::ledger::DropReason;
use spanweave_exporter::{Backend, Compression, MultiExporter, RetryPolicy};
use support::{batch, numbers, wait_until};
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

type Answer = Result<ExportTraceServiceResponse, Status>;
/// Metadata, span numbers and time of a request.
type Call = (MetadataMap, Vec<u64>, Instant);
type Script = Arc<dyn Fn(usize) -> Answer + Send + Sync>;

#[derive(Clone)]
struct Service {
    script: Script,
    received: Arc<Mutex<Vec<Call>>>,
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let number = {
            let mut received = self.received.lock().unwrap();
            let entry = (request.metadata().clone(), numbers(request.get_ref()), clock::instant());
            received.push(entry);
            received.len() - 1
        };
        (self.script)(number).map(Response::new)
    }
}

struct Server {
    address: SocketAddr,
    service: Service,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(script: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), script)
    }

    fn start_at(
        address: SocketAddr,
        script: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let service = Service { script: Arc::new(script), received: Arc::default() };
        let server =
            TraceServiceServer::new(service.clone()).accept_compressed(CompressionEncoding::Gzip);
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(server)
                .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
        );
        Self { address, service, _runtime: runtime }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn received(&self) -> Vec<Call> {
        self.service.received.lock().unwrap().clone()
    }
}

fn ok() -> Answer {
    Ok(ExportTraceServiceResponse { partial_success: None })
}

fn exporter(backend: Backend) -> MultiExporter {
    let eager = RetryPolicy::default()
        .initial_delay(Duration::from_millis(2))
        .max_delay(Duration::from_millis(10));
    MultiExporter::builder().export_to(backend.retry(eager)).build().unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

#[test]
fn spans_arrive_plain_and_compressed() {
    for compression in [Compression::None, Compression::Gzip] {
        let server = Server::start(|_| ok());
        let backend =
            Backend::otlp_grpc(server.url()).header("Api-Key", "k").compression(compression);
        let exporter = exporter(backend);
        exporter.accept(batch(0..300));
        exporter.flush(soon());
        exporter.accept(batch(300..301));
        let report = exporter.flush(soon()).remove(0);
        assert_eq!((report.delivered, report.pending), (301, 0), "{report:?}");
        assert_eq!(report.kind, "otlp_grpc_span_exporter");
        let received = server.received();
        assert_eq!((received[0].1.len(), received[1].1.as_slice()), (300, &[301][..]));
        let metadata = &received[0].0;
        assert_eq!(metadata.get("api-key").unwrap(), "k");
        assert!(metadata.get("user-agent").unwrap().to_str().unwrap().starts_with("spanweave/"));
        assert!(metadata.get("grpc-timeout").is_some());
    }
}

#[test]
fn jaeger_without_a_path_is_grpc() {
    let server = Server::start(|_| ok());
    let exporter = exporter(Backend::jaeger(server.url()));
    exporter.accept(batch(0..1));
    let report = exporter.flush(soon()).remove(0);
    assert_eq!((report.name.as_str(), report.delivered), ("jaeger", 1));
}

#[test]
fn each_code_is_tried_again_or_not_as_otlp_says() {
    for number in 1..=16 {
        let code = Code::from_i32(number);
        let server = Server::start(move |request| match request {
            0 => Err(Status::new(code, "because")),
            _ => ok(),
        });
        let exporter = exporter(Backend::otlp_grpc(server.url()));
        exporter.accept(batch(0..2));
        let report = exporter.flush(soon()).remove(0);
        let again = matches!(
            code,
            Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unavailable
                | Code::DataLoss
        );
        let expected = if again { (2, vec![]) } else { (0, vec![(DropReason::Refused, 2)]) };
        assert_eq!((report.delivered, report.dropped), expected, "{code:?}");
        assert_eq!(server.received().len(), if again { 2 } else { 1 });
        let quoted = report.last_error.unwrap().contains("because");
        assert_eq!(quoted, !matches!(code, Code::PermissionDenied | Code::Unauthenticated));
    }
}

#[test]
fn an_exhausted_backend_is_asked_again_only_when_it_says_when() {
    // google.rpc.Status { code: 8, details: [RetryInfo { retry_delay: 200 ms }] }
    let duration = [0x10, 0x80, 0x84, 0xaf, 0x5f];
    let info = [&[0x0a, duration.len() as u8][..], &duration].concat();
    let url = b"type.googleapis.com/google.rpc.RetryInfo";
    let any = [&[0x0a, url.len() as u8][..], url, &[0x12, info.len() as u8], &info].concat();
    let status = [&[0x08, 8, 0x1a, any.len() as u8][..], &any].concat();
    let server = Server::start(move |request| match request {
        0 => Err(Status::with_details(Code::ResourceExhausted, "slow", status.clone().into())),
        _ => ok(),
    });
    let exporter = exporter(Backend::otlp_grpc(server.url()));
    exporter.accept(batch(0..2));
    let report = exporter.flush(soon()).remove(0);
    assert_eq!((report.delivered, report.pending), (2, 0));
    let received = server.received();
    assert!(received[1].2 - received[0].2 >= Duration::from_millis(200));
}

#[test]
fn a_partial_success_is_counted_and_never_resent() {
    let server = Server::start(|_| {
        let partial = ExportTracePartialSuccess { rejected_spans: 3, error_message: "no".into() };
        Ok(ExportTraceServiceResponse { partial_success: Some(partial) })
    });
    let exporter = exporter(Backend::otlp_grpc(server.url()));
    exporter.accept(batch(0..10));
    let report = exporter.flush(soon()).remove(0);
    assert_eq!((report.delivered, report.dropped), (7, vec![(DropReason::Rejected, 3)]));
    assert_eq!(server.received().len(), 1);
}

#[test]
fn a_server_that_comes_back_gets_what_it_missed() {
    let server = Server::start(|_| ok());
    let address = server.address;
    let exporter = exporter(Backend::otlp_grpc(server.url()));
    exporter.accept(batch(0..1));
    exporter.flush(soon());
    drop(server);
    exporter.accept(batch(1..2));
    wait_until("it fails", || exporter.reports()[0].down_since.is_some());
    let back = Server::start_at(address, |_| ok());
    let report = exporter.flush(soon()).remove(0);
    assert_eq!((report.delivered, report.pending, report.down_since), (2, 0, None));
    assert_eq!(back.received()[0].1, [2]);
}

#[test]
fn batches_over_the_usual_message_limit_are_sent_in_several_requests() {
    let server = Server::start(|_| ok());
    let exporter = exporter(Backend::otlp_grpc(server.url()));
    exporter.accept(support::wide_batch(0..12, 1024 * 1024));
    let report = exporter.flush(soon()).remove(0);
    assert_eq!((report.delivered, report.dropped_total()), (12, 0), "{report:?}");
    let received = server.received();
    assert_eq!(received.iter().map(|(_, spans, _)| spans.len()).collect::<Vec<_>>(), [3, 3, 3, 3]);
}
