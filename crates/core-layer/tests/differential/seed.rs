//! Where random cases come from.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.trim().parse().ok()
}

/// Runs `check` on random values. A failure is reported with its seed and the smallest value that
/// still fails.
pub(crate) fn for_all<S: Strategy>(
    cases: u32,
    strategy: S,
    show: impl Fn(&S::Value) -> String,
    check: impl Fn(S::Value) -> Result<(), String>,
) {
    let seed = number("SPANWEAVE_SEED").unwrap_or_else(spanweave_core::clock::unix_nanos);
    let cases = number("SPANWEAVE_CASES").map_or(cases, |cases| cases as u32);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&strategy, |value| check(value).map_err(TestCaseError::fail));
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, value)) => {
            panic!("SPANWEAVE_SEED={seed}\n{}\n{reason}", show(&value))
        }
        Err(TestError::Abort(reason)) => panic!("SPANWEAVE_SEED={seed}: {reason}"),
    }
}
