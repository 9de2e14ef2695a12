//! What is known of a query by its text.

use std::borrow::Cow;

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
        let dialect = Dialect::of_system(system);
        let text = text.trim();
        Self { text: sql::presentable(text, dialect), summary: sql::summarize(text, dialect) }
    }

    /// The name of its span: the summary, else the system (semantic conventions; where there is
    /// an operation, there is a summary).
    pub(super) fn name<'b>(&'b self, system: &'b str) -> &'b str {
        if self.summary.text().is_empty() { system } else { self.summary.text() }
    }
}
