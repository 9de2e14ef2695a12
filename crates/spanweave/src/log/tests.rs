use std::fmt;
use std::sync::Mutex;

use opentelemetry::trace::TraceContextExt;
use serde_json::Value;
use spanweave_core::SpanExt;
use spanweave_core::sync::lock;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::builder::Builder;
use crate::env::EnvConfig;
use crate::filter::UnionFilter;
use crate::telemetry::Telemetry;

/// Runs `act` under what `install` composes, but for the globals.
fn lines_of(format: LogFormat, colours: bool, log: &str, act: impl FnOnce()) -> Vec<String> {
    let written = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&written);
    let (layer, telemetry, global) = start(log);
    let directives = global.log.clone().unwrap();
    let layer_of_lines = layer_to(format, directives, Arc::default(), colours, move |line| {
        let line = std::str::from_utf8(line).unwrap();
        lock(&sink).push(line.strip_suffix('\n').unwrap().to_owned());
    });
    let filter = UnionFilter::new(global.log, global.spans);
    let subscriber = Registry::default().with(layer).with(layer_of_lines).with(filter);
    tracing::subscriber::with_default(subscriber, act);
    drop(telemetry);
    lock(&written).clone()
}

fn start(log: &str) -> (spanweave_core::Layer, Telemetry, crate::builder::Global) {
    Builder::new(EnvConfig::default(), Vec::new()).log_filter(log).start().unwrap()
}

fn ids_of_current() -> (String, String) {
    let cx = tracing::Span::current().context();
    let span = cx.span();
    let ids = span.span_context();
    (ids.trace_id().to_string(), ids.span_id().to_string())
}

#[test]
fn a_text_line_inside_a_span_carries_its_ids() {
    let mut ids = None;
    let lines = lines_of(LogFormat::Text, false, "info", || {
        tracing::info!("outside");
        tracing::info_span!("work", id = 7).in_scope(|| {
            tracing::info!(answer = 42, "inside");
            ids = Some(ids_of_current());
        });
    });
    let (trace_id, span_id) = ids.unwrap();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].ends_with("outside") && !lines[0].contains("trace_id"), "{}", lines[0]);
    let end = format!(
        "work{{id=7}}: {}: inside answer=42 trace_id={trace_id} span_id={span_id}",
        module_path!()
    );
    assert!(lines[1].ends_with(&end), "{}", lines[1]);
}

#[test]
fn a_json_line_inside_a_span_carries_its_ids_and_its_spans() {
    let mut ids = None;
    let lines = lines_of(LogFormat::Json, false, "info", || {
        tracing::info!("outside");
        let outer = tracing::info_span!("outer", user = "a\"b\n").entered();
        tracing::info_span!("inner \"quoted\"").in_scope(|| {
            tracing::warn!(answer = 42, "inside");
            ids = Some(ids_of_current());
        });
        drop(outer);
    });
    let (trace_id, span_id) = ids.unwrap();
    let parsed: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(parsed[0].get("trace_id").is_none() && parsed[0].get("spans").is_none());
    assert_eq!(parsed[0]["fields"]["message"], "outside");
    assert_eq!(parsed[1]["level"], "WARN");
    assert_eq!(parsed[1]["fields"]["answer"], 42);
    assert_eq!(parsed[1]["trace_id"], trace_id);
    assert_eq!(parsed[1]["span_id"], span_id);
    let spans = parsed[1]["spans"].as_array().unwrap();
    assert_eq!(spans[0]["name"], "outer");
    assert_eq!(spans[0]["user"], "a\"b\n");
    assert_eq!(spans[1]["name"], "inner \"quoted\"");
}

#[test]
fn an_error_inside_spans_that_the_log_did_not_want_is_still_logged_with_ids() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let mut ids = None;
        let lines = lines_of(format, false, "error", || {
            tracing::info_span!("unwanted", field = 1).in_scope(|| {
                tracing::info!("unwanted");
                tracing::error!("wanted");
                ids = Some(ids_of_current());
            });
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        let (trace_id, span_id) = ids.unwrap();
        assert!(lines[0].contains("wanted") && lines[0].contains(&trace_id), "{}", lines[0]);
        assert!(lines[0].contains(&span_id) && lines[0].contains("unwanted"), "{}", lines[0]);
    }
}

#[test]
fn an_event_never_carries_the_ids_of_a_span_that_is_not_its_own() {
    let lines = lines_of(LogFormat::Text, false, "info", || {
        let other = tracing::info_span!("other");
        tracing::info_span!("work").in_scope(|| {
            tracing::info!(parent: None, "alone");
            tracing::info!(parent: &other, "elsewhere");
            tracing::info!(parent: &tracing::Span::current(), "here");
        });
    });
    let with_ids: Vec<_> = lines.iter().map(|line| line.contains("trace_id")).collect();
    assert_eq!(with_ids, [false, false, true], "{lines:?}");
    assert!(lines[1].contains("other:") && !lines[1].contains("work"), "{}", lines[1]);
}

#[test]
fn colours_are_kept_on_a_terminal() {
    let lines = lines_of(LogFormat::Text, true, "info", || {
        tracing::info_span!("work").in_scope(|| tracing::info!("inside"));
    });
    assert!(lines[0].contains("\u{1b}[") && lines[0].contains(" trace_id="), "{}", lines[0]);
}

#[test]
fn a_directive_about_a_span_works_for_the_log() {
    let lines = lines_of(LogFormat::Text, false, "warn,[request{user=admin}]=debug", || {
        tracing::info_span!("request", user = "guest").in_scope(|| tracing::debug!("one"));
        tracing::info_span!("request", user = "admin").in_scope(|| tracing::debug!("two"));
        tracing::debug!("three");
        tracing::warn!("four");
    });
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("two") && lines[1].contains("four"));
}

#[test]
fn values_of_every_kind_are_rendered() {
    let program = || {
        let error = std::io::Error::other("inner".parse::<u8>().unwrap_err());
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::info!(
            b = true, i = -1, u = u64::MAX, big = u128::MAX, f = 0.5, nan = f64::NAN, s = "a b",
            d = ?Some("x"), p = %"y z", error, r#type = 1, "all"
        );
    };
    let text = lines_of(LogFormat::Text, false, "info", program);
    let expected = format!(
        "all b=true i=-1 u=18446744073709551615 big={} f=0.5 nan=NaN s=\"a b\" d=Some(\"x\") \
         p=y z error=invalid digit found in string type=1",
        u128::MAX
    );
    assert!(text[0].ends_with(&expected), "{}", text[0]);
    let json = lines_of(LogFormat::Json, false, "info", program);
    let fields = serde_json::from_str::<Value>(&json[0]).unwrap()["fields"].clone();
    let expected = serde_json::json!({
        "message": "all", "b": true, "i": -1, "u": u64::MAX, "big": u128::MAX.to_string(),
        "f": 0.5, "nan": "NaN", "s": "a b", "d": "Some(\"x\")", "p": "y z",
        "error": "invalid digit found in string", "type": 1,
    });
    assert_eq!(fields, expected);
}

#[test]
fn a_value_recorded_later_replaces_the_earlier_one() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let lines = lines_of(format, false, "info", || {
            let span = tracing::info_span!("work", step = 1, user = tracing::field::Empty);
            span.record("step", 2);
            span.record("user", "u1");
            span.in_scope(|| tracing::info!("inside"));
        });
        let expected = match format {
            LogFormat::Json => r#"{"name":"work","step":2,"user":"u1"}"#,
            _ => r#"work{step=2 user="u1"}:"#,
        };
        assert!(lines[0].contains(expected), "{}", lines[0]);
    }
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let lines = lines_of(LogFormat::Text, false, "info", || {
        tracing::info!(a = %"\u{1b}[2J", "\u{1b}[31mred\r");
    });
    assert!(lines[0].ends_with(r"\u{1b}[31mred\u{d} a=\u{1b}[2J"), "{}", lines[0]);
}

/// Its `Debug` panics.
struct Panics;
impl fmt::Debug for Panics {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("on purpose")
    }
}

#[test]
fn a_debug_that_panics_costs_its_own_value_only() {
    let lines = lines_of(LogFormat::Json, false, "info", || {
        let span = tracing::info_span!("work", before = 1, bad = ?Panics);
        let _entered = span.enter();
        tracing::info!(bad = ?Panics, "one");
        tracing::info!("two");
    });
    let parsed: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed.len(), 2, "{lines:?}");
    assert_eq!(parsed[0]["fields"]["log.panicked"], true);
    assert_eq!(parsed[1]["fields"]["message"], "two");
    assert_eq!(parsed[1]["spans"][0]["before"], 1);
}

#[test]
fn secrets_are_masked_in_lines_as_they_are_in_spans() {
    for (format, masked) in [
        (LogFormat::Text, r#"login{password=[masked]}: "#),
        (LogFormat::Json, r#"{"name":"login","password":"[masked]"}"#),
    ] {
        let lines = lines_of(format, false, "info", || {
            let span = tracing::info_span!("login", password = "hunter2");
            span.in_scope(|| tracing::info!(api_key = 12345, user.token = ?"hunter2", "in"));
        });
        assert!(lines[0].contains(masked), "{}", lines[0]);
        assert!(!lines[0].contains("hunter2") && !lines[0].contains("12345"), "{}", lines[0]);
    }
}
