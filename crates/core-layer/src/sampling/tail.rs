//! The local tail decision: what the head did not sample is kept after all where a rule matches.
//!
//! Spans group by trace id and local root. A span that the head sampled passes at once: its
//! children inherit the decision, so that nothing in its group waits. The others wait until their
//! local root has ended; a match of any of them keeps all, at once and for good, also those that
//! come later. Without a match, the root's end samples them out.
//!
//! Bounds: a root that stays open longer than [`TailLimits::root_timeout`] and the oldest group of
//! a buffer that is over [`TailLimits::max_spans`] are decided on what is there. The last
//! [`TailLimits::remembered`] decisions serve spans that come later; a span later than that starts
//! a group of its own.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use opentelemetry::{SpanId, TraceId};

/// When a local trace is kept although the head did not sample it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailRules {
    /// Where a span ended in an error.
    pub errors: bool,
    /// Where a span took longer than this.
    pub slower_than: Option<Duration>,
    /// Where a span has one of these names.
    pub named: HashSet<String>,
}

impl TailRules {
    /// Whether there is no rule at all, so that the head decides alone.
    pub fn is_empty(&self) -> bool {
        !self.errors && self.slower_than.is_none() && self.named.is_empty()
    }

    fn matches(&self, span: &impl TailSpan) -> bool {
        (self.errors && span.is_error())
            || self
                .slower_than
                .is_some_and(|limit| u128::from(span.duration_nanos()) > limit.as_nanos())
            || (!self.named.is_empty() && self.named.contains(span.name()))
    }
}

/// What the tail decision needs to know of a span that has ended.
pub trait TailSpan {
    /// The trace.
    fn trace_id(&self) -> TraceId;
    /// The first span of the trace in this process.
    fn local_root(&self) -> SpanId;
    /// Whether it is that span itself.
    fn is_local_root(&self) -> bool;
    /// The head's decision, the same for all spans of a local root.
    fn head_sampled(&self) -> bool;
    /// Whether it ended in an error.
    fn is_error(&self) -> bool;
    /// How long it took, in nanoseconds.
    fn duration_nanos(&self) -> u64;
    /// Its name.
    fn name(&self) -> &str;
}

/// A span that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<S> {
    /// The span.
    pub span: S,
    /// Kept by a rule, against the head: the span must not carry a threshold (`th`), since its
    /// probability is not known.
    pub by_rule: bool,
}

/// Where decided spans go. Reused by the caller; the buffer only appends.
#[derive(Debug)]
pub struct Decided<S> {
    /// To be delivered.
    pub kept: Vec<Kept<S>>,
    /// Not to be delivered, to be counted as sampled out.
    pub sampled_out: Vec<S>,
}

impl<S> Default for Decided<S> {
    fn default() -> Self {
        Self { kept: Vec::new(), sampled_out: Vec::new() }
    }
}

impl<S> Decided<S> {
    fn put(&mut self, span: S, keep: bool) {
        if keep {
            self.kept.push(Kept { span, by_rule: true });
        } else {
            self.sampled_out.push(span);
        }
    }
}

/// The bounds of a [`TailBuffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailLimits {
    /// Spans that wait, and groups that are open, at most.
    pub max_spans: usize,
    /// How long the spans of a root that stays open wait, from the first of them.
    pub root_timeout: Duration,
    /// Decisions that are remembered, first in, first out.
    pub remembered: usize,
}

impl Default for TailLimits {
    /// 50 000 spans, 30 s, 4096 decisions.
    fn default() -> Self {
        Self { max_spans: 50_000, root_timeout: Duration::from_secs(30), remembered: 4096 }
    }
}

type GroupKey = (TraceId, SpanId);

/// The spans of one open local root.
#[derive(Debug)]
struct Group<S> {
    /// The place in the order of age.
    number: u64,
    since_nanos: u64,
    /// A rule has matched: nothing waits, and `spans` is empty.
    keep: bool,
    spans: Vec<S>,
}

/// Holds spans until their local trace is decided. Pure: instants are passed in, as nanoseconds of
/// a clock that does not go back.
#[derive(Debug)]
pub struct TailBuffer<S> {
    rules: TailRules,
    limits: TailLimits,
    groups: HashMap<GroupKey, Group<S>>,
    /// Open groups by age: the same keys as `groups`.
    by_age: BTreeMap<u64, GroupKey>,
    next_number: u64,
    /// The spans in all groups.
    pending: usize,
    decisions: Decisions,
}

impl<S: TailSpan> TailBuffer<S> {
    /// An empty buffer with the default limits.
    pub fn new(rules: TailRules) -> Self {
        Self::with_limits(rules, TailLimits::default())
    }

    /// An empty buffer.
    pub fn with_limits(rules: TailRules, limits: TailLimits) -> Self {
        Self {
            rules,
            limits,
            groups: HashMap::new(),
            by_age: BTreeMap::new(),
            next_number: 0,
            pending: 0,
            decisions: Decisions::new(limits.remembered),
        }
    }

    /// Takes a span that has ended; appends what is decided thereby.
    pub fn push(&mut self, now_nanos: u64, span: S, decided: &mut Decided<S>) {
        if span.head_sampled() {
            decided.kept.push(Kept { span, by_rule: false });
            return;
        }
        if self.rules.is_empty() {
            decided.sampled_out.push(span);
            return;
        }
        let key = (span.trace_id(), span.local_root());
        if let Some(keep) = self.decisions.get(&key) {
            decided.put(span, keep);
            return;
        }
        let matches = self.rules.matches(&span);
        let is_root = span.is_local_root();
        if is_root && !self.groups.contains_key(&key) {
            // All there is to wait for has come.
            self.decisions.remember(key, matches);
            decided.put(span, matches);
            return;
        }
        self.add(now_nanos, key, span, matches, decided);
        if is_root {
            self.close(key, decided);
        }
        while self.pending > self.limits.max_spans || self.groups.len() > self.limits.max_spans {
            if !self.close_oldest(decided) {
                break;
            }
        }
    }

    /// Decides what has waited too long. To be called now and then, also without spans.
    pub fn tick(&mut self, now_nanos: u64, decided: &mut Decided<S>) {
        let timeout = u64::try_from(self.limits.root_timeout.as_nanos()).unwrap_or(u64::MAX);
        while let Some(oldest) = self.oldest()
            && now_nanos.saturating_sub(oldest.since_nanos) >= timeout
            && self.close_oldest(decided)
        {}
    }

    /// Decides everything on what is there: the shutdown.
    pub fn finish(&mut self, decided: &mut Decided<S>) {
        while self.close_oldest(decided) {}
    }

    /// Spans that wait.
    pub fn pending(&self) -> usize {
        self.pending
    }

    fn oldest(&self) -> Option<&Group<S>> {
        let (_, key) = self.by_age.first_key_value()?;
        self.groups.get(key)
    }

    fn close_oldest(&mut self, decided: &mut Decided<S>) -> bool {
        let oldest = self.by_age.first_key_value().map(|(_, key)| *key);
        oldest.is_some_and(|key| self.close(key, decided))
    }

    fn add(
        &mut self,
        now_nanos: u64,
        key: GroupKey,
        span: S,
        matches: bool,
        decided: &mut Decided<S>,
    ) {
        let number = self.next_number;
        let group = self.groups.entry(key).or_insert_with(|| {
            self.next_number += 1;
            self.by_age.insert(number, key);
            Group { number, since_nanos: now_nanos, keep: false, spans: Vec::new() }
        });
        if matches && !group.keep {
            group.keep = true;
            self.pending -= group.spans.len();
            for waiting in std::mem::take(&mut group.spans) {
                decided.put(waiting, true);
            }
        }
        if group.keep {
            decided.put(span, true);
        } else {
            group.spans.push(span);
            self.pending += 1;
        }
    }

    /// Ends a group; whether there was one.
    fn close(&mut self, key: GroupKey, decided: &mut Decided<S>) -> bool {
        let Some(group) = self.groups.remove(&key) else {
            return false;
        };
        self.by_age.remove(&group.number);
        self.pending -= group.spans.len();
        self.decisions.remember(key, group.keep);
        for span in group.spans {
            decided.put(span, group.keep);
        }
        true
    }
}

/// The last decisions, first in, first out.
#[derive(Debug)]
struct Decisions {
    capacity: usize,
    keep: HashMap<GroupKey, bool>,
    /// The same keys as `keep`, in the order of their decision.
    order: VecDeque<GroupKey>,
}

impl Decisions {
    fn new(capacity: usize) -> Self {
        Self { capacity, keep: HashMap::new(), order: VecDeque::new() }
    }

    fn get(&self, key: &GroupKey) -> Option<bool> {
        self.keep.get(key).copied()
    }

    fn remember(&mut self, key: GroupKey, keep: bool) {
        if self.capacity == 0 {
            return;
        }
        if self.order.len() == self.capacity
            && let Some(forgotten) = self.order.pop_front()
        {
            self.keep.remove(&forgotten);
        }
        // A key is decided once for as long as it is remembered.
        if self.keep.insert(key, keep).is_none() {
            self.order.push_back(key);
        }
    }
}

#[cfg(test)]
mod tests;
