//! A span that can be made up, and a strict reader of both formats.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use opentelemetry::trace::SpanKind;
use spanweave_core::span::{AttributeValue, StatusCode};

use crate::Metrics;
use crate::ended::Ended;
use crate::observer::Recorder;
use crate::schema::Schema;
use crate::text::Format;

#[derive(Clone, Debug)]
pub(crate) struct FakeSpan {
    pub(crate) callsite: Option<u32>,
    pub(crate) fixed_name: Option<&'static str>,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) status: StatusCode,
    pub(crate) error_type: Option<String>,
    pub(crate) nanos: u64,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) local_root: bool,
    pub(crate) caller: Option<String>,
    pub(crate) flagged: bool,
}

impl FakeSpan {
    /// A span with a name made at run time.
    pub(crate) fn named(name: &str) -> Self {
        Self {
            callsite: None,
            fixed_name: None,
            name: name.to_owned(),
            kind: SpanKind::Internal,
            status: StatusCode::Unset,
            error_type: None,
            nanos: 1_000,
            attributes: Vec::new(),
            local_root: false,
            caller: None,
            flagged: false,
        }
    }

    /// A span with the name of its callsite.
    pub(crate) fn at(callsite: u32, name: &'static str) -> Self {
        Self { callsite: Some(callsite), fixed_name: Some(name), ..Self::named(name) }
    }

    pub(crate) fn failed(mut self, error_type: &str) -> Self {
        self.status = StatusCode::Error;
        self.error_type = Some(error_type.to_owned());
        self
    }
}

impl Ended for FakeSpan {
    fn callsite(&self) -> Option<u32> {
        self.callsite
    }
    fn static_name(&self) -> Option<&'static str> {
        self.fixed_name
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn kind(&self) -> &SpanKind {
        &self.kind
    }
    fn status(&self) -> StatusCode {
        self.status
    }
    fn error_type(&self) -> Option<&str> {
        self.error_type.as_deref()
    }
    fn duration_nanos(&self) -> u64 {
        self.nanos
    }
    fn attribute(&self, key: &str) -> Option<AttributeValue<'_>> {
        let value = self.attributes.iter().find(|(name, _)| name == key);
        value.map(|(_, value)| AttributeValue::Str(value))
    }
    fn is_local_root(&self) -> bool {
        self.local_root
    }
    fn caller_service(&self) -> Option<&str> {
        self.caller.as_deref()
    }
    fn is_flagged(&self) -> bool {
        self.flagged
    }
}

pub(crate) fn recorder(series_limit: usize) -> Arc<Recorder> {
    recorder_with(&Metrics::default().series_limit(series_limit))
}

pub(crate) fn recorder_with(settings: &Metrics) -> Arc<Recorder> {
    let schema = Arc::new(Schema::new(settings));
    Arc::new(Recorder::new(Arc::default(), schema, settings.series_limit))
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
    pub(crate) exemplar: Option<(BTreeMap<String, String>, f64, f64)>,
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Samples that have a name.
pub(crate) fn all<'a>(samples: &'a [Sample], name: &'a str) -> impl Iterator<Item = &'a Sample> {
    samples.iter().filter(move |sample| sample.name == name)
}

/// Reads an exposition. Panics at whatever the format does not allow.
pub(crate) fn read(text: &str, format: Format) -> Vec<Sample> {
    let open_metrics = format == Format::OpenMetrics;
    let body = if open_metrics {
        text.strip_suffix("# EOF\n").expect("OpenMetrics ends with # EOF")
    } else {
        text
    };
    assert!(body.is_empty() || body.ends_with('\n'), "the last line is not ended");
    let mut samples: Vec<Sample> = Vec::new();
    let mut families = BTreeSet::new();
    let mut help: Option<String> = None;
    let mut family: Option<(String, String)> = None;
    for line in body.lines() {
        assert!(!line.is_empty(), "an empty line");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').expect("HELP has a text");
            assert!(!text.is_empty(), "{name} has an empty HELP");
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            help = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("TYPE has a type");
            assert_eq!(help.take().as_deref(), Some(name), "TYPE without HELP");
            let known = ["counter", "gauge", "histogram", "summary", "info"];
            assert!(known.contains(&kind) && (open_metrics || kind != "info"), "{line}");
            assert!(!(open_metrics && kind == "counter" && name.ends_with("_total")), "{line}");
            family = Some((name.to_owned(), kind.to_owned()));
        } else {
            assert!(!line.starts_with('#'), "an unknown comment: {line}");
            let sample = read_sample(line, open_metrics);
            let (family, kind) = family.as_ref().expect("a sample before any family");
            let suffix = sample.name.strip_prefix(family.as_str()).expect("a sample of its family");
            let allowed: &[&str] = match (kind.as_str(), open_metrics) {
                ("counter", true) => &["_total"],
                ("info", _) => &["_info"],
                ("histogram", _) => &["_bucket", "_sum", "_count"],
                ("summary", _) => &["", "_sum", "_count"],
                _ => &[""],
            };
            assert!(allowed.contains(&suffix), "{line}");
            assert!(
                sample.exemplar.is_none() || ["_bucket", "_total"].contains(&suffix),
                "an exemplar where none is allowed: {line}"
            );
            let same = |other: &Sample| other.name == sample.name && other.labels == sample.labels;
            assert!(!samples.iter().rev().take(3_000).any(same), "a series comes twice: {line}");
            samples.push(sample);
        }
    }
    samples
}

fn read_sample(line: &str, open_metrics: bool) -> Sample {
    let end = line.find(['{', ' ']).expect("a value");
    let (name, mut rest) = line.split_at(end);
    assert!(
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
            && !name.starts_with(|c: char| c.is_ascii_digit()),
        "{line}"
    );
    let mut labels = BTreeMap::new();
    if rest.starts_with('{') {
        (labels, rest) = read_labels(rest);
    }
    let rest = rest.strip_prefix(' ').expect("a space before the value");
    let (value, exemplar) = match rest.split_once(" # ") {
        Some((value, exemplar)) => {
            assert!(open_metrics, "an exemplar in the text format: {line}");
            let (labels, rest) = read_labels(exemplar);
            let length = |(name, value): (&String, &String)| name.len() + value.chars().count();
            assert!(labels.iter().map(length).sum::<usize>() <= 128, "{line}");
            let rest = rest.strip_prefix(' ').expect("a space before the exemplar's value");
            let (observed, at) = rest.split_once(' ').expect("the exemplar's time");
            (value, Some((labels, number(observed), number(at))))
        }
        None => (rest, None),
    };
    Sample { name: name.to_owned(), labels, value: number(value), exemplar }
}

/// Reads `{a="b",c="d"}` and returns what follows.
fn read_labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    let mut rest = text.strip_prefix('{').expect("{");
    while !rest.starts_with('}') {
        let (name, after) = rest.split_once("=\"").expect("a label");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "label {name:?}");
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().expect("a closing quotation mark") {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().expect("an escaped character").1 {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    other => panic!("an unknown escape: {other:?}"),
                }),
                (_, c) => {
                    assert!(!c.is_control(), "a control character");
                    value.push(c);
                }
            }
        };
        assert!(!value.is_empty(), "an empty label {name}");
        assert!(labels.insert(name.to_owned(), value).is_none(), "label {name} comes twice");
        rest = &after[end + 1..];
        if let Some(next) = rest.strip_prefix(',') {
            assert!(!next.starts_with('}'), "a comma at the end");
            rest = next;
        }
    }
    (labels, &rest[1..])
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        _ => text.parse().unwrap_or_else(|_| panic!("not a number: {text:?}")),
    }
}
