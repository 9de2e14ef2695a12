//! The shop, for real: four processes, real HTTP, real databases, two more collectors than it brings
//! along, and readers that are not ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use spanweave_testkit::{SpanKind, StoredSpan, TestCollector, Trace, http};
use spanweave_tests::{
    Finished, Postgres, Receiver, Running, command, promtool, script, shared, shop,
};

/// For a debug build on a machine that runs other tests as well.
const PATIENCE: Duration = Duration::from_secs(120);

/// (trace id, span id), in hex.
type Ids = BTreeSet<(String, String)>;

fn start(folder: &Path, arguments: &[&str]) -> Running {
    let mut command = shop_in(folder);
    command.args(arguments);
    Running::start(command)
}

fn shop_in(folder: &Path) -> Command {
    let mut command = command(shop());
    command.env_remove("DATABASE_URL").arg("--out").arg(folder);
    command
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a number"))
}

fn ids_of<'a>(spans: impl IntoIterator<Item = &'a Value>, names: [&str; 2]) -> Ids {
    let text =
        |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned();
    spans.into_iter().map(|span| (text(&span[names[0]]), text(&span[names[1]]))).collect()
}

#[test]
fn one_run_of_the_shop_is_the_same_in_every_backend() {
    const REQUESTS: u64 = 60;
    let _machine = shared();
    let (collector, receiver) = (TestCollector::start(), Receiver::start());
    let folder = tempfile::tempdir().unwrap();
    let run = start(
        folder.path(),
        &[
            "--requests",
            &REQUESTS.to_string(),
            "--json",
            "--otlp",
            &collector.http_endpoint(),
            "--otlp",
            &receiver.grpc_endpoint().replace("http://", "grpc://"),
        ],
    );
    let summary = run.finish(PATIENCE).successful().json();
    let spans = check_summary(&summary, REQUESTS, 6);

    let here = collector.wait_for_spans(spans as usize);
    let ids: Ids =
        here.iter().map(|span| (span.trace_id.to_string(), span.span_id.to_string())).collect();
    assert_eq!(ids.len() as u64, spans);
    assert_eq!(collector.store().counts().duplicates, 0);
    for (service, count) in summary["spans_by_service"].as_object().unwrap() {
        assert_eq!(collector.store().spans_of(service).len() as u64, number(count), "{service}");
    }
    check_traces(&collector.store().traces(), "sqlite");

    let there = receiver.wait_for_spans(spans as usize);
    assert_eq!(there.len() as u64, spans);
    assert_eq!(ids_of(&there, ["trace_id", "span_id"]), ids);
    assert_eq!(receiver.problems(), Vec::<String>::new());

    let files: Vec<PathBuf> = summary["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| path.as_str().unwrap().into())
        .collect();
    let (own_form, otlp): (Vec<_>, Vec<_>) =
        files.iter().partition(|path| path.to_string_lossy().ends_with(".spans.jsonl"));
    assert_eq!((own_form.len(), otlp.len()), (3, 3), "{files:?}");
    let mut reader = script("read_otlp_json.py");
    reader.args(&otlp);
    let read = Running::start(reader).finish(PATIENCE);
    assert_eq!(read.json()["problems"], json!([]));
    assert_eq!(ids_of(read.json()["spans"].as_array().unwrap(), ["trace_id", "span_id"]), ids);
    assert_eq!(ids_of(&own_form_spans(&own_form), ["traceID", "spanID"]), ids);
}

/// What `--json` promises. Returns the number of spans.
#[track_caller]
fn check_summary(summary: &Value, requests: u64, backends: usize) -> u64 {
    let keys: BTreeSet<&str> = summary.as_object().unwrap().keys().map(String::as_str).collect();
    let promised = BTreeSet::from([
        "requests",
        "traces",
        "spans",
        "spans_by_service",
        "error_traces",
        "files",
        "metrics",
        "backends",
    ]);
    assert!(promised.is_subset(&keys), "{keys:?}");
    assert_eq!(number(&summary["requests"]), requests);
    assert_eq!(number(&summary["traces"]), requests, "each request is a trace of its own");
    let errors = number(&summary["error_traces"]);
    assert!(errors > 0 && errors < requests, "{errors} traces with errors");
    let spans = number(&summary["spans"]);
    let by_service = summary["spans_by_service"].as_object().unwrap();
    let services: Vec<&str> = by_service.keys().map(String::as_str).collect();
    assert_eq!(services, ["gateway", "orders", "users"]);
    assert_eq!(by_service.values().map(number).sum::<u64>(), spans);
    let ledgers = summary["backends"].as_object().unwrap();
    assert_eq!(ledgers.len(), backends, "{ledgers:?}");
    for (name, ledger) in ledgers {
        assert_eq!(ledger, &json!({ "delivered": spans, "dropped": 0, "pending": 0 }), "{name}");
    }
    assert_eq!(summary["metrics"].as_object().unwrap().len(), 3);
    spans
}

/// One root a trace, each span under the one that caused it, kinds that fit.
#[track_caller]
fn check_traces(traces: &[Trace], database: &str) {
    /// Two processes read the clock at slightly different moments when they start.
    const SKEW_NS: u64 = 5_000_000;
    let mut kinds: BTreeMap<SpanKind, usize> = BTreeMap::new();
    let mut hops = 0;
    for trace in traces {
        assert!(trace.orphans().is_empty(), "{:?}", trace.id());
        let [root] = trace.roots() else { panic!("{} roots", trace.roots().len()) };
        let spans = trace.spans();
        let root = &spans[*root];
        assert_eq!((root.service.as_str(), root.kind), ("gateway", SpanKind::Server));
        for (index, span) in spans.iter().enumerate() {
            *kinds.entry(span.kind).or_default() += 1;
            let Some(parent) = trace.parent(index).map(|parent| &spans[parent]) else { continue };
            assert!(span.start_ns + SKEW_NS >= parent.start_ns, "{span:?}\n{parent:?}");
            assert_eq!(span.has_remote_parent(), span.service != parent.service, "{span:?}");
            if span.service != parent.service {
                hops += 1;
                assert_eq!((parent.kind, span.kind), (SpanKind::Client, SpanKind::Server));
                assert!(span.end_ns <= parent.end_ns + SKEW_NS, "{span:?}\n{parent:?}");
            }
            check_span(span, database);
        }
    }
    for kind in [SpanKind::Server, SpanKind::Client, SpanKind::Internal] {
        assert!(kinds.get(&kind).is_some_and(|count| *count > traces.len() / 2), "{kinds:?}");
    }
    assert!(hops > traces.len() / 2, "{hops} calls between services");
    let databases = traces.iter().flat_map(Trace::spans).filter(|span| is_database(span));
    assert!(databases.count() > traces.len() / 2);
}

fn is_database(span: &StoredSpan) -> bool {
    span.attribute("db.system.name").is_some()
}

/// The conventions, as far as each kind of span has some.
#[track_caller]
fn check_span(span: &StoredSpan, database: &str) {
    assert!(span.start_ns <= span.end_ns, "{span:?}");
    assert_eq!(span.resource_attribute("service.name"), Some(&span.service.as_str().into()));
    if is_database(span) {
        assert_eq!(span.kind, SpanKind::Client, "{span:?}");
        assert_eq!(span.text("db.system.name"), Some(database), "{span:?}");
    } else if span.kind == SpanKind::Server {
        let route = span.text("http.route").unwrap_or_else(|| panic!("no route: {span:?}"));
        let method = span.text("http.request.method").unwrap();
        assert_eq!(span.name, format!("{method} {route}"));
        let status = span.attribute("http.response.status_code").and_then(|code| code.as_i64());
        let status = status.unwrap_or_else(|| panic!("no status: {span:?}"));
        assert_eq!(span.is_error(), status >= 500, "{span:?}");
    }
}

/// The lines of the mission's own form, number 15, each with what it promises.
fn own_form_spans(files: &[&PathBuf]) -> Vec<Value> {
    let mut spans = Vec::new();
    for file in files {
        for line in fs::read_to_string(file).unwrap().lines() {
            let span: Value = serde_json::from_str(line).unwrap();
            for key in ["parentSpanID", "operationName", "startTime", "endTime", "duration"] {
                assert!(span[key].is_string(), "{key} of {span}");
            }
            assert!(span["tags"].is_object() && span["logs"].is_array(), "{span}");
            for log in span["logs"].as_array().unwrap() {
                assert!(log["timestamp"].is_string() && log["message"].is_string(), "{log}");
            }
            spans.push(span);
        }
    }
    spans
}

#[test]
fn the_shop_on_postgres_is_traced_as_well() {
    let _machine = shared();
    let (collector, database) = (TestCollector::start(), Postgres::start());
    let folder = tempfile::tempdir().unwrap();
    let mut command = shop_in(folder.path());
    command.env("DATABASE_URL", database.url()).args(["--requests", "40", "--json"]);
    command.args(["--jaeger", &collector.grpc_endpoint()]);
    let summary = Running::start(command).finish(PATIENCE).successful().json();
    let spans = check_summary(&summary, 40, 5);
    assert_eq!(collector.wait_for_spans(spans as usize).len() as u64, spans);
    check_traces(&collector.store().traces(), "postgresql");
}

#[test]
fn others_read_the_metrics_of_a_shop_that_goes_on_serving() {
    let _machine = shared();
    let folder = tempfile::tempdir().unwrap();
    let mut run = start(folder.path(), &["--requests", "40", "--hold", "--json"]);
    let mut urls = BTreeSet::new();
    while urls.len() < 3 {
        let line = run.line(PATIENCE);
        urls.extend(
            line.split_whitespace()
                .filter(|word| word.starts_with("http://") && word.ends_with("/metrics"))
                .map(str::to_owned),
        );
    }
    let (mut edges, mut counted) = (BTreeSet::new(), 0);
    for url in &urls {
        let lint = lint(url);
        assert!(lint["exemplars"].as_u64() > Some(0), "{lint}");
        for family in
            ["trace_span", "trace_span_duration_seconds", "trace_errors", "service_requests"]
        {
            let families = lint["families"].as_array().unwrap();
            assert!(families.iter().any(|name| name == family), "{family}: {lint}");
        }
        let answer = http::get(url);
        assert_eq!(answer.status, 200);
        check_with_promtool(&answer.text());
        edges.extend(called_by(&answer.text()));
        counted += spans_counted(&answer.text());
    }
    for (caller, callee) in [("gateway", "users"), ("gateway", "orders")] {
        let edge = (caller.to_owned(), callee.to_owned());
        assert!(edges.contains(&edge), "{edge:?} in {edges:?}");
    }

    let interrupt = Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let summary = run.finish(PATIENCE).successful().json();
    assert_eq!(check_summary(&summary, 40, 4), counted, "metrics are exact");
    let served: BTreeSet<String> = summary["metrics"]
        .as_object()
        .unwrap()
        .values()
        .map(|url| url.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(served, urls);
}

fn lint(url: &str) -> Value {
    let mut lint = script("lint_openmetrics.py");
    lint.args([url, "--require-exemplars"]);
    let found: Finished = Running::start(lint).finish(PATIENCE);
    assert_eq!(found.json()["problems"], json!([]), "{url}");
    found.successful().json()
}

/// The text form passes `promtool check metrics`.
#[track_caller]
fn check_with_promtool(text: &str) {
    use std::io::Write;
    let mut check = promtool()
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{text}");
}

/// The sum over all series of `trace_span_total`.
fn spans_counted(text: &str) -> u64 {
    text.lines()
        .filter(|line| line.starts_with("trace_span_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// (caller, callee) of each series of `service_requests_total`.
fn called_by(text: &str) -> Vec<(String, String)> {
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    text.lines()
        .filter(|line| line.starts_with("service_requests_total{"))
        .filter_map(|line| Some((label(line, "source_service")?, label(line, "target_service")?)))
        .collect()
}
