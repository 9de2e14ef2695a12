//! Errors and panics.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use opentelemetry::trace::Status;
use spanweave_core::SpanExt;

use crate::support::{error_of, fixture, named, spans_of, text};

#[derive(Debug)]
struct Refused {
    source: std::io::Error,
}

impl Refused {
    fn new() -> Self {
        Self { source: std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer") }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("payment refused")
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

#[test]
fn a_recorded_error_sets_status_event_and_type() {
    let spans = spans_of(|| {
        let span = tracing::info_span!("ProcessPayment");
        span.record_error(&Refused::new());
    });
    let span = named(&spans, "ProcessPayment");
    assert_eq!(error_of(span), "payment refused");
    let event = &span.events[0];
    assert_eq!(event.name, "exception");
    assert!(text(&event.attributes, "exception.type").ends_with("errors::Refused"));
    assert_eq!(text(&event.attributes, "exception.message"), "payment refused");
    assert_eq!(text(&event.attributes, "exception.stacktrace"), "Caused by: no answer");
    assert!(text(&span.attributes, "error.type").ends_with("errors::Refused"));
}

#[test]
fn an_error_of_unknown_type_gets_the_class_of_a_known_source() {
    let spans = spans_of(|| {
        let span = tracing::info_span!("unknown");
        let error: Box<dyn Error> = Box::new(Refused::new());
        span.record_dyn_error(error.as_ref());
    });
    let class = text(&named(&spans, "unknown").attributes, "error.type");
    assert_eq!(class, "std::io::ErrorKind::TimedOut");
}

#[test]
fn an_error_field_tells_its_source_chain() {
    let spans = spans_of(|| {
        let _span = tracing::info_span!("field").entered();
        let error = Refused::new();
        tracing::error!(error = &error as &dyn Error, "gave up");
    });
    let span = named(&spans, "field");
    assert!(matches!(span.status, Status::Error { .. }));
    let event = &span.events[0];
    assert_eq!(event.name, "gave up");
    assert_eq!(text(&event.attributes, "error"), "payment refused");
    assert_eq!(text(&event.attributes, "error.chain"), r#"["no answer"]"#);
    assert_eq!(text(&span.attributes, "exception.message"), "payment refused");
    assert_eq!(text(&span.attributes, "error.type"), "std::io::ErrorKind::TimedOut");
}

#[test]
fn an_instrumented_function_that_fails_marks_its_span() {
    #[tracing::instrument(err)]
    fn displayed() -> Result<(), Refused> {
        Err(Refused::new())
    }
    #[tracing::instrument(err(Debug))]
    fn debugged() -> Result<(), Refused> {
        Err(Refused::new())
    }
    let spans = spans_of(|| {
        assert!(displayed().is_err());
        assert!(debugged().is_err());
    });
    let span = named(&spans, "displayed");
    assert_eq!(error_of(span), "payment refused");
    assert_eq!(span.events[0].name, "exception");
    assert_eq!(text(&span.events[0].attributes, "exception.message"), "payment refused");
    assert_eq!(text(&span.attributes, "error.type"), "_OTHER");
    assert_eq!(text(&named(&spans, "debugged").attributes, "error.type"), "Refused");
}

#[test]
fn a_traced_function_records_the_type_of_its_error() {
    let fixture = fixture();
    fixture.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let failed: Result<(), _> =
            runtime.block_on(spanweave_core::traced("PlaceOrder", async { Err(Refused::new()) }));
        assert!(failed.is_err());
    });
    let span = fixture.only("PlaceOrder");
    assert!(text(&span.attributes, "code.file.path").ends_with("capture/errors.rs"));
    assert!(text(&span.attributes, "error.type").ends_with("errors::Refused"));
    assert_eq!(error_of(&span), "payment refused");
}

#[test]
fn the_field_error_type_wins_over_the_status_code_and_that_over_the_type() {
    let spans = spans_of(|| {
        let span =
            tracing::info_span!("both", error.type = "timeout", http.response.status_code = 504);
        span.record_error(&Refused::new());
        let span = tracing::info_span!("code", http.response.status_code = 503);
        span.record_error(&Refused::new());
    });
    assert_eq!(text(&named(&spans, "both").attributes, "error.type"), "timeout");
    assert_eq!(text(&named(&spans, "code").attributes, "error.type"), "503");
}

#[test]
fn a_panic_marks_the_spans_it_leaves_and_the_parent_stack_stays_intact() {
    spanweave_core::install_panic_hook();
    let fixture = fixture();
    fixture.run(|| {
        let _outer = tracing::info_span!("outer").entered();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            struct OpensWhileUnwinding;
            impl Drop for OpensWhileUnwinding {
                fn drop(&mut self) {
                    drop(tracing::info_span!("cleanup").entered());
                }
            }
            let _inner = tracing::info_span!("inner").entered();
            let _opens = OpensWhileUnwinding;
            panic!("out of {}", "stock");
        }));
        assert!(caught.is_err());
        drop(tracing::info_span!("afterwards").entered());
    });
    let spans = fixture.finished();
    let inner = named(&spans, "inner");
    assert_eq!(error_of(inner), "out of stock");
    assert_eq!(inner.events[0].name, "exception");
    assert_eq!(text(&inner.events[0].attributes, "exception.message"), "out of stock");
    assert_eq!(text(&inner.attributes, "error.type"), "panic");
    assert_eq!(named(&spans, "cleanup").status, Status::Unset);
    assert_eq!(named(&spans, "outer").status, Status::Unset);
    crate::support::assert_child(named(&spans, "afterwards"), named(&spans, "outer"));
}
