use std::ops::Deref;
use std::sync::Arc;

use spanweave_live::{Collector, CollectorConfig, StoredSpan, Trace, View};

use crate::{PATIENCE, describe};

/// A [`Collector`] with the questions that tests ask.
#[derive(Debug)]
pub struct TestCollector(Collector);

impl TestCollector {
    /// A collector on free ports of 127.0.0.1 that accepts everything.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(CollectorConfig::default())
    }

    /// A collector with a configuration of its own, such as a hook.
    #[must_use]
    #[track_caller]
    pub fn start_with(config: CollectorConfig) -> Self {
        match Collector::start(config) {
            Ok(collector) => Self(collector),
            Err(error) => panic!("the collector does not start: {error}"),
        }
    }

    /// The full URL of OTLP/HTTP traces, `http://127.0.0.1:port/v1/traces`.
    #[must_use]
    pub fn traces_url(&self) -> String {
        format!("{}/v1/traces", self.http_endpoint())
    }

    /// Waits until at least `count` spans are here and returns all.
    #[track_caller]
    pub fn wait_for_spans(&self, count: usize) -> Vec<Arc<StoredSpan>> {
        self.wait_until(&format!("{count} spans"), |view| view.len() >= count);
        self.store().spans()
    }

    /// Waits until a span of this name is here and returns the first one.
    #[track_caller]
    pub fn wait_for_span(&self, name: &str) -> Arc<StoredSpan> {
        self.wait_until(&format!("a span named {name:?}"), |view| {
            view.named(name).next().is_some()
        });
        Arc::clone(&self.store().spans_named(name)[0])
    }

    /// Waits until `condition` holds; it must not use the collector but the view that it is given.
    #[track_caller]
    pub fn wait_until(&self, what: &str, condition: impl FnMut(&View<'_>) -> bool) {
        if !self.store().wait_for(condition, PATIENCE) {
            panic!("no {what} after {PATIENCE:?}; here is {}", self.listing());
        }
    }

    /// The spans of this name that are here now.
    #[must_use]
    pub fn spans_named(&self, name: &str) -> Vec<Arc<StoredSpan>> {
        self.store().spans_named(name)
    }

    /// The one span of this name that is here now; panics where there are none or several.
    #[must_use]
    #[track_caller]
    pub fn span_named(&self, name: &str) -> Arc<StoredSpan> {
        match self.spans_named(name).as_slice() {
            [span] => Arc::clone(span),
            spans => panic!(
                "{} spans named {name:?} instead of one; here is {}",
                spans.len(),
                self.listing()
            ),
        }
    }

    /// The trace of a span, as far as it is here.
    #[must_use]
    #[track_caller]
    pub fn trace_of(&self, span: &StoredSpan) -> Trace {
        match self.store().trace(span.trace_id) {
            Some(trace) => trace,
            None => panic!("no trace {}; here is {}", span.trace_id, self.listing()),
        }
    }

    /// Number of different spans that are here.
    #[must_use]
    pub fn unique_spans(&self) -> usize {
        self.store().len()
    }

    fn listing(&self) -> String {
        /// A failure's text stays readable.
        const MOST: usize = 50;
        let spans = self.store().spans();
        let mut text = format!("{} spans", spans.len());
        for span in spans.iter().take(MOST) {
            text.push_str("\n  ");
            text.push_str(&describe(span));
        }
        if spans.len() > MOST {
            text.push_str("\n  …");
        }
        text
    }
}

impl Deref for TestCollector {
    type Target = Collector;

    fn deref(&self) -> &Collector {
        &self.0
    }
}
