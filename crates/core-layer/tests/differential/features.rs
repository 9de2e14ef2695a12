//! Each feature once, by hand.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue, Value};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::facts::Facts;
use crate::normalise::{Spans, compare, normalise};
use crate::run::{Kind, Run};

/// Runs `program` in all three ways; the spans are the same.
fn same(program: impl Fn(&Run)) -> Spans {
    let facts = Facts::default();
    let [ours, bridge, stock] = Run::all(true).map(|run| {
        run.scope(|| program(&run));
        normalise(run.kind, &run.finished(), &facts)
    });
    assert!(!ours.is_empty());
    for (kind, theirs) in [("bridge", bridge), ("stock", stock)] {
        if let Err(report) = compare(&ours, &theirs, &facts) {
            panic!("{kind}: {report}");
        }
    }
    ours
}

fn remote() -> Context {
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from(7),
        SpanId::from(8),
        TraceFlags::SAMPLED,
        true,
        TraceState::from_key_value([("vendor", "x")]).unwrap(),
    ))
}

#[derive(Debug)]
struct Refused(io::Error);

impl Refused {
    fn new() -> Self {
        Self(io::Error::new(io::ErrorKind::TimedOut, "no answer"))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("payment refused")
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn fields_of_every_kind() {
    let spans = same(|_| {
        let span = tracing::info_span!(
            "fields",
            bool = true,
            small = -3i8,
            long = i64::MIN,
            unsigned = 7u64,
            unsigned_huge = u64::MAX,
            size = 3usize,
            wide_small = 5i128,
            wide = i128::MAX,
            wide_unsigned = u128::MAX,
            float = 1.5,
            text = "plain",
            owned = String::from("owned"),
            display = %"shown",
            debug = ?Some("inner"),
            some = Some(4),
            none = None::<i64>,
            dotted.key = 1,
            "quoted key" = 2,
        );
        drop(span);
    });
    assert_eq!(spans["fields"].attributes["unsigned"], 7.into());
    assert!(!spans["fields"].attributes.contains_key("none"));
}

#[test]
fn fields_that_are_recorded_afterwards() {
    same(|_| {
        let span = tracing::info_span!("late", early = 1, late = Empty, never = Empty);
        span.record("late", 2).record("early", "replaced");
        span.in_scope(|| drop(Span::current().record("late", 3).clone()));
        span.record("unknown", 1);
    });
}

#[test]
fn events_of_all_levels() {
    let spans = same(|_| {
        let _entered = tracing::info_span!("events").entered();
        tracing::trace!(number = 1, "trace");
        tracing::debug!("debug {}", 2);
        tracing::info!(target: "elsewhere", only = "fields");
        tracing::info!(name: "named", only = "fields");
        tracing::warn!(quoted = "a", level = "mine", "warn");
        tracing::info!("");
        tracing::error!("error");
        tracing::info!(parent: None, "lost");
    });
    assert_eq!(spans["events"].events.len(), 7);
    assert_eq!(spans["events"].status, Status::error(""));
}

#[test]
fn errors_as_values_and_as_text() {
    same(|_| {
        let error = Refused::new();
        let field = tracing::info_span!("field", failure = &error as &dyn Error);
        field.in_scope(|| tracing::info!("no error"));
        let recorded = tracing::info_span!("recorded", failure = Empty);
        recorded.record("failure", &error as &dyn Error);
        tracing::info_span!("event").in_scope(|| {
            tracing::error!(error = &error as &dyn Error, "gave up");
        });
        tracing::info_span!("two").in_scope(|| {
            tracing::error!(error = &error as &dyn Error, "first");
            tracing::error!(error = &error.0 as &dyn Error, "second, without a source");
        });
        tracing::info_span!("display").in_scope(|| tracing::error!(error = %error));
        tracing::info_span!("debug").in_scope(|| tracing::error!(error = ?error));
        tracing::info_span!("text").in_scope(|| tracing::error!(error = "plain"));
        tracing::info_span!("warning").in_scope(|| tracing::warn!(error = %error));
        tracing::info_span!("told").in_scope(|| tracing::warn!(error = %error, "with message"));
    });
}

#[tracing::instrument(err, ret, skip(secret), fields(extra = number + 1))]
fn displayed(number: u32, secret: &str) -> Result<u32, Refused> {
    if secret.is_empty() { Ok(number) } else { Err(Refused::new()) }
}

#[tracing::instrument(name = "renamed", level = "warn", err(Debug, level = "info"), skip_all)]
fn debugged() -> Result<(), Refused> {
    Err(Refused::new())
}

#[tracing::instrument]
async fn nested(depth: u32) -> u32 {
    tokio::task::yield_now().await;
    tracing::info!(depth, "inside");
    if depth == 0 { 0 } else { Box::pin(leaf(depth)).await }
}

#[tracing::instrument(ret)]
async fn leaf(depth: u32) -> u32 {
    tokio::time::sleep(Duration::from_millis(1)).await;
    depth
}

#[test]
fn instrumented_functions() {
    same(|_| {
        assert!(displayed(1, "").is_ok());
        tracing::info_span!("outer").in_scope(|| assert!(debugged().is_err()));
    });
    let spans = same(|_| assert!(displayed(2, "secret").is_err()));
    assert_eq!(spans["displayed"].status, Status::error("payment refused"));
}

#[test]
fn interleaved_tasks() {
    let spans = same(|_| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let task = |name: &'static str| {
            let span = tracing::info_span!("task", otel.name = name);
            async move {
                for round in 0..3 {
                    let span = tracing::info_span!("round", otel.name = format!("{name}{round}"));
                    tokio::task::yield_now().instrument(span).await;
                    tracing::info!(round, "done");
                }
            }
            .instrument(span)
        };
        runtime.block_on(async {
            let root = tracing::info_span!("root");
            async {
                tokio::join!(task("a"), task("b"), nested(1));
            }
            .instrument(root)
            .await;
        });
    });
    assert_eq!(spans["a2"].parent.span, "a");
    assert_eq!(spans["leaf"].parent.span, "nested");
}

#[test]
fn threads() {
    let spans = same(|run| {
        let root = tracing::info_span!("root");
        let entered = root.enter();
        std::thread::scope(|scope| {
            let root = root.clone();
            let thread = std::thread::Builder::new().name("named".into());
            let work = move || {
                run.scope(|| {
                    let _child = tracing::info_span!(parent: &root, "child").entered();
                    drop(tracing::info_span!("grandchild"));
                    root.in_scope(|| tracing::info!("from the thread"));
                    drop(tracing::info_span!(parent: None, "alone").entered());
                    drop(root);
                });
            };
            thread.spawn_scoped(scope, work).unwrap();
        });
        drop(entered);
    });
    assert_eq!(spans["child"].parent.span, "root");
    assert_eq!(spans["alone"].parent.span, "none");
}

#[test]
fn links() {
    let spans = same(|run| {
        let first = tracing::info_span!("first");
        let second = tracing::info_span!("second");
        second.follows_from(&first);
        second.follows_from(None);
        run.add_link(&second, remote().span().span_context().clone());
        second.in_scope(|| drop(Span::current().follows_from(first.id()).clone()));
    });
    assert_eq!(spans["second"].links.len(), 3);
}

#[test]
fn fields_of_opentelemetry() {
    same(|_| {
        let kinds = ["server", "CLIENT", "Producer", "consumer", "internal", "nonsense"];
        for kind in kinds {
            drop(tracing::info_span!("kind", otel.name = kind, otel.kind = kind));
        }
        drop(tracing::info_span!("debug", otel.name = ?"quoted", otel.kind = ?"server"));
        drop(tracing::info_span!("ok", otel.status_code = "OK"));
        drop(tracing::info_span!("error", otel.status_code = "error"));
        drop(tracing::info_span!("told", otel.status_description = "why"));
        let late = tracing::info_span!("late", otel.name = Empty, otel.kind = Empty);
        late.record("otel.name", "in time").record("otel.kind", "client");
    });
}

#[test]
fn the_extension() {
    let spans = same(|run| {
        let span = tracing::info_span!("extended", key = 1);
        run.set_attribute(&span, "key", 2.into());
        run.set_attribute(&span, "list", Value::Array(vec![1i64, 2].into()));
        run.set_status(&span, Status::Ok);
        let failed = tracing::info_span!("failed");
        run.record_error(&failed, &Refused::new());
        // None of these has given ids away.
        for span in [&span, &failed] {
            assert!(run.set_parent(span, remote()));
        }
    });
    assert_eq!(spans["extended"].parent.span, "given 8");
}

#[test]
fn parents_in_other_processes() {
    let spans = same(|run| {
        {
            let _attached = remote().attach();
            let _server = tracing::info_span!("attached").entered();
            drop(tracing::info_span!("child of attached"));
        }
        let server = tracing::info_span!("set");
        assert!(run.set_parent(&server, remote()));
        server.in_scope(|| drop(tracing::info_span!("child of set")));
        assert_eq!(run.span_context(&server).trace_id(), TraceId::from(7));
        assert!(!run.set_parent(&server, remote()));
    });
    assert!(spans["attached"].parent_is_remote && spans["set"].parent_is_remote);
    assert_eq!(spans["child of set"].context.state, "vendor=x");
}

#[test]
fn spans_of_both_apis_in_one_another() {
    let spans = same(|run| {
        let _outer = tracing::info_span!("outer").entered();
        run.tracer.in_span("api", |cx| {
            cx.span().set_attribute(KeyValue::new("a", 1));
            let inner = tracing::info_span!("inner").entered();
            tracing::info!("to the inner one");
            let current = Context::current();
            current.span().add_event("by the api", vec![KeyValue::new("b", 2)]);
            current.span().set_attribute(KeyValue::new("c", 3));
            run.tracer.in_span("api of inner", |_| {});
            drop(inner);
            tracing::info!("to the outer one");
        });
        let far = tracing::info_span!("far");
        run.tracer.start_with_context("api of far", &run.context(&far));
    });
    assert_eq!(spans["inner"].parent.span, "api");
    assert_eq!(spans["api of far"].parent.span, "far");
}

#[test]
fn a_context_that_outlives_its_span() {
    let spans = same(|run| {
        let cx = tracing::info_span!("over").in_scope(Context::current);
        let _attached = cx.attach();
        drop(tracing::info_span!("after"));
        run.tracer.in_span("api after", |_| {});
    });
    assert_eq!(spans["after"].parent.span, "over");
    assert_eq!(spans["api after"].parent.span, "over");
}

#[test]
fn records_of_the_log_crate() {
    same(|_| {
        let _entered = tracing::info_span!("logged").entered();
        for level in [log::Level::Error, log::Level::Info] {
            let record = log::Record::builder()
                .level(level)
                .target("library")
                .module_path(Some("library::part"))
                .file(Some("part.rs"))
                .line(Some(7))
                .args(format_args!("by log"))
                .build();
            tracing_log::format_trace(&record).unwrap();
        }
    });
}

#[test]
fn panics_are_seen_by_ours_only() {
    same(|_| {
        let panicked = std::panic::catch_unwind(|| {
            let _entered = tracing::info_span!("panics").entered();
            std::panic::resume_unwind(Box::new("without a message of the hook"));
        });
        assert!(panicked.is_err());
    });
}

#[test]
fn a_span_that_follows_from_itself_is_no_deadlock_with_ours() {
    let run = Run::new(Kind::Native, true);
    run.scope(|| {
        let span = tracing::info_span!("itself");
        span.follows_from(&span);
    });
    let spans = normalise(run.kind, &run.finished(), &Facts::default());
    assert_eq!(spans["itself"].links[0].0.span, "itself");
}
