//! Real Python and Node services in the middle of one trace, with each format of propagation, seen
//! from the collector's side.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::{Context, KeyValue};
use serde_json::Value;
use spanweave::http::client::HttpClient;
use spanweave::http::server::HttpServerLayer;
use spanweave::propagation::{self, Propagator};
use spanweave::{Backend, SpanExt};
use spanweave_testkit::PATIENCE;
use spanweave_tests::{Receiver, Running, alone, command, script, shared, workspace};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

/// A service in another language. It ends when it is dropped.
struct Peer {
    _process: Running,
    port: u64,
}

impl Peer {
    #[track_caller]
    fn start(mut command: Command, formats: &str, receiver: &Receiver) -> Self {
        command
            .arg(format!("{}/v1/traces", receiver.http_endpoint()))
            .env("OTEL_PROPAGATORS", formats)
            .current_dir(workspace());
        let mut process = Running::start(command);
        let port = process.json(PATIENCE)["port"].as_u64().unwrap();
        Self { _process: process, port }
    }

    /// The URL at which it calls `next` in turn.
    fn calling(&self, next: &str) -> String {
        format!("http://127.0.0.1:{}/call?url={next}", self.port)
    }
}

fn flask() -> Command {
    let python = workspace().join("target/test-env/interop/bin/python");
    assert!(python.is_file(), "{} is missing: run ./scripts/test", python.display());
    let mut command = command(python);
    command.arg("-B").arg("scripts/interop/flask_service.py");
    command
}

fn node() -> Command {
    let packages = workspace().join("target/test-env/node/node_modules");
    assert!(packages.is_dir(), "{} is missing: run ./scripts/test", packages.display());
    let mut command = command("node");
    command.arg("scripts/interop/node_service.mjs");
    command
}

/// The last of the chain, in Rust: answers with the baggage that came in.
async fn end() -> SocketAddr {
    let app = Router::new()
        .route(
            "/end",
            get(|| async {
                Context::map_current(|cx| {
                    cx.baggage().get("user").map(ToString::to_string).unwrap_or_default()
                })
            }),
        )
        .layer(HttpServerLayer::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Percent-encodes what a URL in a query needs.
fn encoded(url: &str) -> String {
    url.replace('%', "%25").replace('&', "%26").replace('?', "%3F").replace('=', "%3D")
}

/// Rust, Python and Node (or Node and Python), and Rust again, under one format.
fn chain(formats: &'static str, carries_baggage: bool, python_first: bool) {
    let receiver = Receiver::start();
    let (flask, node) =
        (Peer::start(flask(), formats, &receiver), Peer::start(node(), formats, &receiver));
    let propagators = || formats.split(',').filter_map(Propagator::from_name);
    propagation::set_active(propagation::Active::new(propagation::Propagators::new(propagators())));

    let (layer, telemetry) = spanweave::builder()
        .service_name("rust")
        .export_to(Backend::otlp_http(receiver.http_endpoint()))
        .build()
        .unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let end = format!("http://{}/end", end().await);
            let (first, second) = if python_first { (&flask, &node) } else { (&node, &flask) };
            let url = first.calling(&encoded(&second.calling(&encoded(&end))));
            let span = tracing::info_span!("start");
            // No space: the SDK of Python writes a plus for it, which by the specification is a plus.
            let baggage = Context::new().with_baggage([KeyValue::new("user", "ü;1")]);
            span.set_parent(baggage).unwrap();
            let call = async { HttpClient::new().get(url).send().await.unwrap().text().await };
            call.instrument(span).await.unwrap()
        })
    });
    assert_eq!(answer, if carries_baggage { "ü;1" } else { "" }, "{formats}");
    assert!(telemetry.shutdown(PATIENCE).is_complete());

    // start, then a client and a server for each of three calls.
    let spans = receiver.wait_for_spans(7);
    let field = |span: &Value, name: &str| span[name].as_str().unwrap_or_default().to_owned();
    let mut current = spans.iter().find(|span| span["name"] == "start").unwrap();
    let trace = field(current, "trace_id");
    let mut way = Vec::new();
    for _ in 0..6 {
        let id = field(current, "span_id");
        current = spans
            .iter()
            .find(|span| field(span, "parent") == id)
            .unwrap_or_else(|| panic!("{formats}: no child of {current} in {spans:#?}"));
        assert_eq!(field(current, "trace_id"), trace, "{formats}");
        way.push(format!("{} {}", field(current, "service"), field(current, "kind")));
    }
    let (first, second) = if python_first { ("flask", "node") } else { ("node", "flask") };
    let expected = [
        "rust client".to_owned(),
        format!("{first} server"),
        format!("{first} client"),
        format!("{second} server"),
        format!("{second} client"),
        "rust server".to_owned(),
    ];
    assert_eq!(way, expected, "{formats}");
    assert_eq!(spans.len(), 7, "{formats}");
}

// One test: what propagates is a choice of the process.
#[test]
fn python_and_node_are_links_of_one_trace_in_every_format() {
    let _machine = shared();
    for (formats, carries_baggage) in [
        ("tracecontext,baggage", true),
        ("b3", false),
        ("b3multi", false),
        ("jaeger", true),
        ("b3,baggage", true),
    ] {
        chain(formats, carries_baggage, true);
        chain(formats, carries_baggage, false);
    }
}

#[test]
fn ten_thousand_requests_at_a_time_lose_nothing_and_hold_little() {
    const REQUESTS: usize = 10_000;
    allow_open_files(REQUESTS + 1000);
    let _machine = alone();
    let (spans, _guard) =
        spanweave::testing::capture_with(|builder| builder.span_filter("info,hyper=off"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let most = runtime.block_on(async {
        let waiting = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Semaphore::new(0));
        let (held, count) = (gate.clone(), waiting.clone());
        let handler = move || {
            let (held, count) = (held.clone(), count.clone());
            async move {
                count.fetch_add(1, Ordering::Relaxed);
                drop(held.acquire().await);
                "done"
            }
        };
        let app = Router::new().route("/wait", get(handler)).layer(HttpServerLayer::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });

        let before = resident();
        let mut clients = script("interop/clients.py");
        clients.args([address.port().to_string(), REQUESTS.to_string()]);
        let clients = Running::start(clients);
        while waiting.load(Ordering::Relaxed) < REQUESTS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let most = resident().saturating_sub(before);
        gate.add_permits(REQUESTS);
        let answers = tokio::task::spawn_blocking(|| clients.finish(PATIENCE).successful());
        assert_eq!(answers.await.unwrap().stdout, [REQUESTS.to_string()]);
        most
    });
    let finished = spans.finished();
    assert_eq!(finished.len(), REQUESTS);
    assert!(finished.iter().all(|span| span.name == "GET /wait"));
    // Connection, request and span, with their buffers.
    let each = most / REQUESTS;
    assert!(each < 64 * 1024, "{each} bytes for each open request");
}

fn allow_open_files(files: usize) {
    let raised = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), &format!("--nofile={files}:")])
        .status();
    assert!(raised.is_ok_and(|status| status.success()), "{files} open files are not allowed");
}

/// Bytes of memory that this process holds.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
