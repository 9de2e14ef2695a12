//! What is known of a query by its text.

use std::borrow::Cow;

use super::call;
use super::sql::{self, Dialect, Summary};

/// A query, described by its text.
#[derive(Debug)]
pub(super) struct Query<'a> {
    /// `db.query.text`.
    pub(super) text: Cow<'a, str>,
    pub(super) summary: Summary,
}

impl<'a> Query<'a> {
    pub(super) fn describe(text: &'a str, system: &str) -> Self {
        let text = text.trim();
        if matches!(system, "redis" | "valkey" | "memcached") {
            let operation = text.split_ascii_whitespace().next().unwrap_or_default();
            return Self { text: call::command(text), summary: Summary::of_operation(operation) };
        }
        let dialect = Dialect::of_system(system);
        Self { text: sql::presentable(text, dialect), summary: sql::summarize(text, dialect) }
    }

    /// The name of its span: the summary, else the system (semantic conventions; where there is
    /// an operation, there is a summary).
    pub(super) fn name<'b>(&'b self, system: &'b str) -> &'b str {
        if self.summary.text().is_empty() { system } else { self.summary.text() }
    }
}
