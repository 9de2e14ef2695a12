//! What a span says, in a form in which the two captures can be compared.
//!
//! Each difference between them that is meant has a function of its own here, with the reason.
//! Whatever is not named here has to be equal.

use std::collections::BTreeMap;
use std::fmt::Debug;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceId};
use opentelemetry::{Array, KeyValue, Value};
use opentelemetry_sdk::trace::SpanData;

use crate::facts::{Facts, SpanFacts};
use crate::program::TEXTS;
use crate::run::Kind;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Normal {
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) scope: (String, String),
    pub(crate) context: Reference,
    pub(crate) parent: Reference,
    pub(crate) parent_is_remote: bool,
    pub(crate) status: Status,
    pub(crate) attributes: Attributes,
    pub(crate) events: Vec<(String, Attributes)>,
    pub(crate) links: Vec<(Reference, Attributes)>,
    pub(crate) dropped: (u32, u32, u32),
}

pub(crate) type Attributes = BTreeMap<String, Value>;

/// A span or none, by what it is called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reference {
    pub(crate) trace: String,
    pub(crate) span: String,
    pub(crate) flags: u8,
    pub(crate) state: String,
}

/// The spans of one run, by what they are called: their attribute `n`, else their name.
pub(crate) type Spans = BTreeMap<String, Normal>;

/// Brings what was exported into a comparable form.
pub(crate) fn normalise(kind: Kind, exported: &[SpanData], facts: &Facts) -> Spans {
    let names = Names::of(exported);
    let mut spans = Spans::new();
    for data in exported {
        let key = key(data);
        let mut span = names.span(data);
        name_ids_and_times(&mut span);
        unsigned_integers(kind, &mut span);
        exceptions(&mut span);
        quotes_of_errors(&mut span);
        masks_of_the_pipeline(kind, &mut span);
        code_of_events(&mut span);
        panics(&mut span);
        random_flag_and_ot(&mut span);
        displaced_events(&mut span, facts);
        assert!(spans.insert(key.clone(), span).is_none(), "{key} was exported twice");
    }
    spans
}

/// Whether `ours` and `theirs` are the same run of a program, apart from what can only be judged
/// with the knowledge of what the program did.
pub(crate) fn compare(ours: &Spans, theirs: &Spans, facts: &Facts) -> Result<(), String> {
    let mut report = String::new();
    for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
        let (Some(our), Some(their)) = (ours.get(key), theirs.get(key)) else {
            let side = if ours.contains_key(key) { "ours" } else { "theirs" };
            report.push_str(&format!("span {key} is in {side} only\n"));
            continue;
        };
        let (mut our, mut their) = (our.clone(), their.clone());
        if let Some(facts) = number(key).and_then(|number| facts.spans.get(&number)) {
            late_name_and_kind(&mut our, &mut their, facts);
            status_precedence(&mut our, &mut their, facts);
        }
        differ(&mut report, key, &our, &their);
    }
    if report.is_empty() { Ok(()) } else { Err(report) }
}

/// Whether our capture did what only it does: the rules under which `compare` looks away.
pub(crate) fn check_native(spans: &Spans, facts: &Facts) -> Result<(), String> {
    for (key, span) in spans {
        let Some(facts) = number(key).and_then(|number| facts.spans.get(&number)) else {
            continue;
        };
        let expect = |what: &str, is: &dyn Debug, should: &dyn Debug| {
            let (is, should) = (format!("{is:?}"), format!("{should:?}"));
            if is == should { Ok(()) } else { Err(format!("{what} of {key}: {is}, not {should}")) }
        };
        if let Some(status) = facts.status() {
            expect("status", &span.status, &unquoted_status(status))?;
        }
        if let Some(name) = facts.late_name {
            expect("name", &span.name, &name)?;
        }
        if let Some(kind) = &facts.late_kind {
            expect("kind", &span.kind, kind)?;
        }
    }
    Ok(())
}

fn number(key: &str) -> Option<i64> {
    key.strip_prefix('#')?.parse().ok()
}

fn differ(report: &mut String, key: &str, ours: &Normal, theirs: &Normal) {
    if ours == theirs {
        return;
    }
    report.push_str(&format!("span {key} differs (- ours, + theirs)\n"));
    let (ours, theirs) = (format!("{ours:#?}"), format!("{theirs:#?}"));
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (lines(&ours), lines(&theirs));
    let same_start = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
    let most = ours.len().min(theirs.len()) - same_start;
    let ends = ours.iter().rev().zip(theirs.iter().rev());
    let same_end = ends.take(most).take_while(|(a, b)| a == b).count();
    for (sign, lines) in [('-', &ours), ('+', &theirs)] {
        for line in &lines[same_start..lines.len() - same_end] {
            report.push_str(&format!("{sign} {line}\n"));
        }
    }
}

fn key(data: &SpanData) -> String {
    match data.attributes.iter().find(|attribute| attribute.key.as_str() == "n") {
        Some(number) => format!("#{}", number.value),
        None => data.name.to_string(),
    }
}

/// **Ids.** They are random, so spans and traces go by what they are called. Those of callers
/// are given by the program and stay as they are.
struct Names {
    spans: BTreeMap<[u8; 8], String>,
    /// A trace that began in the program is called by its first span.
    traces: BTreeMap<[u8; 16], String>,
}

impl Names {
    fn of(exported: &[SpanData]) -> Self {
        let mut names = Self { spans: BTreeMap::new(), traces: BTreeMap::new() };
        for data in exported {
            let key = key(data);
            names.spans.insert(data.span_context.span_id().to_bytes(), key.clone());
            let trace = names.traces.entry(data.span_context.trace_id().to_bytes());
            let name = trace.or_insert_with(|| key.clone());
            if key < *name {
                *name = key;
            }
        }
        names
    }

    /// Ids of callers are small numbers; no random id is.
    fn trace(&self, id: TraceId) -> String {
        match u128::from_be_bytes(id.to_bytes()) {
            given @ 0..256 => format!("given {given}"),
            _ => self.traces.get(&id.to_bytes()).cloned().unwrap_or_else(|| "unseen".into()),
        }
    }

    fn span_name(&self, id: SpanId) -> String {
        match u64::from_be_bytes(id.to_bytes()) {
            0 => "none".into(),
            given @ 0..256 => format!("given {given}"),
            _ => self.spans.get(&id.to_bytes()).cloned().unwrap_or_else(|| "unseen".into()),
        }
    }

    fn reference(&self, context: &SpanContext) -> Reference {
        Reference {
            trace: self.trace(context.trace_id()),
            span: self.span_name(context.span_id()),
            flags: context.trace_flags().to_u8(),
            state: context.trace_state().header(),
        }
    }

    fn span(&self, data: &SpanData) -> Normal {
        let context = self.reference(&data.span_context);
        let scope = &data.instrumentation_scope;
        Normal {
            name: data.name.to_string(),
            kind: data.span_kind.clone(),
            scope: (scope.name().to_owned(), scope.version().unwrap_or_default().to_owned()),
            parent: Reference { span: self.span_name(data.parent_span_id), ..context.clone() },
            context,
            parent_is_remote: data.parent_span_is_remote,
            status: data.status.clone(),
            attributes: last_of_each_key(&data.attributes),
            events: data
                .events
                .iter()
                .map(|event| (event.name.to_string(), last_of_each_key(&event.attributes)))
                .collect(),
            links: data
                .links
                .iter()
                .map(|link| {
                    (self.reference(&link.span_context), last_of_each_key(&link.attributes))
                })
                .collect(),
            dropped: (
                data.dropped_attributes_count,
                data.events.dropped_count,
                data.links.dropped_count,
            ),
        }
    }
}

/// **Attribute order, duplicate keys.** The SDK keeps all values of a key in the order in which
/// they were set; backends take the last one, and so do we.
fn last_of_each_key(attributes: &[KeyValue]) -> Attributes {
    attributes
        .iter()
        .map(|attribute| (attribute.key.to_string(), attribute.value.clone()))
        .collect()
}

/// **Ids and times.** Durations differ from run to run, and threads have other numbers where a
/// program makes its own.
fn name_ids_and_times(span: &mut Normal) {
    for key in ["busy_ns", "idle_ns", "thread.id"] {
        if let Some(Value::I64(number @ 0..)) = span.attributes.get_mut(key) {
            *number = 0;
        }
    }
}

/// Fields that programs set to unsigned integers, and never to text that reads like a number.
const UNSIGNED: [&str; 9] =
    ["a", "b", "late", "failure", "unsigned", "size", "depth", "number", "extra"];

/// **Unsigned integers.** `tracing-opentelemetry` has no method for them, so they arrive as
/// formatted text; with us all that fit an `i64` are integers. Integers of 128 bits are text with
/// both.
fn unsigned_integers(kind: Kind, span: &mut Normal) {
    if kind == Kind::Native {
        return;
    }
    each_list(span, |attributes| {
        for key in UNSIGNED {
            if let Some(value) = attributes.get_mut(key)
                && let Value::String(text) = value
                && let Ok(number @ 0..) = text.as_str().parse::<i64>()
                && number.to_string() == text.as_str()
            {
                *value = Value::I64(number);
            }
        }
    });
}

/// **`exception.type`, `error.type`, the form of the stack trace.** The first two are our
/// additions. The semantic conventions want the third to be text; `tracing-opentelemetry` gives an
/// array, and an empty one where there is no source. The bare chain stays comparable as
/// `<field>.chain`.
fn exceptions(span: &mut Normal) {
    let own = span.attributes.get("error.type").is_some_and(|value| value.as_str() != "given");
    if own {
        span.attributes.remove("error.type");
    }
    each_list(span, |attributes| {
        attributes.remove("exception.type");
        match attributes.remove("exception.stacktrace") {
            Some(Value::Array(Array::String(chain))) if !chain.is_empty() => {
                let chain: Vec<_> = chain.iter().map(|text| text.as_str()).collect();
                attributes.insert("exception.stacktrace".into(), chain.join("\n").into());
            }
            // Of `record_error`, which the peer does not have.
            Some(Value::String(text)) if text.as_str().starts_with("Caused by: ") => {}
            Some(Value::String(text)) => {
                attributes.insert("exception.stacktrace".into(), Value::String(text));
            }
            _ => {}
        }
    });
}

/// **Quotes around `error` strings.** `tracing-opentelemetry` takes the `Debug` form of a string
/// for an error's message.
fn quotes_of_errors(span: &mut Normal) {
    let status = std::mem::take(&mut span.status);
    span.status = unquoted_status(status);
    for (_, attributes) in span.events.iter_mut().filter(|(name, _)| name == "exception") {
        if let Some(Value::String(text)) = attributes.get_mut("exception.message") {
            *text = unquoted(text.as_str()).into();
        }
    }
}

fn unquoted_status(status: Status) -> Status {
    match status {
        Status::Error { description } => Status::error(unquoted(&description)),
        other => other,
    }
}

fn unquoted(text: &str) -> String {
    let raw = TEXTS.iter().find(|raw| format!("{raw:?}") == text);
    raw.map_or_else(|| text.to_owned(), |raw| (*raw).to_owned())
}

/// Secrets are masked by our pipeline whoever captures, but not by the stock SDK.
fn masks_of_the_pipeline(kind: Kind, span: &mut Normal) {
    if kind == Kind::Stock {
        each_list(span, |attributes| {
            if let Some(value) = attributes.get_mut("password") {
                *value = spanweave_core::masking::MASK.into();
            }
        });
    }
}

/// **`code.*` names.** With us events do not carry the name of their module: it is their target,
/// if not set otherwise. Events of the `log` crate do; none of them comes from this one.
fn code_of_events(span: &mut Normal) {
    for (_, attributes) in &mut span.events {
        if let Some(Value::String(module)) = attributes.get("code.module.name")
            && module.as_str().starts_with(env!("CARGO_CRATE_NAME"))
        {
            attributes.remove("code.module.name");
        }
    }
}

/// **Panics.** `tracing-opentelemetry` does not see them.
fn panics(span: &mut Normal) {
    let before = span.events.len();
    span.events.retain(|(_, attributes)| !attributes.contains_key("exception.escaped"));
    if span.events.len() < before {
        span.status = Status::Unset;
    }
}

/// **The random flag and `ot`.** The SDK cannot set the flag on a new trace, and knows nothing of
/// consistent sampling.
fn random_flag_and_ot(span: &mut Normal) {
    let links = span.links.iter_mut().map(|(context, _)| context);
    for reference in [&mut span.context, &mut span.parent].into_iter().chain(links) {
        reference.flags &= !2;
        let members = reference.state.split(',').filter(|member| !member.starts_with("ot="));
        reference.state = members.collect::<Vec<_>>().join(",");
    }
}

/// **Re-entrant A-B-A.** Where a span is entered again inside another one, its events go to it
/// with us; the registry's current span, which `tracing-opentelemetry` asks for, is the other one.
fn displaced_events(span: &mut Normal, facts: &Facts) {
    span.events.retain(|(_, attributes)| match attributes.get("n") {
        Some(Value::I64(number)) => !facts.displaced.contains(number),
        _ => true,
    });
}

/// **`otel.*` recorded after the start.** `tracing-opentelemetry` has given its span away by then
/// and ignores name and kind; with us they count until the end.
fn late_name_and_kind(ours: &mut Normal, theirs: &mut Normal, facts: &SpanFacts) {
    if facts.late_name.is_some() {
        theirs.name.clone_from(&ours.name);
    }
    if facts.late_kind.is_some() {
        theirs.kind.clone_from(&ours.kind);
    }
}

/// **Status precedence.** Before its start a span of `tracing-opentelemetry` keeps the last
/// status, even if that is Unset; afterwards the SDK keeps the greater one, of two descriptions
/// the one that is later in the alphabet. With us Ok is final and the last description stands.
fn status_precedence(ours: &mut Normal, theirs: &mut Normal, facts: &SpanFacts) {
    if facts.is_status_disputed() {
        theirs.status = std::mem::take(&mut ours.status);
        ours.status = theirs.status.clone();
    }
}

fn each_list(span: &mut Normal, mut change: impl FnMut(&mut Attributes)) {
    change(&mut span.attributes);
    span.events.iter_mut().for_each(|(_, attributes)| change(attributes));
    span.links.iter_mut().for_each(|(_, attributes)| change(attributes));
}
