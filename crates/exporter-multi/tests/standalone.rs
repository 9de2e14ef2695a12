//! The exporter alone, under the stock SDK.

mod support;

use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span, Tracer, TracerProvider};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter};
use prost::Message;
use spanweave_exporter::{Backend, MultiExporter};
use support::{Server, closed_port, ok, status};

#[test]
fn spans_of_the_stock_sdk_are_masked_and_delivered() {
    let server = Server::start(|_, _| ok());
    let exporter =
        MultiExporter::builder().export_to(Backend::otlp_http(server.url())).build().unwrap();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder_empty().with_service_name("shop").build())
        .build();
    let mut span = provider.tracer("lib").start("work");
    span.set_attribute(KeyValue::new("user.password", "hunter2"));
    span.end();
    provider.shutdown().unwrap();
    let received = server.received().remove(0);
    let request = ExportTraceServiceRequest::decode(received.body.as_slice()).unwrap();
    let resource = &request.resource_spans[0];
    let text = format!("{resource:?}");
    assert!(
        text.contains("[masked]") && !text.contains("hunter2") && text.contains("shop"),
        "{text}"
    );
    assert_eq!(resource.scope_spans[0].scope.as_ref().unwrap().name, "lib");
    assert_eq!(resource.scope_spans[0].spans[0].name, "work");
}

#[tokio::test]
async fn a_flush_reports_what_was_lost_and_once_only() {
    let server = Server::start(|number, _| if number == 0 { status(400) } else { ok() });
    let exporter =
        MultiExporter::builder().export_to(Backend::otlp_http(server.url())).build().unwrap();
    exporter.export(vec![support::span(1), support::span(2)]).await.unwrap();
    let error = exporter.force_flush().unwrap_err().to_string();
    assert!(error.contains("2 spans lost") && error.contains("otlp (2 refused)"), "{error}");
    exporter.export(vec![support::span(3)]).await.unwrap();
    exporter.force_flush().unwrap();
    exporter.shutdown().unwrap();
    assert!(matches!(exporter.shutdown(), Err(OTelSdkError::AlreadyShutdown)));
    let late = exporter.export(vec![support::span(4)]).await;
    assert!(matches!(late, Err(OTelSdkError::AlreadyShutdown)));
}

#[test]
fn a_shutdown_with_spans_left_is_an_error() {
    let backend = Backend::otlp_http(format!("http://{}", closed_port()));
    let exporter = MultiExporter::builder().export_to(backend).build().unwrap();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    drop(provider.tracer("lib").start("work"));
    let error = exporter.shutdown_with_timeout(Duration::from_millis(100)).unwrap_err();
    assert!(error.to_string().contains("1 spans lost"), "{error}");
}

#[test]
fn a_malformed_endpoint_is_an_error_at_the_start_that_says_what_to_do() {
    let build = |backend| MultiExporter::builder().export_to(backend).build();
    let error = build(Backend::otlp_grpc("localhost:4317").named("mine")).unwrap_err();
    assert!(error.is_endpoint());
    assert_eq!(
        error.to_string(),
        "backend `mine`: the endpoint `localhost:4317` has no scheme; write it as \
         http://host:port or https://host:port"
    );
    assert!(build(Backend::otlp_http("http://host:1").header("a b", "c")).unwrap_err().is_header());
}

#[test]
fn the_console_is_a_backend_like_others() {
    let exporter = MultiExporter::builder().export_to(Backend::console()).build().unwrap();
    ready_at_once(exporter.export(vec![support::span(1)]));
    exporter.force_flush().unwrap();
    let report = exporter.reports().remove(0);
    assert_eq!(
        (report.name.as_str(), report.kind, report.delivered),
        ("console", "console_span_exporter", 1)
    );
}

#[test]
fn nothing_is_sent_in_clear_where_tls_is_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let backend = Backend::otlp_http(format!("https://{}", listener.local_addr().unwrap()))
        .header("api-key", "canary")
        .timeout(Duration::from_millis(200));
    let exporter = MultiExporter::builder().export_to(backend).build().unwrap();
    ready_at_once(exporter.export(vec![support::span(1)]));
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(seen.first(), Some(&0x16), "a TLS handshake");
    assert!(!seen.windows(6).any(|window| window == b"canary"));
    drop(stream);
    assert_eq!(exporter.reports()[0].delivered, 0);
    exporter.shutdown_with_timeout(Duration::ZERO).unwrap_err();
}

/// Handing over does not wait.
fn ready_at_once(export: impl Future<Output = Result<(), OTelSdkError>>) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(std::pin::pin!(export).poll(&mut context), std::task::Poll::Ready(Ok(()))));
}
