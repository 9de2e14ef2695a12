use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    id: usize,
    trace: u8,
    root: bool,
    sampled: bool,
    error: bool,
    nanos: u64,
    name: &'static str,
}

impl TailSpan for Span {
    fn trace_id(&self) -> TraceId {
        TraceId::from(u128::from(self.trace) + 1)
    }
    fn local_root(&self) -> SpanId {
        SpanId::from(u64::from(self.trace) + 1)
    }
    fn is_local_root(&self) -> bool {
        self.root
    }
    fn head_sampled(&self) -> bool {
        self.sampled
    }
    fn is_error(&self) -> bool {
        self.error
    }
    fn duration_nanos(&self) -> u64 {
        self.nanos
    }
    fn name(&self) -> &str {
        self.name
    }
}

fn span(id: usize) -> Span {
    Span { id, trace: 0, root: false, sampled: false, error: false, nanos: 1, name: "op" }
}

fn root(id: usize) -> Span {
    Span { root: true, ..span(id) }
}

fn errors() -> TailRules {
    TailRules { errors: true, ..TailRules::default() }
}

fn run(rules: TailRules, spans: impl IntoIterator<Item = Span>) -> (Vec<usize>, Vec<usize>, usize) {
    let mut buffer = TailBuffer::new(rules);
    let mut decided = Decided::default();
    for span in spans {
        buffer.push(0, span, &mut decided);
    }
    let (kept, out) = ids(&decided);
    (kept, out, buffer.pending())
}

fn ids(decided: &Decided<Span>) -> (Vec<usize>, Vec<usize>) {
    (
        decided.kept.iter().map(|kept| kept.span.id).collect(),
        decided.sampled_out.iter().map(|span| span.id).collect(),
    )
}

#[test]
fn an_error_anywhere_keeps_the_whole_local_trace() {
    let error = Span { error: true, ..span(1) };
    let spans = [span(0), error, span(2), root(3), span(4)];
    assert_eq!(run(errors(), spans), (vec![0, 1, 2, 3, 4], vec![], 0));
}

#[test]
fn without_a_match_the_roots_end_samples_out_all_and_late_spans_too() {
    let late_error = Span { error: true, ..span(3) };
    let spans = [span(0), span(1), root(2), late_error];
    assert_eq!(run(errors(), spans), (vec![], vec![0, 1, 2, 3], 0));
    assert_eq!(run(errors(), [span(0), span(1)]), (vec![], vec![], 2));
}

#[test]
fn slow_and_named_spans_keep_their_trace() {
    let slow = TailRules { slower_than: Some(Duration::from_nanos(100)), ..TailRules::default() };
    let lasting = |nanos| Span { nanos, ..root(1) };
    assert_eq!(run(slow.clone(), [span(0), lasting(101)]).0, [0, 1]);
    assert_eq!(run(slow, [span(0), lasting(100)]).1, [0, 1]);
    let named =
        TailRules { named: HashSet::from(["CreateUser".to_owned()]), ..TailRules::default() };
    let create = Span { name: "CreateUser", ..root(1) };
    assert_eq!(run(named, [span(0), create]).0, [0, 1]);
}

#[test]
fn what_the_head_sampled_passes_at_once() {
    let mut buffer = TailBuffer::new(errors());
    let mut decided = Decided::default();
    let sampled = Span { sampled: true, error: true, ..span(0) };
    buffer.push(0, sampled.clone(), &mut decided);
    let expected = Kept { span: sampled, by_rule: false };
    assert_eq!(decided.kept, [expected]);
    let by_rule = Span { error: true, trace: 1, ..root(1) };
    buffer.push(0, by_rule, &mut decided);
    assert!(decided.kept[1].by_rule);
}

#[test]
fn without_rules_the_head_decides_alone_and_nothing_waits() {
    assert_eq!(run(TailRules::default(), [span(0)]), (vec![], vec![0], 0));
}

#[test]
fn a_root_that_stays_open_is_decided_after_its_timeout() {
    let mut buffer = TailBuffer::new(errors());
    let mut decided = Decided::default();
    buffer.push(0, span(0), &mut decided);
    buffer.tick(30 * SECOND - 1, &mut decided);
    assert_eq!(buffer.pending(), 1);
    buffer.tick(30 * SECOND, &mut decided);
    assert_eq!(ids(&decided), (vec![], vec![0]));
    buffer.push(31 * SECOND, root(1), &mut decided);
    assert_eq!(ids(&decided), (vec![], vec![0, 1]));
    assert_eq!(buffer.pending(), 0);
}

#[test]
fn over_the_bound_the_oldest_trace_is_decided_early() {
    let limits = TailLimits { max_spans: 3, ..TailLimits::default() };
    let mut buffer = TailBuffer::with_limits(errors(), limits);
    let mut decided = Decided::default();
    for id in 0..4 {
        let trace = u8::from(id > 1);
        buffer.push(0, Span { trace, ..span(id) }, &mut decided);
    }
    assert_eq!(ids(&decided), (vec![], vec![0, 1]));
    assert_eq!(buffer.pending(), 2);
}

#[test]
fn open_groups_that_hold_no_spans_are_bounded_too() {
    let limits = TailLimits { max_spans: 10, ..TailLimits::default() };
    let mut buffer = TailBuffer::with_limits(errors(), limits);
    let mut decided = Decided::default();
    for trace in 0..200 {
        let error = Span { trace, error: true, ..span(usize::from(trace)) };
        buffer.push(0, error, &mut decided);
    }
    assert_eq!(decided.kept.len(), 200);
    assert!(buffer.groups.len() <= 10 && buffer.by_age.len() <= 10);
}

#[test]
fn the_memory_of_decisions_is_bounded() {
    let limits = TailLimits { remembered: 2, ..TailLimits::default() };
    let mut buffer = TailBuffer::with_limits(errors(), limits);
    let mut decided = Decided::default();
    for trace in 0..3 {
        buffer.push(0, Span { trace, ..root(0) }, &mut decided);
    }
    assert_eq!(buffer.decisions.order.len(), 2);
    assert_eq!(buffer.decisions.keep.len(), 2);
    // Remembered: decided at once. Forgotten: a group of its own.
    buffer.push(0, Span { trace: 2, ..span(1) }, &mut decided);
    assert_eq!(buffer.pending(), 0);
    buffer.push(0, Span { trace: 0, ..span(2) }, &mut decided);
    assert_eq!(buffer.pending(), 1);
    buffer.finish(&mut decided);
    assert_eq!(decided.sampled_out.len(), 5);
}

#[derive(Clone, Debug)]
enum Step {
    Push(Span),
    Tick,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let span =
        (0u8..6, any::<bool>(), 0u8..8, 0u8..20).prop_map(|(trace, root, error, sampled)| {
            Step::Push(Span { trace, root, error: error == 0, sampled: sampled == 0, ..span(0) })
        });
    let step = prop_oneof![9 => span, 1 => Just(Step::Tick)];
    prop::collection::vec((0..12 * SECOND, step), 0..80).prop_map(|mut steps| {
        for (id, (_, step)) in steps.iter_mut().enumerate() {
            if let Step::Push(span) = step {
                span.id = id;
            }
        }
        steps
    })
}

/// The rules in their plainest form: a list of groups, everything searched from the start.
#[derive(Default)]
struct Model {
    open: Vec<(u8, u64, bool, Vec<Span>)>,
    decisions: Vec<(u8, bool)>,
    kept: Vec<usize>,
    out: Vec<usize>,
}

impl Model {
    fn put(&mut self, id: usize, keep: bool) {
        if keep {
            self.kept.push(id);
        } else {
            self.out.push(id);
        }
    }

    fn push(&mut self, now: u64, span: Span, max_spans: usize) {
        if span.sampled {
            return self.put(span.id, true);
        }
        if let Some((_, keep)) = self.decisions.iter().find(|(trace, _)| *trace == span.trace) {
            return self.put(span.id, *keep);
        }
        let (trace, root) = (span.trace, span.root);
        let at = match self.open.iter().position(|group| group.0 == trace) {
            Some(at) => at,
            None => {
                self.open.push((trace, now, false, Vec::new()));
                self.open.len() - 1
            }
        };
        self.open[at].2 |= span.error;
        self.open[at].3.push(span);
        if root {
            self.close(at);
        }
        while self.pending() > max_spans || self.open.len() > max_spans {
            self.close(0);
        }
    }

    fn pending(&self) -> usize {
        let waiting = self.open.iter().filter(|group| !group.2);
        waiting.map(|group| group.3.len()).sum()
    }

    fn close(&mut self, at: usize) {
        let (trace, _, keep, spans) = self.open.remove(at);
        self.decisions.push((trace, keep));
        for span in spans {
            self.put(span.id, keep);
        }
    }

    fn tick(&mut self, now: u64) {
        while self.open.first().is_some_and(|group| now - group.1 >= 30 * SECOND) {
            self.close(0);
        }
    }
}

proptest! {
    #[test]
    fn the_buffer_agrees_with_a_plain_model(steps in steps(), max_spans in 1usize..20) {
        let limits = TailLimits { max_spans, ..TailLimits::default() };
        let mut buffer = TailBuffer::with_limits(errors(), limits);
        let mut decided = Decided::default();
        let mut model = Model::default();
        let mut now = 0;
        let mut pushed = 0;
        for (wait, step) in steps {
            now += wait;
            match step {
                Step::Push(span) => {
                    pushed += 1;
                    model.push(now, span.clone(), max_spans);
                    buffer.push(now, span, &mut decided);
                }
                Step::Tick => {
                    model.tick(now);
                    buffer.tick(now, &mut decided);
                }
            }
            prop_assert_eq!(buffer.pending(), model.pending());
            prop_assert!(buffer.pending() <= max_spans);
            prop_assert_eq!(buffer.groups.len(), buffer.by_age.len());
            let decided = decided.kept.len() + decided.sampled_out.len();
            prop_assert_eq!(decided + buffer.pending(), pushed, "no span is lost");
        }
        buffer.finish(&mut decided);
        while !model.open.is_empty() {
            model.close(0);
        }
        let (mut kept, mut out) = ids(&decided);
        for list in [&mut kept, &mut out, &mut model.kept, &mut model.out] {
            list.sort_unstable();
        }
        prop_assert_eq!((kept, out), (model.kept, model.out));
        prop_assert!(decided.kept.iter().all(|kept| kept.by_rule != kept.span.sampled));
    }
}
