//! SQL text: what it does in a few words, and without its literals.
//!
//! A lexer of the dialects' common ground, no parser: it knows strings, numbers, quoted names,
//! comments, placeholders and words, and takes any text. All functions are pure and linear in the
//! length of the text.

mod lexer;

mod sanitize;
mod summary;

use std::borrow::Cow;

pub use lexer::Dialect;
pub use summary::Summary;

/// The operations and targets of a text, in order; see [`Summary`].
///
/// ```
/// use spanweave_instrumentation::db::sql::{Dialect, summarize};
///
/// let text = "INSERT INTO shipping_details (order_id) SELECT order_id FROM orders WHERE id = $1";
/// let summary = summarize(text, Dialect::Postgres);
/// assert_eq!(summary.text(), "INSERT shipping_details SELECT orders");
/// ```
pub fn summarize(text: &str, dialect: Dialect) -> Summary {
    summary::summarize(text, dialect)
}

/// The text as it may be shown (`db.query.text`): as it is where it is parameterised (it has a
/// placeholder), else with `?` in place of every literal and without its comments.
///
/// ```
/// use spanweave_instrumentation::db::sql::{Dialect, presentable};
///
/// let show = |text| presentable(text, Dialect::Sqlite).into_owned();
/// assert_eq!(show("SELECT * FROM t WHERE id = 7 AND n = 'x'"), "SELECT * FROM t WHERE id = ? AND n = ?");
/// assert_eq!(show("SELECT 'a' FROM t WHERE id = ?1"), "SELECT 'a' FROM t WHERE id = ?1");
/// ```
pub fn presentable(text: &str, dialect: Dialect) -> Cow<'_, str> {
    sanitize::presentable(text, dialect)
}
