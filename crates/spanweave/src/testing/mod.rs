//! Tests of an application's own spans, without globals.
//!
//! [`capture`] makes a subscriber the default of the current thread and keeps every span that ends
//! in memory, as a backend would get it: masked, with its error class. Several tests run at the
//! same time without seeing each other.
//!
//! ```
//! use spanweave::testing;
//!
//! #[tracing::instrument(err)]
//! fn pay(amount: u64) -> Result<(), std::num::TryFromIntError> {
//!     tracing::info!("paying");
//!     u8::try_from(amount).map(drop)
//! }
//!
//! let (spans, _guard) = testing::capture();
//! tracing::info_span!("order", password = "hunter2").in_scope(|| pay(1000)).unwrap_err();
//!
//! let (order, pay) = (spans.get("order"), spans.get("pay"));
//! pay.assert_child_of(&order);
//! pay.assert_attribute("amount", 1000);
//! pay.assert_error();
//! assert_eq!(pay.events[0].name, "paying");
//! order.assert_attribute("password", "[masked]");
//! assert_eq!(spans.finished().len(), 2);
//! ```
//!
//! The default is the thread's. `#[tokio::test]` runs everything on its own thread and just works;
//! work on other threads takes it along:
//!
//! ```
//! # let (spans, _guard) = spanweave::testing::capture();
//! let dispatch = tracing::dispatcher::get_default(Clone::clone);
//! std::thread::spawn(move || {
//!     tracing::dispatcher::with_default(&dispatch, || tracing::info_span!("elsewhere").in_scope(|| ()))
//! })
//! .join()
//! .unwrap();
//! assert!(spans.find("elsewhere").is_some());
//! ```

// From the pipeline into memory.
mod memory;

mod span;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use crate::builder::Builder;
use crate::env::EnvConfig;
use crate::telemetry::Telemetry;
use memory::Memory;

pub use span::{TestEvent, TestSpan};

/// How long [`TestSpans::finished`] waits for spans that are on their way. They need microseconds;
/// a busy machine needs more.
const DEADLINE: Duration = Duration::from_secs(10);

/// Captures spans of every level on this thread until the guard is dropped.
pub fn capture() -> (TestSpans, TestGuard) {
    capture_with(|builder| builder)
}

/// As [`capture`], with the builder's settings: a sampler, hooks, masking. Nothing comes from the
/// environment.
///
/// ```
/// use spanweave::{Sampler, testing};
///
/// let sampler = Sampler::always_off().keep_named(["order"]);
/// let (spans, _guard) = testing::capture_with(|builder| builder.sampler(sampler));
/// tracing::info_span!("order").in_scope(|| ());
/// tracing::info_span!("other").in_scope(|| ());
/// assert_eq!(spans.finished().len(), 1);
/// ```
///
/// # Panics
///
/// If the builder's settings do not start.
#[track_caller]
pub fn capture_with(configure: impl FnOnce(Builder) -> Builder) -> (TestSpans, TestGuard) {
    let memory = Arc::new(Memory::default());
    let builder = Builder::new(EnvConfig::default(), Vec::new()).span_filter("trace");
    let (layer, telemetry) = match configure(builder).sink(Arc::clone(&memory) as _).build() {
        Ok(parts) => parts,
        Err(error) => panic!("the capture of spans does not start: {error}"),
    };
    let default = tracing::subscriber::set_default(Registry::default().with(layer));
    let telemetry = Arc::new(telemetry);
    let spans = TestSpans { memory, telemetry: Arc::clone(&telemetry) };
    (spans, TestGuard { _default: default, _telemetry: telemetry })
}

/// The spans that have ended since [`capture`].
#[derive(Clone)]
pub struct TestSpans {
    memory: Arc<Memory>,
    telemetry: Arc<Telemetry>,
}

impl TestSpans {
    /// All of them, in the order in which they ended on each thread.
    pub fn finished(&self) -> Vec<TestSpan> {
        self.telemetry.flush(DEADLINE);
        self.memory.spans()
    }

    /// The first one of that name.
    pub fn find(&self, name: &str) -> Option<TestSpan> {
        self.finished().into_iter().find(|span| span.name == name)
    }

    /// The only one of that name.
    ///
    /// # Panics
    ///
    /// If there is none, or more than one; the message lists the names.
    #[track_caller]
    pub fn get(&self, name: &str) -> TestSpan {
        let all = self.finished();
        let mut found = all.iter().filter(|span| span.name == name);
        match (found.next(), found.next()) {
            (Some(span), None) => span.clone(),
            _ => {
                let names: Vec<_> = all.iter().map(|span| span.name.as_str()).collect();
                panic!("expected one span {name:?} among the finished ones: {names:?}")
            }
        }
    }

    /// Forgets what has ended so far.
    pub fn clear(&self) {
        self.telemetry.flush(DEADLINE);
        self.memory.clear();
    }

    /// The telemetry behind it: reports, metrics, a tracer provider.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}

impl fmt::Debug for TestSpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestSpans").field(&self.memory.spans()).finish()
    }
}

/// Keeps the capture going on this thread; dropping it restores what was there before.
#[must_use = "dropping it ends the capture"]
pub struct TestGuard {
    _default: DefaultGuard,
    _telemetry: Arc<Telemetry>,
}

impl fmt::Debug for TestGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestGuard").finish_non_exhaustive()
    }
}
