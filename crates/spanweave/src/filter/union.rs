//! The global filter.

use std::sync::Arc;

use tracing_core::subscriber::Interest;
use tracing_core::{LevelFilter, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::directives::Directives;
use super::table::Verdict;

/// Lets through what the log or the spans want.
pub(crate) struct UnionFilter {
    log: Option<Arc<Directives>>,
    spans: Arc<Directives>,
}

impl UnionFilter {
    pub(crate) fn new(log: Option<Arc<Directives>>, spans: Arc<Directives>) -> Self {
        Self { log, spans }
    }

    /// The most verbose level that can pass.
    pub(crate) fn max_level(&self) -> LevelFilter {
        let log = self.log.as_ref().map_or(LevelFilter::OFF, |log| log.max_level());
        log.max(self.spans.max_level())
    }
}

impl<S: Subscriber> Layer<S> for UnionFilter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let log = self.log.as_ref().map_or(Verdict::Off, |log| log.verdict(metadata));
        match (log, self.spans.verdict(metadata)) {
            (Verdict::On, _) | (_, Verdict::On) => Interest::always(),
            (Verdict::Ask, _) => Interest::sometimes(),
            // The capture does not ask again.
            (Verdict::Off, _) => Interest::never(),
        }
    }

    /// Called for records of the `log` crate, and for all callsites where another subscriber in
    /// the process disagrees.
    fn enabled(&self, metadata: &Metadata<'_>, cx: Context<'_, S>) -> bool {
        self.log.as_ref().is_some_and(|log| log.filter().enabled(metadata, cx.clone()))
            || self.spans.filter().enabled(metadata, cx)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.max_level())
    }
}
