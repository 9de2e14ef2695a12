//! The three services, and the frame in which each of them runs: telemetry, a server, and the
//! parent's commands.

mod error;

mod gateway;
mod orders;
mod users;

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use spanweave::db::SqlxQueries;
use spanweave::http::client::HttpClient;
use spanweave::http::server::HttpServerLayer;
use spanweave::{Backend, BackendReport, BatchConfig, FileFormat, Metrics, Telemetry};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::protocol::{BackendLine, Command, Report, Service, ServiceConfig};
use error::ApiError;

/// How long a flush may take; a backend that is down takes all of it.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// So many flushes wait for backends that are slow and not down.
const FLUSHES: u32 = 10;

/// How much longer backends that are down are waited for.
const DOWN_TIME: Duration = Duration::from_millis(500);

/// How long requests may take that are under way when the service is told to stop.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Spans above this are logged; the payment that times out and some reports are.
const SLOW: Duration = Duration::from_millis(200);

/// Short, so that the live page is up to date.
const BATCH_DELAY: Duration = Duration::from_secs(1);

type BoxError = Box<dyn Error + Send + Sync>;

/// The process of one service.
pub(crate) fn main(service: Service) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            crate::progress(&format!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        let result = serve(service).await;
        if let Err(error) = &result {
            // If the parent is gone, nobody wants to know.
            tell(Report::Failed { error: with_sources(error.as_ref()) }).await.ok();
        }
        result
    });
    // A read of standard input may be under way, which cannot be cancelled.
    runtime.shutdown_background();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn serve(service: Service) -> Result<(), BoxError> {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let config = input.next_line().await?.ok_or("no configuration on standard input")?;
    let config: ServiceConfig = serde_json::from_str(&config)?;

    let telemetry = telemetry(service, &config)?;
    let app = match service {
        Service::Users => users::app(&config).await?,
        Service::Orders => orders::app(&config).await?,
        Service::Gateway => gateway::app(&config)?,
    };
    let server = Server::start(app).await?;
    let metrics = telemetry
        .metrics_address()
        .ok_or("/metrics is not served: OTEL_SDK_DISABLED turns off what the shop shows")?;
    tell(Report::Ready { address: server.address, metrics }).await?;
    tracing::info!(address = %server.address, %metrics, "ready");

    let result = obey(input, server, &telemetry).await;
    let ledger = shut_down(&telemetry).await;
    result?;
    tell(Report::Ledger(ledger)).await?;
    Ok(())
}

/// Delivers what is left: patiently, but not to backends that are down.
async fn shut_down(telemetry: &Telemetry) -> Vec<BackendLine> {
    let slow = |backend: &BackendReport| backend.pending > 0 && backend.down_since.is_none();
    for _ in 0..FLUSHES {
        let flushed = telemetry.flush_async(FLUSH_TIME).await;
        if !flushed.backends.iter().any(slow) {
            break;
        }
    }
    telemetry.shutdown_async(DOWN_TIME).await.backends.iter().map(line).collect()
}

/// All that a service does for its telemetry.
fn telemetry(service: Service, config: &ServiceConfig) -> Result<Telemetry, spanweave::Error> {
    let name = service.name();
    let spans = config.out.join(format!("{name}.spans.jsonl"));
    let builder = spanweave::builder()
        .service_name(name)
        .resource_attribute("service.version", env!("CARGO_PKG_VERSION"))
        .resource_attribute("deployment.environment.name", "demo")
        .export_to(Backend::otlp_grpc(&config.collector_grpc).named("collector-grpc"))
        .export_to(Backend::otlp_http(&config.collector_http).named("collector-http"))
        .export_to(Backend::file(config.out.join(format!("{name}.jsonl"))).named("file"))
        .export_to(Backend::file(spans).format(FileFormat::Spans).named("spans-file"))
        .batch(BatchConfig { delay: BATCH_DELAY, ..BatchConfig::default() })
        .metrics(Metrics::default().serve((Ipv4Addr::LOCALHOST, 0)))
        .log_spans_longer_than(SLOW);
    // sqlx's events do not tell which database it is.
    let builder = match config.database_url {
        Some(_) => builder.event_spans(SqlxQueries::new().system("postgresql")),
        None => builder,
    };
    let otlp = config.otlp.iter().map(|url| otlp(url));
    let jaeger = config.jaeger.iter().map(Backend::jaeger);
    otlp.chain(jaeger).fold(builder, spanweave::Builder::export_to).install()
}

/// `grpc://` and `grpcs://` are OTLP/gRPC, as is the port that OTLP has for it.
fn otlp(url: &str) -> Backend {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    match scheme {
        "grpc" => Backend::otlp_grpc(format!("http://{rest}")),
        "grpcs" => Backend::otlp_grpc(format!("https://{rest}")),
        _ if rest.trim_end_matches('/').ends_with(":4317") => Backend::otlp_grpc(url),
        _ => Backend::otlp_http(url),
    }
}

/// Does what the parent says until it says no more.
async fn obey(
    mut input: Lines<BufReader<Stdin>>,
    server: Server,
    telemetry: &Telemetry,
) -> Result<(), BoxError> {
    let mut server = Some(server);
    while let Some(command) = input.next_line().await? {
        match serde_json::from_str(&command)? {
            Command::Flush => {
                let report = telemetry.flush_async(FLUSH_TIME).await;
                tell(Report::Ledger(report.backends.iter().map(line).collect())).await?;
            }
            Command::Drain => {
                if let Some(server) = server.take() {
                    server.drain().await?;
                }
                tell(Report::Drained).await?;
            }
        }
    }
    if let Some(server) = server.take() {
        server.drain().await?;
    }
    Ok(())
}

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Serves `app` on a free port of loopback, each request with a span.
    async fn start(app: Router) -> io::Result<Self> {
        let app = app
            .fallback(|| async { ApiError::not_found("no such page") })
            .layer(HttpServerLayer::new())
            .into_make_service_with_connect_info::<SocketAddr>();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            // A sender that is dropped stops it too.
            let stopped = async { stopped.await.unwrap_or_default() };
            axum::serve(listener, app).with_graceful_shutdown(stopped).await
        });
        Ok(Self { address, stop, task })
    }

    async fn drain(self) -> Result<(), BoxError> {
        drop(self.stop);
        match tokio::time::timeout(DRAIN_TIME, self.task).await {
            Ok(served) => Ok(served??),
            Err(_) => {
                tracing::warn!("requests were still under way at the end");
                Ok(())
            }
        }
    }
}

/// The client for calls from service to service, which are all on loopback.
fn client() -> reqwest::Result<HttpClient> {
    let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20));
    HttpClient::build(builder)
}

fn line(report: &BackendReport) -> BackendLine {
    BackendLine {
        name: report.name.clone(),
        delivered: report.delivered,
        dropped: report.dropped_total(),
        pending: report.pending,
        last_error: report.last_error.clone(),
    }
}

async fn tell(report: Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(&report)?;
    line.push(b'\n');
    let mut output = tokio::io::stdout();
    output.write_all(&line).await?;
    output.flush().await
}

fn with_sources(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let said = error.to_string();
        // Some errors say what their source says.
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_says_which_transport_is_meant() {
        let table = [
            ("http://127.0.0.1:1", "otlp_http(http://127.0.0.1:1)"),
            ("http://127.0.0.1:4318/", "otlp_http(http://127.0.0.1:4318/)"),
            ("http://127.0.0.1:4317", "otlp_grpc(http://127.0.0.1:4317)"),
            ("grpc://127.0.0.1:1", "otlp_grpc(http://127.0.0.1:1)"),
            ("grpcs://127.0.0.1:1", "otlp_grpc(https://127.0.0.1:1)"),
        ];
        for (url, expected) in table {
            let shown = format!("{:?}", otlp(url));
            assert!(shown.contains(expected), "{shown}");
        }
    }
}
