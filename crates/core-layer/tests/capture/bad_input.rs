//! What must not hurt: fields that panic, re-enter or are huge, and lives that end anywhere.

use std::fmt;

use opentelemetry::trace::TraceContextExt;
use spanweave_core::SpanLimits;
use spanweave_core::propagation::extract;

use crate::support::{assert_root, fixture, named, spans_of, text};

#[test]
fn a_field_whose_debug_panics_loses_no_span() {
    struct Panics;
    impl fmt::Debug for Panics {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("in Debug");
        }
    }
    let spans = spans_of(|| {
        let span =
            tracing::info_span!("survives", bad = ?Panics, good = 1, later = tracing::field::Empty);
        span.record("later", tracing::field::debug(Panics));
        let _entered = span.enter();
        tracing::info!(bad = ?Panics, "event");
        drop(tracing::info_span!("next"));
    });
    let span = named(&spans, "survives");
    assert_eq!(text(&span.attributes, "bad"), "<panicked while formatting>");
    assert_eq!(text(&span.attributes, "later"), "<panicked while formatting>");
    assert_eq!(text(&span.attributes, "good"), "1");
    assert_eq!(span.events[0].name, "event");
    named(&spans, "next");
}

#[test]
fn a_field_whose_debug_opens_spans_and_logs_does_not_deadlock() {
    struct Opens;
    impl fmt::Debug for Opens {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let _span = tracing::info_span!("opened by Debug").entered();
            tracing::info!("logged by Debug");
            f.write_str("opened")
        }
    }
    let spans = spans_of(|| {
        // A callsite that is met first inside another dispatch may stay disabled for good.
        drop(format!("{Opens:?}"));
        let span = tracing::info_span!("outer", field = ?Opens, later = tracing::field::Empty);
        let _entered = span.enter();
        span.record("later", tracing::field::debug(Opens));
        tracing::info!(field = ?Opens, "event");
    });
    // While an event or a new span is dispatched, `tracing` itself ignores what is opened within;
    // `record` goes through.
    assert_eq!(spans.iter().filter(|span| span.name == "opened by Debug").count(), 2);
    assert_eq!(text(&named(&spans, "outer").attributes, "field"), "opened");
}

#[test]
fn a_span_that_is_closed_on_another_thread_arrives_once() {
    let fixture = fixture();
    fixture.run(|| {
        let span = tracing::info_span!("handed over");
        std::thread::spawn(move || drop(span)).join().unwrap();
    });
    fixture.only("handed over");
}

#[test]
fn an_event_of_ten_megabytes_is_cut_and_the_span_says_so() {
    let huge = "ä".repeat(5 << 20);
    let spans = spans_of(|| {
        let _span = tracing::info_span!("huge").entered();
        tracing::info!(huge, "{huge}");
        drop(tracing::info_span!("small"));
    });
    let span = named(&spans, "huge");
    assert_eq!(span.events[0].name.len(), SpanLimits::MAX_VALUE_BYTES);
    assert_eq!(text(&span.events[0].attributes, "huge").len(), SpanLimits::MAX_VALUE_BYTES);
    assert_eq!(text(&span.attributes, "spanweave.truncated"), "true");
    named(&spans, "small");
}

#[test]
fn attributes_over_the_limit_are_counted() {
    let spans = spans_of(|| {
        let span = tracing::info_span!("many");
        for number in 0..1000 {
            spanweave_core::SpanExt::set_attribute(&span, format!("key{number}"), number);
        }
    });
    let span = named(&spans, "many");
    assert_eq!(span.attributes.len(), 128);
    // What tells place, thread and times comes last and is cut off as well.
    assert!(span.dropped_attributes_count >= 1000 - 128);
}

#[test]
fn a_malformed_traceparent_starts_a_new_trace_and_is_counted() {
    let fixture = fixture();
    let before = spanweave_core::propagation::malformed_headers();
    let malformed: [&[u8]; 4] = [
        b"00-00000000000000000000000000000000-b7ad6b7169203331-01",
        b"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        b"not a traceparent",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0\xff",
    ];
    for header in malformed {
        let mut headers = http::HeaderMap::new();
        headers.insert("traceparent", http::HeaderValue::from_bytes(header).unwrap());
        let cx = extract(&headers);
        assert!(!cx.span().span_context().is_valid());
        fixture.run(|| {
            let _attached = cx.attach();
            drop(tracing::info_span!("server").entered());
        });
    }
    let spans = fixture.finished();
    assert_eq!(spans.len(), 4);
    spans.iter().for_each(assert_root);
    assert_eq!(spanweave_core::propagation::malformed_headers() - before, 4);
}

#[test]
fn a_span_in_a_thread_local_destructor_does_no_harm() {
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            let _span = tracing::info_span!("at the end of the thread").entered();
            tracing::info!("still here");
        }
    }
    thread_local!(static LATE: Late = const { Late });
    let fixture = fixture();
    let dispatch = fixture.dispatch();
    std::thread::spawn(move || {
        LATE.with(|_| ());
        // For the whole life of the thread: the default must outlive the destructor.
        std::mem::forget(tracing::dispatcher::set_default(&dispatch));
        drop(tracing::info_span!("early").entered());
    })
    .join()
    .unwrap();
    named(&fixture.finished(), "early");
}

#[test]
fn ten_thousand_open_spans_are_all_closed_in_the_end() {
    let spans = spans_of(|| {
        let open: Vec<_> = (0..10_000).map(|_| tracing::info_span!(parent: None, "open")).collect();
        drop(open);
    });
    assert_eq!(spans.len(), 10_000);
}
