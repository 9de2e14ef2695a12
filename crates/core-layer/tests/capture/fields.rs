//! Fields of every kind, events, links, `otel.*`.

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{Array, Value};
use spanweave_core::SpanExt;
use tracing::field::Empty;

use crate::support::{fixture, named, spans_of, text, value};

#[test]
fn every_kind_of_value_keeps_its_type() {
    let spans = spans_of(|| {
        let _span = tracing::info_span!(
            "all",
            flag = true,
            small = 7_i64,
            unsigned = 8_u64,
            large = u64::MAX,
            wide = i128::MAX,
            wider = 5_u128,
            double = 1.5,
            text = "plain",
            debug = ?Some(3),
            display = %"shown"
        )
        .entered();
    });
    let span = named(&spans, "all");
    let get = |key| value(&span.attributes, key).unwrap();
    assert_eq!(get("flag"), Value::Bool(true));
    assert_eq!(get("small"), Value::I64(7));
    assert_eq!(get("unsigned"), Value::I64(8));
    assert_eq!(get("large"), Value::from(u64::MAX.to_string()));
    assert_eq!(get("wide"), Value::from(i128::MAX.to_string()));
    assert_eq!(get("wider"), Value::from("5"));
    assert_eq!(get("double"), Value::F64(1.5));
    assert_eq!(get("text"), Value::from("plain"));
    assert_eq!(get("debug"), Value::from("Some(3)"));
    assert_eq!(get("display"), Value::from("shown"));
}

#[test]
fn a_field_that_is_recorded_later_replaces_the_earlier_value() {
    let spans = spans_of(|| {
        let span = tracing::info_span!("late", rows = 1, user = Empty);
        span.record("rows", 2);
        span.record("user", "ann");
        let _entered = span.enter();
        span.record("rows", 3);
    });
    let span = named(&spans, "late");
    assert_eq!(value(&span.attributes, "rows"), Some(Value::I64(3)));
    assert_eq!(value(&span.attributes, "user"), Some(Value::from("ann")));
}

#[test]
fn list_attributes_and_counts_are_kept_as_lists() {
    let spans = spans_of(|| {
        let span = tracing::info_span!("ValidateUser");
        let errors = vec!["name is empty".into(), "mail has no @".into()];
        span.set_attribute("validation.errors", Value::Array(Array::String(errors)));
        span.set_attribute("validation.error_count", 2);
    });
    let span = named(&spans, "ValidateUser");
    assert!(matches!(
        value(&span.attributes, "validation.errors"),
        Some(Value::Array(Array::String(errors))) if errors.len() == 2
    ));
    assert_eq!(value(&span.attributes, "validation.error_count"), Some(Value::I64(2)));
}

#[test]
fn otel_fields_set_name_kind_and_status_and_are_no_attributes() {
    let spans = spans_of(|| {
        let span = tracing::info_span!(
            "callsite",
            otel.name = "GET /users/{id}",
            otel.kind = "server",
            otel.status_code = Empty,
            otel.status_description = Empty
        );
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", "no such user");
    });
    let span = named(&spans, "GET /users/{id}");
    assert_eq!(span.span_kind, SpanKind::Server);
    assert_eq!(span.status, Status::error("no such user"));
    assert!(span.attributes.iter().all(|attribute| !attribute.key.as_str().starts_with("otel.")));
}

#[test]
fn an_event_carries_its_message_level_fields_and_time() {
    let spans = spans_of(|| {
        let _span = tracing::info_span!("with event").entered();
        tracing::warn!(attempt = 2, "retrying {}", "soon");
        tracing::info!(target: "elsewhere", only = "fields");
    });
    let span = named(&spans, "with event");
    let event = &span.events[0];
    assert_eq!(event.name, "retrying soon");
    assert_eq!(text(&event.attributes, "level"), "WARN");
    assert_eq!(value(&event.attributes, "attempt"), Some(Value::I64(2)));
    assert!(event.timestamp >= span.start_time && event.timestamp <= span.end_time);
    assert_eq!(text(&span.events[1].attributes, "target"), "elsewhere");
    assert_eq!(text(&span.events[1].attributes, "only"), "fields");
}

#[test]
fn events_over_the_limit_are_counted_not_kept() {
    let spans = spans_of(|| {
        let _span = tracing::info_span!("chatty").entered();
        for number in 0..200 {
            tracing::info!(number, "tick");
        }
    });
    let span = named(&spans, "chatty");
    assert_eq!((span.events.len(), span.events.dropped_count), (128, 72));
}

#[test]
fn follows_from_is_a_link() {
    let spans = spans_of(|| {
        let cause = tracing::info_span!(parent: None, "cause");
        let effect = tracing::info_span!(parent: None, "effect");
        effect.follows_from(&cause);
        effect.follows_from(tracing::Span::none());
    });
    let (cause, effect) = (named(&spans, "cause"), named(&spans, "effect"));
    assert_eq!(effect.links.len(), 1);
    assert_eq!(effect.links[0].span_context.span_id(), cause.span_context.span_id());
    assert_ne!(effect.span_context.trace_id(), cause.span_context.trace_id());
}

#[test]
fn secrets_are_masked_by_key_wherever_they_stand() {
    let fixture = fixture();
    fixture.run(|| {
        let span =
            tracing::info_span!("login", password = "hunter2", user.token = "abc", tokens_used = 5);
        span.set_attribute("api_key", "k-123");
        let _entered = span.enter();
        tracing::info!(authorization = "Bearer xyz", "sent");
    });
    let span = fixture.only("login");
    for key in ["password", "user.token", "api_key"] {
        assert_eq!(text(&span.attributes, key), "[masked]");
    }
    assert_eq!(value(&span.attributes, "tokens_used"), Some(Value::I64(5)));
    assert_eq!(text(&span.events[0].attributes, "authorization"), "[masked]");
}

#[test]
fn a_span_says_where_it_is_in_the_code_and_on_which_thread() {
    let spans = spans_of(|| drop(tracing::info_span!("here").entered()));
    let span = named(&spans, "here");
    assert!(text(&span.attributes, "code.file.path").ends_with("fields.rs"));
    assert!(
        matches!(value(&span.attributes, "code.line.number"), Some(Value::I64(line)) if line > 0)
    );
    assert!(matches!(value(&span.attributes, "thread.id"), Some(Value::I64(_))));
    assert!(value(&span.attributes, "busy_ns").is_some());
}

#[test]
fn busy_and_idle_time_add_up_to_the_duration() {
    let spans = spans_of(|| {
        let span = tracing::info_span!("waits");
        std::thread::sleep(std::time::Duration::from_millis(20));
        span.in_scope(|| std::thread::sleep(std::time::Duration::from_millis(10)));
    });
    let span = named(&spans, "waits");
    let nanos = |key| match value(&span.attributes, key) {
        Some(Value::I64(nanos)) => nanos,
        other => panic!("{key}: {other:?}"),
    };
    let (busy, idle) = (nanos("busy_ns"), nanos("idle_ns"));
    assert!(busy >= 10_000_000 && idle >= 20_000_000, "busy {busy}, idle {idle}");
    let duration = span.end_time.duration_since(span.start_time).unwrap();
    assert_eq!(i128::from(busy + idle), duration.as_nanos() as i128);
}

#[test]
fn a_secret_field_stays_masked_when_it_is_set_from_outside() {
    use opentelemetry::trace::TraceContextExt;

    let fixture = fixture();
    fixture.run(|| {
        let span = tracing::info_span!("login", password = "first", token = Empty);
        span.set_attribute("password", "second");
        span.record("token", "third");
        span.context().span().set_attribute(opentelemetry::KeyValue::new("token", "fourth"));
    });
    let span = fixture.only("login");
    assert_eq!(text(&span.attributes, "password"), "[masked]");
    assert_eq!(text(&span.attributes, "token"), "[masked]");
}
