//! Text without its literals.

use std::borrow::Cow;

use super::lexer::{Dialect, Kind, Lexer, Token};

pub(super) fn presentable(text: &str, dialect: Dialect) -> Cow<'_, str> {
    if is_parameterised(text, dialect) { Cow::Borrowed(text) } else { sanitize(text, dialect) }
}

fn is_parameterised(text: &str, dialect: Dialect) -> bool {
    let mut tokens = Lexer::new(text, dialect).filter(|token| token.kind != Kind::Space).peekable();
    while let Some(token) = tokens.next() {
        // Of an unknown system, `?` may be PostgreSQL's operator: `data ? 'key'`, `data ?| array`.
        let is_operator = dialect == Dialect::Other
            && token.text == "?"
            && tokens.peek().is_some_and(|next| {
                next.kind == Kind::Text || next.is_symbol("|") || next.is_symbol("&")
            });
        if token.kind == Kind::Placeholder && !is_operator {
            return true;
        }
    }
    false
}

fn sanitize(text: &str, dialect: Dialect) -> Cow<'_, str> {
    let mut out = String::with_capacity(text.len());
    let mut position = Position::default();
    let mut lexer = Lexer::new(text, dialect);
    while let Some(token) = lexer.next() {
        match token.kind {
            Kind::Text | Kind::Number => out.push('?'),
            Kind::QuotedName if may_be_text(&token, &lexer, &position, dialect) => out.push('?'),
            // A comment may quote anything.
            Kind::Comment => {}
            _ => out.push_str(token.text),
        }
        position.advance(&token);
    }
    let out = out.trim();
    if out == text { Cow::Borrowed(text) } else { Cow::Owned(out.to_owned()) }
}

/// SQLite reads `"x"` as text where there is no such column, and of an unknown system it is not
/// known. Where a value is expected it counts as one: a column that is taken for text costs only
/// its name.
fn may_be_text(token: &Token<'_>, rest: &Lexer<'_>, at: &Position, dialect: Dialect) -> bool {
    let is_qualifier = || rest.clone().next().is_some_and(|next| next.is_symbol("."));
    matches!(dialect, Dialect::Sqlite | Dialect::Other)
        && token.text.starts_with('"')
        && at.expects_value()
        && !is_qualifier()
}

/// Whether a value is expected next.
#[derive(Debug, Default)]
struct Position {
    after_operator: bool,
    /// Between BETWEEN and its AND.
    in_range: bool,
    /// After VALUES or IN, up to the end of its lists.
    in_lists: bool,
    /// Parentheses that are open within those lists.
    depth: usize,
}

impl Position {
    fn expects_value(&self) -> bool {
        self.after_operator || self.depth > 0
    }

    fn advance(&mut self, token: &Token<'_>) {
        if matches!(token.kind, Kind::Space | Kind::Comment) {
            return;
        }
        if token.is_symbol("(") && self.in_lists {
            self.depth += 1;
        } else if token.is_symbol(")") {
            self.depth = self.depth.saturating_sub(1);
        }
        if self.depth == 0 {
            let goes_on = token.is_symbol(",") || token.is_symbol(")");
            self.in_lists = token.is_one_of(&["VALUES", "IN"]) || (self.in_lists && goes_on);
        }
        let ends_range = self.in_range && token.is_word("AND");
        self.in_range = token.is_word("BETWEEN") || (self.in_range && !ends_range);
        self.after_operator = ends_range
            || (token.kind == Kind::Symbol
                && matches!(token.text, "=" | "<" | ">" | "!" | "|" | "+" | "-" | "*" | "/" | "~"))
            || token.is_one_of(&[
                "LIKE", "ILIKE", "GLOB", "MATCH", "REGEXP", "BETWEEN", "THEN", "ELSE",
            ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_replaced_unless_the_text_is_parameterised() {
        let table = [
            ("SELECT 1", Dialect::Other, "SELECT ?"),
            (
                "SELECT * FROM t WHERE a = -1.5e3 AND b = 'x'",
                Dialect::Other,
                "SELECT * FROM t WHERE a = -? AND b = ?",
            ),
            (
                "SELECT * FROM t1 WHERE a2 IN (1, 2,3)",
                Dialect::Postgres,
                "SELECT * FROM t1 WHERE a2 IN (?, ?,?)",
            ),
            (
                "INSERT INTO t VALUES ('a', 1), ('b', 2)",
                Dialect::Sqlite,
                "INSERT INTO t VALUES (?, ?), (?, ?)",
            ),
            (
                "INSERT INTO \"t\" (\"c\") VALUES (\"a\"), (\"b\")",
                Dialect::Sqlite,
                "INSERT INTO \"t\" (\"c\") VALUES (?), (?)",
            ),
            (
                "SELECT \"c\" FROM \"t\" WHERE \"c\" = \"secret\"",
                Dialect::Postgres,
                "SELECT \"c\" FROM \"t\" WHERE \"c\" = \"secret\"",
            ),
            (
                "SELECT c FROM \"t\" WHERE c = \"secret\"",
                Dialect::Sqlite,
                "SELECT c FROM \"t\" WHERE c = ?",
            ),
            ("SELECT c FROM t WHERE c = \"secret\"", Dialect::MySql, "SELECT c FROM t WHERE c = ?"),
            (
                "SELECT c FROM t WHERE c LIKE \"s%\"",
                Dialect::Other,
                "SELECT c FROM t WHERE c LIKE ?",
            ),
            ("SELECT $$secret$$ /* 'secret' */ -- secret", Dialect::Postgres, "SELECT ?"),
            (
                "SELECT a FROM t WHERE j ? 'secret'",
                Dialect::Postgres,
                "SELECT a FROM t WHERE j ? ?",
            ),
            (
                "SELECT 'static' FROM t WHERE id = $1 -- why",
                Dialect::Postgres,
                "SELECT 'static' FROM t WHERE id = $1 -- why",
            ),
            ("SELECT a FROM t WHERE j ? 'secret'", Dialect::Other, "SELECT a FROM t WHERE j ? ?"),
            ("SELECT @x, a:b, 'secret'", Dialect::Other, "SELECT @x, a:b, ?"),
            ("SELECT 'never closed", Dialect::Other, "SELECT ?"),
            (
                "SELECT \"a\" FROM t WHERE \"b\" = 1 AND \"c\" = 2",
                Dialect::Sqlite,
                "SELECT \"a\" FROM t WHERE \"b\" = ? AND \"c\" = ?",
            ),
            (
                "SELECT a FROM t WHERE b BETWEEN \"x\" AND \"y\"",
                Dialect::Sqlite,
                "SELECT a FROM t WHERE b BETWEEN ? AND ?",
            ),
            (
                "SELECT 1 FROM a JOIN b ON a.\"x\" = \"b\".\"y\"",
                Dialect::Sqlite,
                "SELECT ? FROM a JOIN b ON a.\"x\" = \"b\".\"y\"",
            ),
            ("BEGIN", Dialect::Other, "BEGIN"),
            ("", Dialect::Other, ""),
        ];
        for (text, dialect, expected) in table {
            assert_eq!(presentable(text, dialect), expected, "{text}");
        }
    }
}
