//! Head decisions and the local tail.

use std::time::Duration;

use spanweave_core::Sampler;

use crate::support::{fixture_with, named};

#[test]
fn a_trace_is_sampled_as_a_whole() {
    let fixture = fixture_with(|config| config.sampler = Sampler::ratio(0.5));
    fixture.run(|| {
        for _ in 0..200 {
            let _root = tracing::info_span!("root").entered();
            let _child = tracing::info_span!("child").entered();
            drop(tracing::info_span!("leaf"));
        }
    });
    let spans = fixture.finished();
    assert!(spans.len() > 150 && spans.len() < 450, "{} spans", spans.len());
    let mut by_trace = std::collections::HashMap::new();
    for span in &spans {
        *by_trace.entry(span.span_context.trace_id()).or_insert(0) += 1;
        assert_eq!(span.span_context.trace_state().get("ot").unwrap(), "th:8");
    }
    assert!(by_trace.values().all(|count| *count == 3));
    let counts = fixture.pipeline.ledger().pipeline();
    assert_eq!(counts.ended, 600);
    assert_eq!(counts.sampled_out, 600 - spans.len() as u64);
}

#[test]
fn errors_are_kept_at_any_rate_with_their_whole_local_trace() {
    let sampler = Sampler::ratio(0.0).keep_errors();
    let fixture = fixture_with(|config| config.sampler = sampler);
    fixture.run(|| {
        for fail in [false, true] {
            let _root = tracing::info_span!("root", fail).entered();
            let _child = tracing::info_span!("child").entered();
            if fail {
                tracing::error!("failed");
            }
        }
    });
    let spans = fixture.finished();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["child", "root"]);
    assert!(spans.iter().all(|span| span.span_context.trace_state().get("ot").is_none()));
}

#[test]
fn important_and_slow_operations_are_kept_at_any_rate() {
    let sampler = Sampler::always_off()
        .keep_named(["CreateUser", "ProcessPayment", "PlaceOrder"])
        .keep_slower_than(Duration::from_millis(20));
    let fixture = fixture_with(|config| config.sampler = sampler);
    fixture.run(|| {
        drop(tracing::info_span!("CreateUser").entered());
        drop(tracing::info_span!("ListUsers").entered());
        let _slow = tracing::info_span!("Report").entered();
        std::thread::sleep(Duration::from_millis(25));
    });
    let spans = fixture.finished();
    assert_eq!(spans.len(), 2);
    named(&spans, "CreateUser");
    named(&spans, "Report");
}

#[test]
fn a_rate_limit_lets_so_many_traces_through_a_second() {
    let fixture = fixture_with(|config| config.sampler = Sampler::rate_limited(10));
    fixture.run(|| {
        for _ in 0..500 {
            drop(tracing::info_span!("request").entered());
        }
    });
    let kept = fixture.finished().len();
    assert!((10..=20).contains(&kept), "{kept} kept");
}
