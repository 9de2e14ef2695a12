//! Tasks of tokio that keep the span they were spawned in.
//!
//! `tokio::spawn` starts work that knows nothing of the current span: its spans begin traces of
//! their own. [`spawn`] and [`JoinSetExt`] take the current span, and the current OpenTelemetry
//! context with its baggage, along; the span stays open until the task is done.
//!
//! Work that lost its parent anyway is counted by [`DetachedSpans`].

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::Poll;

use opentelemetry::Context;
use opentelemetry::trace::SpanKind;
use pin_project_lite::pin_project;
use spanweave_core::sync::lock;
use spanweave_core::{Measurement, SpanEnd, SpanObserver};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tracing::{Instrument, instrument::Instrumented};
use tracing_core::Metadata;

/// As `tokio::spawn`, in the current span and context.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use spanweave_instrumentation::tasks;
///
/// let request = tracing::info_span!("request").entered();
/// let task = tasks::spawn(async { tracing::info_span!("later").in_scope(|| 7) });
/// drop(request);
/// assert_eq!(task.await.unwrap(), 7);
/// # }
/// ```
///
/// # Panics
/// Outside of a runtime, as `tokio::spawn`.
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(Carried::new(future))
}

/// As `tokio::task::spawn_blocking`, in the current span and context.
///
/// # Panics
/// Outside of a runtime, as there.
#[track_caller]
pub fn spawn_blocking<F, R>(work: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    tokio::task::spawn_blocking(carried(work))
}

/// Spawning into a `JoinSet` in the current span and context.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use spanweave_instrumentation::tasks::JoinSetExt;
///
/// let mut parts = tokio::task::JoinSet::new();
/// for part in 0..3 {
///     parts.spawn_carried(async move { tracing::info_span!("part", part).in_scope(|| part) });
/// }
/// assert_eq!(parts.join_all().await.len(), 3);
/// # }
/// ```
pub trait JoinSetExt<T> {
    /// As `JoinSet::spawn`.
    ///
    /// # Panics
    /// Outside of a runtime, as there.
    #[track_caller]
    fn spawn_carried<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send;

    /// As `JoinSet::spawn_blocking`.
    ///
    /// # Panics
    /// Outside of a runtime, as there.
    #[track_caller]
    fn spawn_blocking_carried<F>(&mut self, work: F) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send;
}

impl<T: 'static> JoinSetExt<T> for JoinSet<T> {
    #[track_caller]
    fn spawn_carried<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send,
    {
        self.spawn(Carried::new(future))
    }

    #[track_caller]
    fn spawn_blocking_carried<F>(&mut self, work: F) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send,
    {
        self.spawn_blocking(carried(work))
    }
}

fn carried<R>(work: impl FnOnce() -> R) -> impl FnOnce() -> R {
    let (context, span) = (Context::current(), tracing::Span::current());
    move || {
        let _attached = context.attach();
        span.in_scope(work)
    }
}

pin_project! {
    /// A future in a span and a context.
    struct Carried<F> {
        #[pin]
        inner: Instrumented<F>,
        context: Context,
    }
}

impl<F: Future> Carried<F> {
    fn new(future: F) -> Self {
        Self { inner: future.in_current_span(), context: Context::current() }
    }
}

impl<F: Future> Future for Carried<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _attached = this.context.clone().attach();
        this.inner.poll(cx)
    }
}

/// Places in the code whose detached spans are told apart.
const MAX_PLACES: usize = 256;

/// Counts spans that begin a trace of their own on a task of tokio although nobody told them to:
/// most likely the task was spawned without its span.
///
/// Counted is a span that would have taken the current span as its parent, found none (nor a remote
/// one, nor was it given one later), is of the kind internal, client or producer, and ends on a
/// task. Whether it *lost* a parent cannot be known: a task that never belonged to a request, such
/// as a timer's, is counted too, unless its spans say `parent: None`. The main future of a runtime
/// is no task, nor is a thread of `spawn_blocking`.
///
/// An observer of a pipeline; `spanweave` adds it with feature `tokio`.
#[derive(Debug, Default)]
pub struct DetachedSpans {
    places: Mutex<HashMap<Place, u64>>,
}

/// The metadata of a callsite, by its address: it is one for each.
#[derive(Clone, Copy, Debug)]
struct Place(&'static Metadata<'static>);

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Place {}

impl std::hash::Hash for Place {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::ptr::from_ref(self.0).hash(state);
    }
}

/// Detached spans of one place in the code.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Detached {
    /// The span's name in the code.
    pub name: &'static str,
    /// Its target.
    pub target: &'static str,
    /// The file, if it is known.
    pub file: Option<&'static str>,
    /// The line, if it is known.
    pub line: Option<u32>,
    /// How many.
    pub count: u64,
}

impl DetachedSpans {
    /// What was counted, the most first. At most 256 places; those that come later are not told.
    pub fn counts(&self) -> Vec<Detached> {
        let mut counts: Vec<_> = lock(&self.places)
            .iter()
            .map(|(Place(metadata), count)| Detached {
                name: metadata.name(),
                target: metadata.target(),
                file: metadata.file(),
                line: metadata.line(),
                count: *count,
            })
            .collect();
        counts.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(b.name)));
        counts
    }
}

impl SpanObserver for DetachedSpans {
    fn ended(&self, span: &SpanEnd<'_>) -> Measurement {
        if let Some(metadata) = span.metadata()
            && span.found_no_parent()
            && matches!(span.kind(), SpanKind::Internal | SpanKind::Client | SpanKind::Producer)
            && tokio::task::try_id().is_some()
        {
            let mut places = lock(&self.places);
            if places.len() < MAX_PLACES || places.contains_key(&Place(metadata)) {
                *places.entry(Place(metadata)).or_default() += 1;
            }
        }
        Measurement::default()
    }
}
