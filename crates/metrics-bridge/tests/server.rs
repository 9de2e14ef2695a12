//! `/metrics` over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use spanweave_core::clock;
use spanweave_metrics::{Metrics, MetricsServer, SpanMetrics};

fn metrics() -> Arc<SpanMetrics> {
    SpanMetrics::new(Metrics::default(), "shop", Arc::default(), Arc::default())
}

fn server() -> MetricsServer {
    MetricsServer::start("127.0.0.1:0", metrics()).unwrap()
}

fn exchange(address: SocketAddr, request: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_ascii_lowercase();
    (head, answer[end + 4..].to_vec())
}

fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> (String, Vec<u8>) {
    exchange(
        address,
        &format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n"),
    )
}

fn length(head: &str) -> usize {
    let line = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    line.parse().unwrap()
}

#[test]
fn the_format_follows_the_accept_header() {
    let server = server();
    let (head, body) = ask(server.address(), "GET", "/metrics", "");
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(!body.ends_with(b"# EOF\n") && body.ends_with(b"\n"));
    let accept =
        "accept: application/openmetrics-text;version=1.0.0;q=0.9\r\naccept: */*;q=0.1\r\n";
    let (head, body) = ask(server.address(), "GET", "/metrics?x=y", accept);
    let expected = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.contains(expected), "{head}");
    assert!(body.ends_with(b"# EOF\n"));
}

#[test]
fn head_has_the_length_and_no_body() {
    let server = server();
    let (head, body) = ask(server.address(), "HEAD", "/metrics", "");
    assert!(head.starts_with("http/1.1 200 ok") && body.is_empty(), "{head}");
    let (_, full) = ask(server.address(), "GET", "/metrics", "");
    // Figures of the process have changed in between, so some digits come and go.
    assert!(length(&head).abs_diff(full.len()) < 100, "{head}");
}

#[test]
fn a_client_that_takes_gzip_gets_it() {
    let server = server();
    let (head, body) = ask(server.address(), "GET", "/metrics", "accept-encoding: gzip\r\n");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(body.as_slice()).read_to_string(&mut text).unwrap();
    assert!(text.contains("# TYPE spanweave_metrics_series gauge\n"), "{text}");
}

#[test]
fn health_says_which_backend_is_down_and_since_when() {
    let ledger = Arc::new(spanweave_core::ledger::Ledger::new());
    let (up, down) = (ledger.open("up", "file"), ledger.open("down", "file"));
    up.deliver(1);
    down.fail("refused");
    let metrics = SpanMetrics::new(Metrics::default(), "shop", Arc::default(), ledger);
    let server = MetricsServer::start("127.0.0.1:0", metrics).unwrap();
    let (head, body) = ask(server.address(), "GET", "/healthz", "");
    assert!(head.starts_with("http/1.1 200"), "a process that runs is alive: {head}");
    let body = String::from_utf8(body).unwrap();
    let begin =
        r#"{"status":"degraded","backends":[{"name":"up","up":true,"down_since_unix":null},"#;
    assert!(body.starts_with(begin), "{body}");
    assert!(body.contains(r#"{"name":"down","up":false,"down_since_unix":1"#), "{body}");
}

#[test]
fn health_is_small_json_and_everything_else_is_refused() {
    let server = server();
    let (head, body) = ask(server.address(), "GET", "/healthz", "");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(body, br#"{"status":"ok","backends":[]}"#);
    assert!(ask(server.address(), "GET", "/", "").0.starts_with("http/1.1 404"));
    let (head, _) = ask(server.address(), "POST", "/metrics", "content-length: 0\r\n");
    assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head"), "{head}");
}

#[test]
fn metrics_behind_a_token_are_shown_only_to_those_who_have_it() {
    let settings = Metrics::default().bearer_token("s3cret");
    assert!(!format!("{settings:?}").contains("s3cret"));
    let metrics = SpanMetrics::new(settings, "shop", Arc::default(), Arc::default());
    let server = MetricsServer::start("127.0.0.1:0", metrics).unwrap();
    for refused in [
        "",
        "authorization: Bearer s3cre\r\n",
        "authorization: Basic s3cret\r\n",
        "authorization: é\r\n",
    ] {
        let (head, body) = ask(server.address(), "GET", "/metrics", refused);
        assert!(head.starts_with("http/1.1 401") && head.contains("www-authenticate: bearer"));
        assert!(!body.starts_with(b"#"));
    }
    let (head, _) = ask(server.address(), "GET", "/metrics", "authorization: bearer s3cret\r\n");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(ask(server.address(), "GET", "/healthz", "").0.starts_with("http/1.1 200"));
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let server = server();
    let header = format!("x: {}\r\n", "x".repeat(10_000));
    let (head, _) = ask(server.address(), "GET", "/metrics", &header);
    assert!(head.starts_with("http/1.1 431"), "{head}");
}

#[test]
fn slow_clients_are_cut_and_make_room() {
    let server = server();
    // More clients that send half a head than there are places for.
    let slow: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: ").unwrap();
            stream
        })
        .collect();
    let start = clock::instant();
    let (head, _) = ask(server.address(), "GET", "/metrics", "");
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    for mut stream in slow {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut answer = Vec::new();
        // Closed, with or without an answer; a reset counts as well.
        if stream.read_to_end(&mut answer).is_ok() {
            assert!(!answer.starts_with(b"HTTP/1.1 200"));
        }
    }
    assert!(start.elapsed() < Duration::from_secs(45), "{:?}", start.elapsed());
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = MetricsServer::start(address, metrics()).unwrap_err();
    assert!(error.is_address_in_use());
    let text = error.to_string();
    assert!(text.contains(&address.to_string()) && text.contains("in use"), "{text}");
    assert!(std::error::Error::source(&error).is_some());
    let error = MetricsServer::start("nonsense", metrics()).unwrap_err();
    assert!(!error.is_address_in_use() && error.to_string().contains("nonsense"), "{error}");
}

#[test]
fn after_a_shutdown_the_port_is_free_again() {
    let server = server();
    let address = server.address();
    let _idle = TcpStream::connect(address).unwrap();
    server.shutdown();
    server.shutdown();
    drop(MetricsServer::start(address, metrics()).unwrap());
}

#[test]
fn the_service_answers_in_a_server_of_the_applications_own() {
    let settings = Metrics::default().bearer_token("s3cret");
    let metrics = SpanMetrics::new(settings, "shop", Arc::default(), Arc::default());
    let own = axum::Router::new()
        .route("/", axum::routing::get(|| async { "the application's own" }))
        .route_service("/internal/numbers", metrics.service());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async { axum::serve(listener, own).await });

    let (_, body) = ask(address, "GET", "/", "");
    assert_eq!(body, b"the application's own");
    let path = "/internal/numbers";
    assert!(ask(address, "GET", path, "").0.starts_with("http/1.1 401"));
    let token = "authorization: Bearer s3cret\r\n";
    let (head, _) = ask(address, "POST", path, &format!("{token}content-length: 0\r\n"));
    assert!(head.starts_with("http/1.1 405"), "{head}");
    let open_metrics = format!("{token}accept: application/openmetrics-text\r\n");
    let (head, body) = ask(address, "GET", path, &open_metrics);
    assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
    assert!(body.ends_with(b"# EOF\n"));
    let (head, body) = ask(address, "HEAD", path, &open_metrics);
    assert!(head.starts_with("http/1.1 200") && length(&head) > 0 && body.is_empty(), "{head}");
    let (head, _) = ask(address, "GET", path, &format!("{token}accept-encoding: gzip\r\n"));
    assert!(head.contains("content-encoding: gzip"), "{head}");
}
