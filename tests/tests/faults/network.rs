//! Backends that are down, slow, silent or not there.

use std::time::Duration;

use spanweave::{Backend, DropReason};
use spanweave_testkit::{ScriptedServer, TcpProxy, Verdict, full_backlog_listener};
use spanweave_tests::{Running, command, timed};

use crate::support::{
    T, assert_all, collector, eager, line, long, make, now, spans, telemetry, wait,
};

#[test]
fn a_durable_backend_that_was_down_loses_nothing_and_harms_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (collector(), collector());
    let proxy = TcpProxy::to(&a.http_endpoint());
    proxy.down();
    let (telemetry, dispatch) = telemetry([
        Backend::otlp_http(proxy.endpoint()).named("a").durable(folder.path()).retry(eager()),
        Backend::otlp_http(b.http_endpoint()).named("b"),
    ]);
    make(&dispatch, spans());
    let (_, took) = timed(|| {
        wait("b has all", Duration::from_secs(20), || b.unique_spans() == spans());
    });
    assert!(took < Duration::from_secs(20));
    assert_eq!(a.unique_spans(), 0);
    std::thread::sleep(Duration::from_secs(if long() { 60 } else { 1 }));
    proxy.up();
    let report = telemetry.shutdown(Duration::from_secs(60));
    assert_all(&line(&report, "a"), &a, spans());
    assert_all(&line(&report, "b"), &b, spans());
    assert_eq!((line(&report, "a").pending, a.store().counts().duplicates), (0, 0));
}

#[test]
fn connects_to_a_backend_that_is_down_are_bounded_by_the_backoff() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            drop(stream);
        }
    });
    let (telemetry, dispatch) =
        telemetry([Backend::otlp_http(format!("http://{address}")).named("a")]);
    make(&dispatch, spans());
    std::thread::sleep(Duration::from_secs(3));
    let connects = count.load(std::sync::atomic::Ordering::Relaxed);
    // Four at once before it is known, then one at a time: half a second, a second, two …
    assert!((1..=20).contains(&connects), "{connects}");
    telemetry.shutdown(Duration::from_millis(100));
}

#[test]
fn a_connect_that_hangs_ends_at_its_deadline() {
    let silent = full_backlog_listener();
    let timeout = Duration::from_millis(1000);
    let (telemetry, dispatch) =
        telemetry([Backend::otlp_http(silent.endpoint()).named("a").timeout(timeout)]);
    let start = now();
    make(&dispatch, 10);
    wait("it fails", T, || telemetry.flush(Duration::ZERO).backends[0].last_error.is_some());
    let took = start.elapsed();
    assert!((900..1200).contains(&took.as_millis()), "{took:?}");
    let (report, took) = timed(|| telemetry.shutdown(Duration::from_millis(500)));
    assert!(took < Duration::from_millis(700), "{took:?}");
    assert_eq!(line(&report, "a").dropped, [(DropReason::Shutdown, 10)]);
}

#[test]
fn a_slow_backend_gets_everything_from_disk_and_drops_are_exact_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (durable, memory) = (collector(), collector());
    let proxies = [TcpProxy::to(&durable.http_endpoint()), TcpProxy::to(&memory.http_endpoint())];
    proxies.iter().for_each(|proxy| proxy.delay(Duration::from_millis(100)));
    let (telemetry, dispatch) = telemetry([
        Backend::otlp_http(proxies[0].endpoint()).named("durable").durable(folder.path()),
        Backend::otlp_http(proxies[1].endpoint()).named("memory").queue_bytes(200_000),
    ]);
    make(&dispatch, spans());
    wait("the memory is full", T, || {
        telemetry.flush(Duration::ZERO).backends[1].dropped_total() > 0
    });
    proxies.iter().for_each(|proxy| proxy.delay(Duration::ZERO));
    let report = telemetry.shutdown(Duration::from_secs(60));
    assert_all(&line(&report, "durable"), &durable, spans());
    let lossy = line(&report, "memory");
    assert_eq!(lossy.pending, 0);
    assert_eq!(memory.unique_spans() as u64 + lossy.dropped_total(), spans() as u64, "{lossy:?}");
}

#[test]
fn a_server_that_hangs_in_mid_request_costs_an_attempt() {
    let server = ScriptedServer::start([Verdict::hang()]);
    let backend = Backend::otlp_http(server.http_endpoint()).named("a").retry(eager());
    let (telemetry, dispatch) = telemetry([backend.timeout(Duration::from_millis(500))]);
    make(&dispatch, 1000);
    let report = telemetry.shutdown(T);
    assert_eq!((line(&report, "a").delivered, line(&report, "a").dropped_total()), (1000, 0));
    assert_eq!(server.collector().store().len(), 1000);
}

#[test]
fn a_name_that_does_not_resolve_is_a_backend_that_is_down() {
    let (telemetry, dispatch) = telemetry([Backend::otlp_http("http://x.invalid:4318").named("a")]);
    make(&dispatch, 10);
    let (report, took) = timed(|| telemetry.shutdown(Duration::from_secs(1)));
    assert!(took < Duration::from_millis(1300), "{took:?}");
    let report = line(&report, "a");
    assert_eq!(report.dropped_total(), 10);
    assert!(report.down_since.is_some());
}

#[test]
fn a_server_that_restarts_again_and_again_gets_everything() {
    let server = collector();
    let proxy = TcpProxy::to(&server.http_endpoint());
    let (telemetry, dispatch) = telemetry([Backend::otlp_http(proxy.endpoint())
        .named("a")
        .queue_bytes(1 << 30)
        .retry(eager())]);
    let restarts = if long() { 60 } else { 15 };
    for _ in 0..restarts {
        make(&dispatch, spans() / restarts);
        proxy.down();
        std::thread::sleep(Duration::from_millis(if long() { 200 } else { 20 }));
        proxy.up();
        std::thread::sleep(Duration::from_millis(if long() { 800 } else { 30 }));
    }
    let made = spans() / restarts * restarts;
    let report = telemetry.shutdown(Duration::from_secs(60));
    assert_all(&line(&report, "a"), &server, made);
    // What was in flight at a restart: four requests of 256 spans.
    let duplicates = server.store().counts().duplicates;
    assert!(duplicates <= restarts as u64 * 4 * 256, "{duplicates}");
}

#[test]
fn a_resolver_that_hangs_holds_up_no_shutdown_and_loses_nothing_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    // A network of its own, in which the name server takes questions and never answers.
    let script = format!(
        "ip link set lo up
         mount --bind {folder}/resolv.conf /etc/resolv.conf
         python3 -c 'import socket,time; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((\"127.0.0.1\", 53)); time.sleep(12)' >/dev/null 2>&1 &
         sleep 0.5
         {program} burst {folder}/spool http://collector.example.com:4318 0",
        folder = folder.path().display(),
        program = env!("CARGO_BIN_EXE_spooling-program"),
    );
    let mut shell = command("unshare");
    shell.args(["--user", "--map-root-user", "--mount", "--net", "sh", "-ec", &script]);
    let (finished, took) = timed(|| Running::start(shell).finish(Duration::from_secs(30)));
    let report = finished.successful().json();
    assert_eq!((&report["dropped"], &report["pending"]), (&0.into(), &10_000.into()), "{report}");
    // Two seconds of spans, then the shutdown.
    assert!(took < Duration::from_secs(3) + T + Duration::from_secs(1), "{took:?}");
}
