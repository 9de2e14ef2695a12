//! The text of a filter, and the filter.

use tracing_core::Metadata;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::{Layer, Registry};

use super::table::Verdict;
use crate::env::Warning;

/// What is logged by default.
pub(crate) const DEFAULT_LOG: &str = "info";
/// What becomes spans by default. The query events of `sqlx` are at debug.
pub(crate) const DEFAULT_SPANS: &str = "info,sqlx::query=debug";

/// Code that delivers spans makes none, unless the filter names it. With a trailing `::` a
/// directive does not touch other crates of the same beginning (`tower_http`).
const INTERNALS: [&str; 10] = [
    "spanweave_exporter::",
    "spanweave_metrics::",
    "hyper::",
    "hyper_util::",
    "h2::",
    "tonic::",
    "reqwest::",
    "tower::",
    "rustls::",
    "opentelemetry",
];

/// A parsed filter.
pub(crate) struct Directives {
    filter: EnvFilter,
    /// Whether some of them depend on the spans around, so that the filter has to see spans.
    dynamic: bool,
}

impl Directives {
    /// The filter of the log. A text that does not parse is named and replaced by the default.
    pub(crate) fn for_log(text: Option<&str>, warnings: &mut Vec<Warning>) -> Self {
        let text = text.unwrap_or(DEFAULT_LOG);
        parse_or(text, DEFAULT_LOG, ["RUST_LOG", "log_filter"], warnings)
    }

    /// The filter of spans and of the events on them.
    pub(crate) fn for_spans(text: Option<&str>, warnings: &mut Vec<Warning>) -> Self {
        let text = text.unwrap_or(DEFAULT_SPANS);
        let full = without_internals(text);
        let default = without_internals(DEFAULT_SPANS);
        parse_or(&full, &default, ["SPANWEAVE_FILTER", "span_filter"], warnings)
    }

    /// Whether directives depend on the spans around.
    pub(crate) fn is_dynamic(&self) -> bool {
        self.dynamic
    }

    /// The filter itself, for what has to be asked each time.
    pub(crate) fn filter(&self) -> &EnvFilter {
        &self.filter
    }

    /// The most verbose level that can pass.
    pub(crate) fn max_level(&self) -> LevelFilter {
        self.filter.max_level_hint().unwrap_or(LevelFilter::TRACE)
    }

    /// Whether a consumer that does not ask again takes a callsite.
    pub(crate) fn takes(&self, metadata: &'static Metadata<'static>) -> bool {
        self.verdict(metadata) == Verdict::On
    }

    /// What is known of a callsite as such.
    pub(crate) fn verdict(&self, metadata: &'static Metadata<'static>) -> Verdict {
        let interest = Layer::<Registry>::register_callsite(&self.filter, metadata);
        if interest.is_always() {
            Verdict::On
        } else if interest.is_never() {
            Verdict::Off
        } else {
            Verdict::Ask
        }
    }
}

fn parse_or(
    text: &str,
    default: &str,
    [variable, method]: [&str; 2],
    warnings: &mut Vec<Warning>,
) -> Directives {
    match EnvFilter::builder().parse(text) {
        Ok(filter) => Directives { filter, dynamic: text.contains('[') },
        Err(error) => {
            let message = format!("{error} (or in Builder::{method}); the default is used");
            warnings.push(Warning { variable: variable.to_owned(), message });
            let filter = EnvFilter::builder().parse_lossy(default);
            Directives { filter, dynamic: false }
        }
    }
}

/// `text` behind directives that turn the internals off, without those that `text` names itself.
fn without_internals(text: &str) -> String {
    let named = |internal: &str| {
        let name = internal.trim_end_matches("::");
        text.split(',').map(str::trim).any(|directive| {
            directive
                .strip_prefix(name)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    };
    let off =
        INTERNALS.iter().filter(|internal| !named(internal)).map(|name| format!("{name}=off"));
    let mut parts: Vec<String> = off.collect();
    parts.push(text.to_owned());
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internals_are_off_unless_they_are_named() {
        let text = without_internals("info");
        assert!(text.ends_with("opentelemetry=off,info"), "{text}");
        assert!(text.contains("hyper::=off") && text.contains("hyper_util::=off"));
        let text = without_internals("info,hyper=debug,h2[send]=trace, tower::buffer=info");
        assert!(!text.contains("hyper::=off") && !text.contains("h2::=off"), "{text}");
        assert!(!text.contains("tower::=off"), "{text}");
        assert!(text.contains("hyper_util::=off") && text.contains("tonic::=off"), "{text}");
    }

    #[test]
    fn a_filter_that_does_not_parse_is_named_and_replaced() {
        let mut warnings = Vec::new();
        let filter = Directives::for_log(Some("my_crate=loud"), &mut warnings);
        assert_eq!(filter.max_level(), LevelFilter::INFO);
        let filter = Directives::for_spans(Some("a=b=c"), &mut warnings);
        assert_eq!(filter.max_level(), LevelFilter::DEBUG);
        let named: Vec<_> = warnings.iter().map(|warning| warning.variable.as_str()).collect();
        assert_eq!(named, ["RUST_LOG", "SPANWEAVE_FILTER"]);
    }

    #[test]
    fn only_directives_about_spans_are_dynamic() {
        let mut warnings = Vec::new();
        assert!(!Directives::for_log(Some("info,a=debug"), &mut warnings).is_dynamic());
        assert!(
            Directives::for_log(Some("info,[request{id=1}]=debug"), &mut warnings).is_dynamic()
        );
        assert_eq!(warnings, []);
    }
}
