//! What `spanweave::testing` promises to an application's tests.

use std::time::Duration;

use opentelemetry::trace::{SpanKind, Status};
use spanweave::testing;
use spanweave::{EndingSpan, Sampler, SpanExt, SpanHook, StartingSpan};

#[test]
fn a_span_is_seen_with_all_that_is_known_of_it() {
    let (spans, _guard) = testing::capture();
    let cause = tracing::info_span!("cause");
    let linked = cause.span_context();
    tracing::info_span!("CreateUser", otel.kind = "client", user.id = 7_u64, ratio = 0.5).in_scope(
        || {
            tracing::Span::current().add_link(linked.clone());
            tracing::warn!(attempt = 2, "slow");
            let error = "x".parse::<u8>().unwrap_err();
            tracing::Span::current().record_error(&error);
        },
    );
    let span = spans.get("CreateUser");
    span.assert_root();
    span.assert_error();
    span.assert_attribute("user.id", 7);
    span.assert_attribute("ratio", 0.5);
    assert_eq!(span.kind, SpanKind::Client);
    assert_eq!(span.links, [linked]);
    assert_eq!(span.event("slow").unwrap().attribute("attempt"), Some(&2.into()));
    assert!(span.event("exception").is_some());
    assert!(span.error_type.as_deref().is_some_and(|class| class.contains("ParseIntError")));
    assert!(
        span.duration < Duration::from_secs(60)
            && span.start.elapsed().unwrap() < Duration::from_secs(60)
    );
}

#[test]
fn children_know_their_parents() {
    let (spans, _guard) = testing::capture();
    tracing::info_span!("a").in_scope(|| tracing::debug_span!("b").in_scope(|| ()));
    tracing::info_span!("other").in_scope(|| ());
    let (a, b, other) = (spans.get("a"), spans.get("b"), spans.get("other"));
    b.assert_child_of(&a);
    assert!(!b.is_child_of(&other) && b.trace_id != other.trace_id);
    assert_eq!(b.status, Status::Unset);
    b.assert_no_error();
    spans.clear();
    assert!(spans.finished().is_empty() && spans.find("a").is_none());
}

#[test]
fn two_captures_do_not_see_each_other() {
    let other = std::thread::spawn(|| {
        let (spans, _guard) = testing::capture();
        for _ in 0..100 {
            tracing::info_span!("there").in_scope(|| ());
        }
        spans.finished()
    });
    let (spans, guard) = testing::capture();
    for _ in 0..100 {
        tracing::info_span!("here").in_scope(|| ());
    }
    let (here, there) = (spans.finished(), other.join().unwrap());
    assert!(here.len() == 100 && here.iter().all(|span| span.name == "here"));
    assert!(there.len() == 100 && there.iter().all(|span| span.name == "there"));
    drop(guard);
    tracing::info_span!("after").in_scope(|| ());
    assert!(spans.find("after").is_none());
}

#[test]
#[should_panic(expected = r#"expected one span "c" among the finished ones: ["a"]"#)]
fn a_missing_span_is_named_with_those_that_are_there() {
    let (spans, _guard) = testing::capture();
    tracing::info_span!("a").in_scope(|| ());
    spans.get("c");
}

struct Tenant;
impl SpanHook for Tenant {
    fn on_start(&self, span: &mut StartingSpan<'_>) {
        span.set_attribute("tenant", "t1");
    }
    fn on_ending(&self, span: &mut EndingSpan<'_>) {
        if span.name() == "quiet" {
            span.set_name("renamed");
        }
    }
}

#[test]
fn the_builders_settings_hold_in_tests() {
    let (spans, _guard) = testing::capture_with(|builder| {
        builder.processor(Tenant).sampler(Sampler::always_off().keep_errors()).service_name("users")
    });
    tracing::info_span!("quiet").in_scope(|| ());
    tracing::info_span!("loud")
        .in_scope(|| tracing::Span::current().set_status(Status::error("no")));
    let all = spans.finished();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].assert_attribute("tenant", "t1");
    assert_eq!(all[0].status, Status::error("no"));
}

#[tokio::test]
async fn spans_of_async_code_are_captured() {
    let (spans, _guard) = testing::capture();
    let result = spanweave::traced("fetch", async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Err::<(), _>(std::io::Error::other("down"))
    })
    .await;
    assert!(result.is_err());
    spans.get("fetch").assert_error();
}
