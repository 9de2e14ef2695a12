//! Random programs.

use std::sync::Arc;

use crate::machine::execute;
use crate::normalise::{check_native, compare, normalise};
use crate::program::{Program, WORKERS, program, show};
use crate::run::{Kind, Run};
use crate::seed::for_all;
use crate::workers::Workers;

#[test]
fn random_programs_make_the_same_spans_under_both_captures() {
    random_programs(2000, true);
}

#[test]
fn random_programs_make_the_same_spans_without_context_activation() {
    random_programs(1000, false);
}

fn random_programs(cases: u32, activation: bool) {
    // Reused, so that the records that a pipeline recycles come from other programs.
    let runs = Run::all(activation).map(Arc::new);
    let workers = Workers::new(WORKERS);
    for_all(cases, program(), show, |program| same_under_all(&runs, &workers, &program));
}

fn same_under_all(
    runs: &[Arc<Run>; 3],
    workers: &Workers,
    program: &Program,
) -> Result<(), String> {
    let [native, bridge, stock] = runs.each_ref().map(|run| {
        let facts = execute(run, workers, program);
        let spans = normalise(run.kind, &run.finished(), &facts);
        (run.kind, spans, facts)
    });
    let (_, ours, facts) = native;
    check_native(&ours, &facts)?;
    for (kind, theirs, their_facts) in [bridge, stock] {
        compare(&ours, &theirs, &facts).map_err(|report| in_run(kind, &report))?;
        // What the rules look at must not depend on the run.
        for (number, fact) in &facts.spans {
            if ours.contains_key(&format!("#{number}"))
                && Some(fact) != their_facts.spans.get(number)
            {
                return Err(in_run(kind, &format!("facts of #{number} differ")));
            }
        }
    }
    Ok(())
}

fn in_run(kind: Kind, report: &str) -> String {
    format!("{kind:?}: {report}")
}
