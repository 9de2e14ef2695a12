use std::sync::{Arc, Mutex};

use spanweave_core::sync::lock;
use tracing_core::span::{Attributes, Id};
use tracing_core::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

use super::*;

/// Remembers the names of spans and events that reach it.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        lock(&self.0).push(attributes.metadata().name().to_owned());
    }
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        lock(&self.0).push(event.metadata().level().to_string());
    }
}

impl Seen {
    fn all(&self) -> Vec<String> {
        lock(&self.0).clone()
    }
}

/// What the log sees, and what passes the global filter, while `act` runs.
fn seen(log: Option<&str>, spans: Option<&str>, act: impl FnOnce()) -> (Vec<String>, Vec<String>) {
    let mut warnings = Vec::new();
    let log = log.map(|log| Arc::new(Directives::for_log(Some(log), &mut warnings)));
    let spans = Arc::new(Directives::for_spans(spans, &mut warnings));
    assert_eq!(warnings, []);
    let (logged, passed) = (Seen::default(), Seen::default());
    let gate = log.clone().map(|log| Gated::new(logged.clone(), log));
    let filter = UnionFilter::new(log, spans);
    let subscriber = Registry::default().with(passed.clone()).with(gate).with(filter);
    tracing::subscriber::with_default(subscriber, act);
    (logged.all(), passed.all())
}

fn program() {
    let _outer = tracing::info_span!("outer").entered();
    tracing::info!("i");
    tracing::debug!("d");
    let _inner = tracing::debug_span!("inner").entered();
    tracing::error!("e");
}

#[test]
fn a_quiet_log_leaves_spans_alone() {
    let (logged, passed) = seen(Some("error"), None, program);
    assert_eq!(logged, ["ERROR"]);
    assert_eq!(passed, ["outer", "INFO", "ERROR"]);
}

#[test]
fn a_loud_log_is_not_cut_by_the_span_filter() {
    let (logged, _) = seen(Some("debug"), Some("error"), program);
    assert_eq!(logged, ["outer", "INFO", "DEBUG", "inner", "ERROR"]);
}

#[test]
fn without_a_log_only_the_span_filter_counts() {
    let (logged, passed) = seen(None, Some("debug"), program);
    assert!(logged.is_empty());
    assert_eq!(passed.len(), 5);
}

#[test]
fn what_nobody_wants_is_disabled_at_its_callsite() {
    let mut enabled = None;
    let (..) = seen(Some("warn"), Some("info"), || {
        enabled = Some((
            tracing::enabled!(tracing::Level::INFO),
            tracing::enabled!(tracing::Level::DEBUG),
        ));
    });
    assert_eq!(enabled, Some((true, false)));
}

#[test]
fn query_events_pass_by_default_and_internals_do_not() {
    let (_, passed) = seen(Some("off"), None, || {
        tracing::debug!(target: "sqlx::query", "query");
        tracing::debug!(target: "sqlx::other", "other");
        tracing::info_span!(target: "hyper::client", "hyper").in_scope(|| ());
        tracing::info_span!(target: "hyperspace", "own").in_scope(|| ());
        tracing::info_span!(target: "tower_http::trace", "request").in_scope(|| ());
        tracing::info_span!(target: "spanweave::http::server", "GET").in_scope(|| ());
        tracing::info_span!(target: "opentelemetry_sdk", "sdk").in_scope(|| ());
    });
    assert_eq!(passed, ["DEBUG", "own", "request", "GET"]);
}

#[test]
fn the_capture_takes_what_its_filter_names() {
    let mut warnings = Vec::new();
    let directives = Directives::for_spans(Some("info,hyper=info"), &mut warnings);
    let takes =
        |span: tracing::Span| span.metadata().is_some_and(|metadata| directives.takes(metadata));
    tracing::subscriber::with_default(Registry::default(), || {
        assert!(takes(tracing::info_span!("own")));
        assert!(!takes(tracing::debug_span!("own")));
        assert!(takes(tracing::info_span!(target: "hyper::client", "named")));
        assert!(!takes(tracing::info_span!(target: "h2::client", "internal")));
    });
}
