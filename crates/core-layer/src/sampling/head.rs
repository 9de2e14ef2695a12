//! The head decision, and the description of a sampler.

use std::fmt;
use std::time::Duration;

use opentelemetry::TraceId;
use opentelemetry::trace::{SpanKind, TraceState};

use super::consistent::{OtState, Randomness, Threshold};
use super::rate::RateLimiter;
use super::tail::TailRules;

/// Which traces are kept.
///
/// A constructor says what decides at the start of a trace, [`parent_based`](Self::parent_based)
/// that a caller's decision comes first, and the `keep_*` rules what is kept although the start
/// decided against it. The default is `parentbased_always_on`.
///
/// ```
/// use spanweave_core::sampling::Sampler;
///
/// let sampler = Sampler::rate_limited(100)
///     .parent_based()
///     .keep_errors()
///     .keep_named(["CreateUser"]);
/// assert_eq!(
///     sampler.description(),
///     "ParentBased{RateLimited{100/s}}, keep errors, keep named [CreateUser]"
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    root: Root,
    parent_based: bool,
    tail: TailRules,
}

/// What decides where no parent does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Root {
    AlwaysOn,
    AlwaysOff,
    Ratio(f64),
    RateLimited(f64),
}

impl Sampler {
    /// Samples every trace, whatever a caller decided.
    pub fn always_on() -> Self {
        Self::of(Root::AlwaysOn)
    }

    /// Samples no trace, whatever a caller decided.
    pub fn always_off() -> Self {
        Self::of(Root::AlwaysOff)
    }

    /// Samples that share of the traces, consistently: the randomness of the trace decides (see
    /// [`super::consistent`]), so that of two services the one with the smaller ratio samples a
    /// subset of the other's traces. Clamped to 0 to 1; NaN is 1, since losing everything is
    /// worse than keeping it.
    pub fn ratio(ratio: f64) -> Self {
        let ratio = if ratio.is_nan() { 1.0 } else { ratio };
        Self::of(Root::Ratio(ratio.clamp(0.0, 1.0)))
    }

    /// Samples at most that many traces a second, after bursts of at most max(1, N). Fractions
    /// work: 0.5 is one trace in two seconds. 0, negative and NaN sample none.
    pub fn rate_limited(per_second: impl Into<f64>) -> Self {
        Self::of(Root::RateLimited(per_second.into()))
    }

    /// Follows the decision of a parent, local or remote; only where there is none decides the
    /// sampler itself.
    #[must_use]
    pub fn parent_based(mut self) -> Self {
        self.parent_based = true;
        self
    }

    /// Keeps local traces in which a span ended in an error.
    #[must_use]
    pub fn keep_errors(mut self) -> Self {
        self.tail.errors = true;
        self
    }

    /// Keeps local traces in which a span took longer than that. Of two limits the lower one
    /// stands.
    #[must_use]
    pub fn keep_slower_than(mut self, limit: Duration) -> Self {
        let lower = self.tail.slower_than.map_or(limit, |other| other.min(limit));
        self.tail.slower_than = Some(lower);
        self
    }

    /// Keeps local traces in which a span has one of these names; adds to names given before.
    #[must_use]
    pub fn keep_named(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tail.named.extend(names.into_iter().map(Into::into));
        self
    }

    /// The sampler that the environment names: `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
    ///
    /// `always_on`, `always_off`, `traceidratio` (argument: the ratio, 1 where it is absent), and
    /// each with `parentbased_` in front.
    ///
    /// # Errors
    ///
    /// A name that is unknown or not supported, or a ratio that is no number from 0 to 1. What to
    /// use instead is [`SamplerError::fallback`].
    pub fn from_env_names(name: &str, arg: Option<&str>) -> Result<Self, SamplerError> {
        let error = |kind, fallback: Self| SamplerError {
            kind,
            value: name.to_owned(),
            fallback: Box::new(fallback),
        };
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let whole = |sampler: Self| {
            if parent_based { sampler.parent_based() } else { sampler }
        };
        match root {
            "always_on" => Ok(whole(Self::always_on())),
            "always_off" => Ok(whole(Self::always_off())),
            "traceidratio" => match arg {
                None => Ok(whole(Self::ratio(1.0))),
                Some(text) => match text.parse() {
                    Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(whole(Self::ratio(ratio))),
                    _ => Err(SamplerError {
                        value: text.to_owned(),
                        ..error(ErrorKind::Ratio, whole(Self::ratio(1.0)))
                    }),
                },
            },
            "jaeger_remote" | "xray" => Err(error(ErrorKind::Unsupported, Self::default())),
            _ => Err(error(ErrorKind::Unknown, Self::default())),
        }
    }

    /// What it does, in one line.
    pub fn description(&self) -> String {
        self.to_string()
    }

    /// The rules that the tail decides by.
    pub fn tail_rules(&self) -> TailRules {
        self.tail.clone()
    }

    /// The decider at the start of traces. Each has a rate limit of its own.
    pub fn compile(&self) -> HeadSampler {
        HeadSampler {
            root: match self.root {
                Root::AlwaysOn => Decider::AlwaysOn,
                Root::AlwaysOff => Decider::AlwaysOff,
                Root::Ratio(ratio) => Decider::Ratio(Threshold::of_probability(ratio)),
                Root::RateLimited(rate) => Decider::RateLimited(RateLimiter::new(rate)),
            },
            parent_based: self.parent_based,
        }
    }

    fn of(root: Root) -> Self {
        Self { root, parent_based: false, tail: TailRules::default() }
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self::always_on().parent_based()
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parent_based {
            write!(f, "ParentBased{{{}}}", self.root)?;
        } else {
            write!(f, "{}", self.root)?;
        }
        if self.tail.errors {
            f.write_str(", keep errors")?;
        }
        if let Some(limit) = self.tail.slower_than {
            write!(f, ", keep slower than {limit:?}")?;
        }
        if !self.tail.named.is_empty() {
            let mut names: Vec<_> = self.tail.named.iter().map(String::as_str).collect();
            names.sort_unstable();
            write!(f, ", keep named [{}]", names.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlwaysOn => f.write_str("AlwaysOn"),
            Self::AlwaysOff => f.write_str("AlwaysOff"),
            Self::Ratio(ratio) => write!(f, "Ratio{{{ratio}}}"),
            Self::RateLimited(rate) => write!(f, "RateLimited{{{rate}/s}}"),
        }
    }
}

/// A sampler in the environment that cannot be had.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerError {
    kind: ErrorKind,
    value: String,
    fallback: Box<Sampler>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum ErrorKind {
    Unknown,
    Unsupported,
    Ratio,
}

impl SamplerError {
    /// Whether the name is one of the specification's that is not supported here.
    pub fn is_unsupported(&self) -> bool {
        self.kind == ErrorKind::Unsupported
    }

    /// What the specification uses instead: the named sampler with its default argument where the
    /// argument is bad, else `parentbased_always_on`.
    pub fn fallback(&self) -> Sampler {
        (*self.fallback).clone()
    }
}

impl fmt::Display for SamplerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = &self.value;
        match self.kind {
            ErrorKind::Unknown => write!(
                f,
                "unknown sampler {value:?}: known are always_on, always_off, traceidratio and \
                 each with parentbased_ in front"
            ),
            ErrorKind::Unsupported => write!(f, "the sampler {value:?} is not supported"),
            ErrorKind::Ratio => write!(f, "{value:?} is no sampling ratio from 0 to 1"),
        }
    }
}

impl std::error::Error for SamplerError {}

/// What is known when a local root is decided on.
#[derive(Clone, Copy, Debug)]
pub struct HeadInput<'a> {
    /// Nanoseconds of a clock that does not go back.
    pub now_nanos: u64,
    /// The trace, its id random.
    pub trace_id: TraceId,
    /// The parent, if there is one.
    pub parent: Option<ParentDecision<'a>>,
    /// The name of the span so far.
    pub name: &'a str,
    /// Its kind.
    pub kind: &'a SpanKind,
}

/// What a parent decided.
#[derive(Clone, Copy, Debug)]
pub struct ParentDecision<'a> {
    /// Its sampled flag.
    pub sampled: bool,
    /// Whether it is in another process.
    pub remote: bool,
    /// Its trace state.
    pub trace_state: &'a TraceState,
}

/// The decision on a local root; its children take it over.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadDecision {
    /// Whether the trace is sampled.
    pub sampled: bool,
    /// The trace state that goes on; `None` where the parent's is kept as it is (or there is none).
    pub trace_state: Option<TraceState>,
}

/// Decides at the start of a trace. Pure but for the rate limit; never blocks, and allocates only
/// where a trace state changes.
///
/// The `th` of `tracestate` always tells the truth: it is erased where the trace is not sampled,
/// where the probability is not known, and where it contradicts the sampled flag. `rv` and all
/// that others wrote are never touched.
#[derive(Debug)]
pub struct HeadSampler {
    root: Decider,
    parent_based: bool,
}

#[derive(Debug)]
enum Decider {
    AlwaysOn,
    AlwaysOff,
    /// `None` keeps nothing.
    Ratio(Option<Threshold>),
    RateLimited(RateLimiter),
}

impl HeadSampler {
    /// Decides on one local root.
    pub fn decide(&self, input: &HeadInput<'_>) -> HeadDecision {
        let Some(parent) = input.parent else {
            return self.decide_root(input);
        };
        let ot = OtState::of(parent.trace_state);
        let randomness = ot.randomness_of(input.trace_id);
        // What the parent sampled by, where that is known and true.
        let inherited =
            ot.threshold.filter(|threshold| parent.sampled && threshold.keeps(randomness));

        let (sampled, threshold) = if self.parent_based {
            (parent.sampled, inherited)
        } else {
            match &self.root {
                // Also takes what the parent's threshold refused, so that only a threshold that
                // refuses nothing still holds.
                Decider::AlwaysOn => (true, inherited.filter(|th| *th == Threshold::ALL)),
                Decider::AlwaysOff => (false, None),
                Decider::RateLimited(limiter) => (limiter.admit(input.now_nanos), None),
                Decider::Ratio(own) => match own.filter(|own| own.keeps(randomness)) {
                    // On the way down a threshold is only ever raised.
                    Some(own) => (true, Some(inherited.map_or(own, |th| th.max(own)))),
                    None => (false, None),
                },
            }
        };
        HeadDecision { sampled, trace_state: ot.replace_threshold(parent.trace_state, threshold) }
    }

    /// Whether a root without a parent is certain to be dropped. Changes nothing: what it says
    /// holds for as long as the root gets no parent.
    pub fn surely_drops_root(&self, trace_id: TraceId) -> bool {
        match &self.root {
            Decider::AlwaysOn | Decider::RateLimited(_) => false,
            Decider::AlwaysOff => true,
            Decider::Ratio(own) => {
                own.is_none_or(|own| !own.keeps(Randomness::of_trace_id(trace_id)))
            }
        }
    }

    fn decide_root(&self, input: &HeadInput<'_>) -> HeadDecision {
        match &self.root {
            Decider::AlwaysOn => HeadDecision { sampled: true, trace_state: None },
            Decider::AlwaysOff => HeadDecision { sampled: false, trace_state: None },
            Decider::RateLimited(limiter) => {
                HeadDecision { sampled: limiter.admit(input.now_nanos), trace_state: None }
            }
            Decider::Ratio(own) => {
                let randomness = Randomness::of_trace_id(input.trace_id);
                let threshold = own.filter(|own| own.keeps(randomness));
                HeadDecision {
                    sampled: threshold.is_some(),
                    trace_state: OtState::default().replace_threshold(&TraceState::NONE, threshold),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
