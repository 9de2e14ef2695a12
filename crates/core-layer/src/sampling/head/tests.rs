use proptest::prelude::*;

use super::*;

const RANGE: u128 = 1 << 56;

fn decide(
    sampler: &HeadSampler,
    trace_id: u128,
    parent: Option<(bool, &TraceState)>,
) -> HeadDecision {
    sampler.decide(&HeadInput {
        now_nanos: 0,
        trace_id: TraceId::from(trace_id),
        parent: parent.map(|(sampled, trace_state)| ParentDecision {
            sampled,
            remote: true,
            trace_state,
        }),
        name: "op",
        kind: &SpanKind::Internal,
    })
}

fn state(ot: &str) -> TraceState {
    TraceState::from_key_value([("a", "1"), ("ot", ot)]).unwrap()
}

/// What goes on: the parent's header where nothing changed.
fn onwards(decision: &HeadDecision, parent: &TraceState) -> String {
    let state = decision.trace_state.as_ref().unwrap_or(parent);
    state.header()
}

/// The randomness of these is all ones and zero.
const KEPT_BY_ALL: u128 = RANGE - 1;
const REFUSED: u128 = 1 << 100;

#[test]
fn roots_are_decided_by_the_sampler_and_without_allocation_but_for_ratios() {
    for sampler in [Sampler::always_on(), Sampler::rate_limited(1)] {
        let sampler = sampler.parent_based().compile();
        let decision = decide(&sampler, 1, None);
        assert_eq!((decision.sampled, decision.trace_state), (true, None));
    }
    let decision = decide(&Sampler::always_off().compile(), 1, None);
    assert_eq!((decision.sampled, decision.trace_state), (false, None));
    let quarter = Sampler::ratio(0.25).parent_based().compile();
    let decision = decide(&quarter, KEPT_BY_ALL, None);
    assert!(decision.sampled);
    assert_eq!(decision.trace_state.unwrap().header(), "ot=th:c");
    let decision = decide(&quarter, REFUSED, None);
    assert_eq!((decision.sampled, decision.trace_state), (false, None));
    assert!(!decide(&Sampler::ratio(0.0).compile(), KEPT_BY_ALL, None).sampled);
    assert!(decide(&Sampler::ratio(1.0).compile(), REFUSED, None).sampled);
    assert!(decide(&Sampler::ratio(f64::NAN).compile(), REFUSED, None).sampled);
}

#[test]
fn a_parents_decision_is_followed_and_its_threshold_kept_only_where_it_is_true() {
    let follow = Sampler::always_off().parent_based().compile();
    for (ot, sampled, trace_id, expected) in [
        ("th:c;rv:ffffffffffffff;x:1", true, 1, None),
        ("th:c", true, KEPT_BY_ALL, None),
        ("th:0", true, REFUSED, None),
        ("x:1", true, 1, None),
        ("rv:00000000000001", false, 1, None),
        // Sampled, although R < T.
        ("th:c", true, REFUSED, Some("a=1")),
        ("th:c;rv:00000000000001", true, 1, Some("ot=rv:00000000000001,a=1")),
        // Not sampled: no threshold, true or not.
        ("th:c", false, REFUSED, Some("a=1")),
        ("th:c;x:1", false, KEPT_BY_ALL, Some("ot=x:1,a=1")),
        // Two thresholds, or none at all.
        ("th:0;th:8;x:1", true, 1, Some("ot=th:0;x:1,a=1")),
        ("th:XY;x:1", true, 1, Some("ot=x:1,a=1")),
    ] {
        let parent = state(ot);
        let decision = decide(&follow, trace_id, Some((sampled, &parent)));
        assert_eq!(decision.sampled, sampled, "{ot}");
        let header = decision.trace_state.map(|state| state.header());
        assert_eq!(header.as_deref(), expected, "{ot}");
    }
}

#[test]
fn without_a_trace_state_a_parent_costs_nothing() {
    for sampler in [
        Sampler::default(),
        Sampler::ratio(0.5).parent_based(),
        Sampler::always_on(),
        Sampler::always_off(),
        Sampler::rate_limited(5),
    ] {
        let sampler = sampler.compile();
        for sampled in [false, true] {
            let decision = decide(&sampler, 1, Some((sampled, &TraceState::NONE)));
            assert_eq!(decision.trace_state, None);
        }
    }
}

#[test]
fn a_decision_of_unknown_probability_erases_the_threshold() {
    let parent = state("th:8;rv:ffffffffffffff");
    for sampler in [Sampler::always_on(), Sampler::always_off(), Sampler::rate_limited(1)] {
        let decision = decide(&sampler.compile(), 1, Some((true, &parent)));
        assert_eq!(onwards(&decision, &parent), "ot=rv:ffffffffffffff,a=1");
    }
    let everything = state("th:0");
    let decision = decide(&Sampler::always_on().compile(), 1, Some((true, &everything)));
    assert_eq!(decision.trace_state, None);
}

#[test]
fn downstream_a_threshold_is_only_raised() {
    let half = Sampler::ratio(0.5).compile();
    let raised = state("th:4;rv:ffffffffffffff");
    let decision = decide(&half, 1, Some((true, &raised)));
    assert_eq!(onwards(&decision, &raised), "ot=th:8;rv:ffffffffffffff,a=1");
    let kept = state("th:c;rv:ffffffffffffff");
    assert_eq!(decide(&half, 1, Some((true, &kept))).trace_state, None);
    // A threshold that is not true binds nobody.
    let untrue = state("th:c;rv:80000000000000");
    let decision = decide(&half, 1, Some((true, &untrue)));
    assert!(decision.sampled);
    assert_eq!(onwards(&decision, &untrue), "ot=th:8;rv:80000000000000,a=1");
    let refused = state("th:0;rv:7fffffffffffff");
    let decision = decide(&half, 1, Some((true, &refused)));
    assert!(!decision.sampled);
    assert_eq!(onwards(&decision, &refused), "ot=rv:7fffffffffffff,a=1");
}

#[test]
fn a_ratio_samples_its_share() {
    const TRACES: usize = 100_000;
    let mut random = fastrand::Rng::with_seed(7);
    for ratio in [0.5, 0.1, 0.01] {
        let sampler = Sampler::ratio(ratio).compile();
        let sampled =
            (0..TRACES).filter(|_| decide(&sampler, random.u128(..), None).sampled).count();
        let expected = TRACES as f64 * ratio;
        let five_sigma = 5.0 * (expected * (1.0 - ratio)).sqrt();
        let off = (sampled as f64 - expected).abs();
        assert!(off < five_sigma, "{ratio}: {sampled}");
    }
}

#[test]
fn a_smaller_ratio_samples_a_subset_and_counts_add_up() {
    const TRACES: usize = 50_000;
    let mut random = fastrand::Rng::with_seed(11);
    let up = Sampler::ratio(0.5).compile();
    let down = Sampler::ratio(0.1).compile();
    let mut estimate = 0.0;
    for _ in 0..TRACES {
        let trace_id = random.u128(..);
        let upstream = decide(&up, trace_id, None);
        let state = upstream.trace_state.unwrap_or_default();
        let downstream = decide(&down, trace_id, Some((upstream.sampled, &state)));
        assert!(upstream.sampled || !downstream.sampled);
        if downstream.sampled {
            let state = downstream.trace_state.unwrap();
            let threshold = OtState::of(&state).threshold.unwrap();
            estimate += threshold.adjusted_count();
        }
    }
    assert!((estimate / TRACES as f64 - 1.0).abs() < 0.07, "{estimate}");
}

#[test]
fn the_rate_limit_counts_roots_only_where_parents_are_followed() {
    let sampler = Sampler::rate_limited(2).parent_based().compile();
    for _ in 0..10 {
        assert!(decide(&sampler, 1, Some((true, &TraceState::NONE))).sampled);
    }
    let roots = (0..10).filter(|_| decide(&sampler, 1, None).sampled).count();
    assert_eq!(roots, 2);
}

#[test]
fn the_environment_names_samplers() {
    for (name, arg, description) in [
        ("always_on", None, "AlwaysOn"),
        ("always_off", Some("junk"), "AlwaysOff"),
        ("traceidratio", Some("0.25"), "Ratio{0.25}"),
        ("parentbased_always_on", None, "ParentBased{AlwaysOn}"),
        ("parentbased_always_off", None, "ParentBased{AlwaysOff}"),
        ("parentbased_traceidratio", None, "ParentBased{Ratio{1}}"),
    ] {
        let sampler = Sampler::from_env_names(name, arg).unwrap();
        assert_eq!(sampler.description(), description);
    }
    for (name, arg, message, fallback) in [
        ("jaeger_remote", None, "not supported", "ParentBased{AlwaysOn}"),
        ("parentbased_jaeger_remote", None, "not supported", "ParentBased{AlwaysOn}"),
        ("sometimes", None, "unknown", "ParentBased{AlwaysOn}"),
        ("parentbased_", None, "unknown", "ParentBased{AlwaysOn}"),
        ("traceidratio", Some("1.5"), "\"1.5\" is no", "Ratio{1}"),
        ("traceidratio", Some("NaN"), "no sampling ratio", "Ratio{1}"),
        ("parentbased_traceidratio", Some("x"), "\"x\" is no", "ParentBased{Ratio{1}}"),
    ] {
        let error = Sampler::from_env_names(name, arg).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.fallback().description(), fallback);
        assert_eq!(error.is_unsupported(), message == "not supported");
    }
}

#[test]
fn the_description_says_everything() {
    let sampler = Sampler::rate_limited(0.5)
        .keep_named(["b", "a"])
        .keep_slower_than(Duration::from_secs(2))
        .keep_slower_than(Duration::from_millis(500))
        .keep_slower_than(Duration::from_secs(1))
        .keep_errors();
    assert_eq!(
        sampler.description(),
        "RateLimited{0.5/s}, keep errors, keep slower than 500ms, keep named [a, b]"
    );
    assert!(!sampler.tail_rules().is_empty());
    assert!(Sampler::default().tail_rules().is_empty());
}

proptest! {
    /// Whatever comes in, what goes out is true: a threshold only on sampled spans whose
    /// randomness it keeps, and `rv` as it was.
    #[test]
    fn the_threshold_that_goes_on_is_always_true(
        which in 0usize..10,
        trace_id in 1u128..,
        parent_sampled: bool,
        ot in "(th:[0-9a-fx]{0,15};?)?(rv:[0-9a-f]{13,15};?)?(x:1)?",
    ) {
        let samplers = [
            Sampler::always_on(),
            Sampler::always_off(),
            Sampler::ratio(0.3),
            Sampler::ratio(0.7),
            Sampler::rate_limited(1),
        ];
        let sampler = samplers[which % 5].clone();
        let sampler = if which < 5 { sampler.parent_based() } else { sampler }.compile();
        let parent = state(&ot);
        let decision = decide(&sampler, trace_id, Some((parent_sampled, &parent)));
        let out = decision.trace_state.as_ref().unwrap_or(&parent);
        prop_assert_eq!(out.get("a"), Some("1"));
        let before = OtState::parse(&ot);
        let after = OtState::of(out);
        prop_assert_eq!(after.randomness, before.randomness);
        if let Some(threshold) = after.threshold {
            prop_assert!(decision.sampled);
            prop_assert!(threshold.keeps(after.randomness_of(TraceId::from(trace_id))));
        }
    }
}
