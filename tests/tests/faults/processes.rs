//! Processes that end badly, and those that share a spool.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use spanweave::{Backend, Deadline, SpanSink};
use spanweave_exporter::MultiExporter;
use spanweave_testkit::TestCollector;
use spanweave_tests::{Running, command};

use crate::support::{collector, long, now, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_spooling-program");

fn program(arguments: &[&str]) -> Command {
    let mut command = command(PROGRAM);
    command.args(arguments);
    command
}

/// Sends what is left in a spool and waits until there is none.
#[track_caller]
fn drain(directory: &Path, server: &TestCollector) {
    let backend = Backend::otlp_http(server.http_endpoint()).durable(directory);
    let exporter = MultiExporter::builder().export_to(backend).build().unwrap();
    // However much it is: what must not happen is that it stands still.
    let (mut delivered, mut since) = (0, now());
    loop {
        let report = exporter.reports().remove(0);
        // What a process left that was killed while it made its directory holds no spans.
        let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        let instances = names.filter(|name| !name.to_string_lossy().starts_with('.')).count();
        if report.pending == 0 && instances <= 1 {
            break;
        }
        if report.delivered > delivered {
            (delivered, since) = (report.delivered, now());
        }
        let still = since.elapsed();
        assert!(still < Duration::from_secs(30), "{instances} instances, {report:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let report = exporter.shutdown(Deadline::after(Duration::from_secs(5))).remove(0);
    assert_eq!(report.dropped_total(), 0, "{report:?}");
}

#[test]
fn no_accepted_span_is_lost_to_sigkill() {
    let rounds = if long() { 200 } else { 20 };
    let folder = tempfile::tempdir().unwrap();
    let server = collector();
    let directory = folder.path().to_str().unwrap();
    let mut accepted: Vec<(u64, u64)> = Vec::new();
    for round in 0..rounds {
        let first = round * 10_000_000;
        // Every other one has no backend, so that spools of several processes pile up.
        let endpoint =
            if round % 2 == 0 { server.http_endpoint() } else { "http://127.0.0.1:9".to_owned() };
        let mut child = program(&["write", directory, &endpoint, &first.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(2 + round * 7 % 100));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        // The last line may be cut.
        let text = String::from_utf8(output.stdout).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let next = whole.lines().last().map_or(first, |line| line.parse().unwrap());
        accepted.push((first, next));
    }
    let total: u64 = accepted.iter().map(|(first, next)| next - first).sum();
    assert!(total > rounds * 50, "{total} spans were accepted");
    drain(folder.path(), &server);
    let ids: std::collections::HashSet<u64> = server
        .store()
        .spans()
        .iter()
        .map(|span| u64::from_str_radix(&span.span_id.to_string(), 16).unwrap() - 1)
        .collect();
    let lost =
        accepted.iter().flat_map(|(first, next)| *first..*next).filter(|id| !ids.contains(id));
    assert_eq!(lost.count(), 0, "of {total}");
}

#[test]
fn a_process_that_ends_without_a_shutdown_loses_at_most_the_window() {
    for end in ["exit", "abort", "return"] {
        let folder = tempfile::tempdir().unwrap();
        let server = collector();
        let directory = folder.path().to_str().unwrap();
        // No backend while it runs: everything has to come from the disk.
        let finished = Running::start(program(&["app", directory, "http://127.0.0.1:9", "0", end]))
            .finish(Duration::from_secs(30));
        assert_eq!(finished.stdout.first().map(String::as_str), Some("ready"), "{finished:?}");
        drain(folder.path(), &server);
        assert_eq!(server.unique_spans(), 1000, "{end}");
    }
}

#[test]
fn sigterm_without_a_handler_loses_at_most_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let server = collector();
    let directory = folder.path().to_str().unwrap();
    let mut running =
        Running::start(program(&["app", directory, "http://127.0.0.1:9", "0", "sleep"]));
    assert_eq!(running.line(Duration::from_secs(20)), "ready");
    let killed = Command::new("kill").arg(running.id().to_string()).status();
    assert!(killed.unwrap().success());
    running.finish(Duration::from_secs(10));
    drain(folder.path(), &server);
    assert_eq!(server.unique_spans(), 1000);
}

#[test]
fn two_processes_share_a_spool() {
    let folder = tempfile::tempdir().unwrap();
    let server = collector();
    let directory = folder.path().to_str().unwrap();
    let endpoint = server.http_endpoint();
    let both: Vec<_> = ["0", "1000000"]
        .map(|first| Running::start(program(&["burst", directory, &endpoint, first])))
        .into_iter()
        .map(|running| running.finish(Duration::from_secs(60)).successful().json())
        .collect();
    for report in &both {
        assert_eq!((&report["dropped"], &report["pending"]), (&0.into(), &0.into()), "{both:?}");
    }
    assert_eq!((server.unique_spans(), server.store().counts().duplicates), (20_000, 0));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_environment_names_a_spool() {
    let folder = tempfile::tempdir().unwrap();
    let server = collector();
    let traced = |endpoint: &str, arguments: [&str; 2]| {
        let mut program = command(env!("CARGO_BIN_EXE_traced-program"));
        program
            .args(arguments)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .env("SPANWEAVE_SPOOL_DIR", folder.path());
        Running::start(program)
    };
    let first = traced("http://127.0.0.1:9", ["work", "10"]).finish(Duration::from_secs(30));
    let report = first.successful().json();
    assert_eq!(
        (&report["backends"][0]["pending"], &report["backends"][0]["dropped"]),
        (&20.into(), &0.into()),
        "{report}"
    );
    let second = traced(&server.http_endpoint(), ["serve", "0"]);
    wait("what was left arrives", Duration::from_secs(20), || server.unique_spans() >= 20);
    let finished = second.finish(Duration::from_secs(30)).successful();
    assert_eq!(finished.json()["backends"][0]["balanced"], true, "{:?}", finished.stdout);
}
