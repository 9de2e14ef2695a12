//! What `init` logs, and that logs and spans leave each other alone. Each test runs its body in a
//! process of its own.

mod child;

use serde_json::Value;

use child::{is_child, names, run};

#[test]
fn a_quiet_log_does_not_cut_spans() {
    if is_child() {
        let _telemetry = spanweave::init().unwrap();
        tracing::info_span!("outer").in_scope(|| {
            tracing::info!("not logged");
            tracing::info_span!("inner").in_scope(|| tracing::error!("logged"));
        });
        return;
    }
    let ran = run("a_quiet_log_does_not_cut_spans", &[("RUST_LOG", "error")]);
    let spans = ran.spans();
    assert_eq!(names(&spans), ["inner", "outer"]);
    assert_eq!(spans[0]["parentSpanId"], spans[1]["spanId"]);
    assert_eq!(spans[1]["events"][0]["name"], "not logged");
    assert_eq!(ran.lines("logged").len(), 1, "{}", ran.stderr());
    assert_eq!(ran.lines("ERROR").len(), 1, "{}", ran.stderr());
}

#[test]
fn log_lines_carry_the_ids_that_the_backends_get() {
    if is_child() {
        let _telemetry = spanweave::init().unwrap();
        tracing::info!("outside the span");
        tracing::info_span!("work", user = "u1").in_scope(|| tracing::info!("within the span"));
        return;
    }
    let this = "log_lines_carry_the_ids_that_the_backends_get";

    let text = run(this, &[]);
    let span = &text.spans()[0];
    let (trace_id, span_id) = (span["traceId"].as_str().unwrap(), span["spanId"].as_str().unwrap());
    let line = &text.lines("within the span")[0];
    assert!(line.ends_with(&format!("trace_id={trace_id} span_id={span_id}")), "{line}");
    assert!(!text.lines("outside the span")[0].contains("trace_id"));
    assert!(!text.text(&text.output.stdout).contains("the span"), "logs go to standard error");

    let json = run(this, &[("SPANWEAVE_LOG_FORMAT", "json")]);
    let span = &json.spans()[0];
    let line: Value = serde_json::from_str(&json.lines("within the span")[0]).unwrap();
    assert_eq!(line["trace_id"], span["traceId"]);
    assert_eq!(line["span_id"], span["spanId"]);
    assert_eq!(line["spans"][0]["user"], "u1");

    let off = run(this, &[("SPANWEAVE_LOG_FORMAT", "off")]);
    assert!(off.lines("the span").is_empty());
    assert_eq!(off.spans().len(), 1);
}

#[test]
fn records_of_the_log_crate_follow_the_log_filter() {
    if is_child() {
        let _telemetry = spanweave::init().unwrap();
        tracing::info_span!("work").in_scope(|| {
            log::info!(target: "quiet", "record one");
            log::warn!(target: "quiet", "record two");
            log::debug!(target: "loud", "record three");
        });
        return;
    }
    let variables = [("RUST_LOG", "warn,loud=debug")];
    let ran = run("records_of_the_log_crate_follow_the_log_filter", &variables);
    let lines = ran.lines("record");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("quiet: record two") && lines[0].contains("trace_id="), "{lines:?}");
    assert!(lines[1].contains("loud: record three"), "{lines:?}");
}

#[test]
fn bad_variables_are_named_once_in_the_log() {
    if is_child() {
        let telemetry = spanweave::init().unwrap();
        assert_eq!(telemetry.warnings().count(), 3);
        return;
    }
    let variables = [
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
        ("SPANWEAVE_FILTER", "x=loud"),
    ];
    let ran = run("bad_variables_are_named_once_in_the_log", &variables);
    for (variable, _) in variables {
        assert_eq!(ran.lines(variable).len(), 1, "{}", ran.stderr());
    }
    assert!(!ran.stderr().contains("hunter2"));
}

/// Its `Debug` logs and opens a span itself.
struct Talks;
impl std::fmt::Debug for Talks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        tracing::info_span!("of debug").in_scope(|| tracing::info!("from debug"));
        f.write_str("Talks")
    }
}

/// Its `Debug` panics.
struct Panics;
impl std::fmt::Debug for Panics {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("on purpose")
    }
}

#[test]
fn a_field_that_logs_or_panics_harms_no_other_line_and_no_span() {
    if is_child() {
        let _telemetry = spanweave::init().unwrap();
        let work = tracing::info_span!("work", at_start = ?Talks, later = tracing::field::Empty);
        work.in_scope(|| {
            work.record("later", tracing::field::debug(Talks));
            tracing::info!(talks = ?Talks, "outer line");
            tracing::info_span!("bad", bad = ?Panics)
                .in_scope(|| tracing::info!(bad = ?Panics, "bad line"));
            tracing::info!(huge = "x".repeat(10 << 20), "huge line");
            tracing::info!("last line");
        });
        return;
    }
    let ran = run("a_field_that_logs_or_panics_harms_no_other_line_and_no_span", &[]);
    let outer = ran.lines("outer line");
    assert!(outer[0].contains("work{at_start=Talks later=Talks}:"), "{}", outer[0]);
    assert!(outer[0].contains("outer line talks=Talks trace_id="), "{}", outer[0]);
    assert!(!ran.lines("from debug").is_empty());
    assert!(ran.lines("bad line")[0].contains("log.panicked=true"));
    assert_eq!((ran.lines("huge line").len(), ran.lines("last line").len()), (1, 1));
    let spans = ran.spans();
    let all = names(&spans);
    assert!(all.contains(&"work") && all.contains(&"bad") && all.contains(&"of debug"), "{all:?}");
}

#[test]
fn a_start_without_problems_logs_nothing() {
    if is_child() {
        let _telemetry = spanweave::init().unwrap();
        return;
    }
    let ran = run("a_start_without_problems_logs_nothing", &[]);
    let levels = [" INFO ", " WARN ", "ERROR "];
    assert!(levels.iter().all(|level| ran.lines(level).is_empty()), "{}", ran.stderr());
}
