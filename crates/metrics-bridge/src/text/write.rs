//! Families to text.

use super::Format;
use super::number::{push, push_canonical, push_float, push_integer, push_seconds};
use crate::model::{Bucket, Exemplar, Family, FamilyKind, Label, Number, Point, Value};

/// A line of a histogram has about so many bytes; a guess that saves growing.
const BYTES_PER_LINE: usize = 112;

/// Writes families in the order given. Families without points are left out.
pub(crate) fn write(families: &[Family], format: Format) -> String {
    let lines: usize = families.iter().flat_map(|family| &family.points).map(lines).sum();
    let mut writer = Writer {
        out: String::with_capacity((lines + 4 * families.len()) * BYTES_PER_LINE),
        labels: String::new(),
        format,
    };
    for family in families.iter().filter(|family| !family.points.is_empty()) {
        writer.family(family);
    }
    if format == Format::OpenMetrics {
        writer.out.push_str("# EOF\n");
    }
    writer.out
}

fn lines(point: &Point) -> usize {
    match &point.value {
        Value::Single(..) => 1,
        Value::Histogram { buckets, .. } => buckets.len() + 2,
        Value::Summary { quantiles, .. } => quantiles.len() + 2,
    }
}

struct Writer {
    out: String,
    /// The labels of the current point, without braces: `a="b",c="d"`.
    labels: String,
    format: Format,
}

impl Writer {
    fn family(&mut self, family: &Family) {
        let open_metrics = self.format == Format::OpenMetrics;
        let name = if open_metrics { family.base_name() } else { &family.name };
        let kind = match family.kind {
            FamilyKind::Counter => "counter",
            FamilyKind::Info if open_metrics => "info",
            FamilyKind::Gauge | FamilyKind::Info => "gauge",
            FamilyKind::Histogram => "histogram",
            FamilyKind::Summary => "summary",
        };
        self.out.push_str("# HELP ");
        self.out.push_str(name);
        self.out.push(' ');
        // The text format has quotation marks in help texts as they are.
        push_escaped(&mut self.out, &family.help, open_metrics);
        self.out.push_str("\n# TYPE ");
        self.out.push_str(name);
        self.out.push(' ');
        self.out.push_str(kind);
        self.out.push('\n');
        let suffix = match family.kind {
            FamilyKind::Counter if open_metrics => "_total",
            FamilyKind::Info if open_metrics => "_info",
            _ => "",
        };
        for point in &family.points {
            self.set_labels(&point.labels);
            self.point(name, suffix, point);
        }
    }

    fn set_labels(&mut self, labels: &[Label]) {
        self.labels.clear();
        // A label without a value is a label that is not there.
        for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
            if !self.labels.is_empty() {
                self.labels.push(',');
            }
            self.labels.push_str(name);
            self.labels.push_str("=\"");
            push_escaped(&mut self.labels, value, true);
            self.labels.push('"');
        }
    }

    fn point(&mut self, name: &str, suffix: &str, point: &Point) {
        match &point.value {
            Value::Single(number, exemplar) => {
                self.begin(name, suffix, None);
                push(&mut self.out, *number);
                let exemplar = exemplar.as_ref().map(|exemplar| (exemplar, Number::Integer(1)));
                self.end(point, exemplar);
            }
            Value::Histogram { buckets, sum } => {
                for bucket in buckets {
                    self.begin(name, "_bucket", Some(("le", bucket.bound)));
                    push_integer(&mut self.out, bucket.count);
                    let exemplar = bucket.exemplar.as_ref();
                    self.end(point, exemplar.map(|e| (e, Number::Seconds(e.value))));
                }
                self.begin(name, "_sum", None);
                push(&mut self.out, *sum);
                self.end(point, None);
                self.count(name, point, buckets.last().map_or(0, |Bucket { count, .. }| *count));
            }
            Value::Summary { quantiles, sum, count } => {
                for (quantile, value) in quantiles {
                    self.begin(name, "", Some(("quantile", *quantile)));
                    push_float(&mut self.out, *value);
                    self.end(point, None);
                }
                self.begin(name, "_sum", None);
                push_float(&mut self.out, *sum);
                self.end(point, None);
                self.count(name, point, *count);
            }
        }
    }

    fn count(&mut self, name: &str, point: &Point, count: u64) {
        self.begin(name, "_count", None);
        push_integer(&mut self.out, count);
        self.end(point, None);
    }

    /// Writes a sample up to its value.
    fn begin(&mut self, name: &str, suffix: &str, extra: Option<(&str, f64)>) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        if !self.labels.is_empty() || extra.is_some() {
            self.out.push('{');
            self.out.push_str(&self.labels);
            if let Some((label, value)) = extra {
                if !self.labels.is_empty() {
                    self.out.push(',');
                }
                self.out.push_str(label);
                self.out.push_str("=\"");
                match self.format {
                    Format::OpenMetrics => push_canonical(&mut self.out, value),
                    Format::Text => push_float(&mut self.out, value),
                }
                self.out.push('"');
            }
            self.out.push('}');
        }
        self.out.push(' ');
    }

    /// Writes what follows a sample's value: also an exemplar with its own value.
    fn end(&mut self, point: &Point, exemplar: Option<(&Exemplar, Number)>) {
        if let Some(timestamp) = point.timestamp_ms {
            self.out.push(' ');
            match self.format {
                Format::OpenMetrics => push_float(&mut self.out, timestamp as f64 / 1e3),
                Format::Text => push_float(&mut self.out, timestamp as f64),
            }
        }
        if self.format == Format::OpenMetrics
            && let Some((exemplar, observed)) = exemplar
        {
            push_exemplar(&mut self.out, exemplar, observed);
        }
        self.out.push('\n');
    }
}

/// Both ids with their names are 63 characters, of 128 that are allowed.
fn push_exemplar(out: &mut String, exemplar: &Exemplar, observed: Number) {
    out.push_str(" # {trace_id=\"");
    push_hex(out, &exemplar.trace_id.to_bytes());
    out.push_str("\",span_id=\"");
    push_hex(out, &exemplar.span_id.to_bytes());
    out.push_str("\"} ");
    push(out, observed);
    out.push(' ');
    // Milliseconds, which is what Prometheus keeps.
    push_seconds(out, exemplar.at - exemplar.at % 1_000_000);
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.extend(
            [byte >> 4, byte & 15]
                .map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0')),
        );
    }
}

/// Escapes `\`, line feed and, where `quotes` says so, `"`.
fn push_escaped(out: &mut String, text: &str, quotes: bool) {
    let mut rest = text;
    while let Some(at) = rest.find(|c| c == '\\' || c == '\n' || (quotes && c == '"')) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        out.push_str(match tail.as_bytes().first() {
            Some(b'\n') => "\\n",
            Some(b'"') => "\\\"",
            _ => "\\\\",
        });
        rest = tail.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
}
