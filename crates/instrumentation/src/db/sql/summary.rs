//! The operations and targets of a text, in the order in which they stand.
//!
//! A stack of frames, one for each open parenthesis: a frame knows whether it holds a query, and
//! whether a target comes next. `FROM` only names targets in a query, so that
//! `EXTRACT(year FROM t)` names none.

use std::collections::HashSet;

use super::lexer::{Dialect, Kind, Lexer, Token};

/// Semantic conventions, `db.query.summary`.
const MAX_CHARS: usize = 255;

/// The words that begin a query; reserved, so that they are no names.
const QUERY_WORDS: [&str; 3] = ["SELECT", "VALUES", "WITH"];

/// Words that end a list of tables.
const AFTER_TABLES: [&str; 17] = [
    "WHERE",
    "GROUP",
    "ORDER",
    "HAVING",
    "LIMIT",
    "SET",
    "RETURNING",
    "WINDOW",
    "FETCH",
    "OFFSET",
    "FOR",
    "WHEN",
    "VALUES",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "QUALIFY",
];

/// Words that may stand between the parts of a statement, after `)`.
const CONNECTORS: [&str; 8] =
    ["AS", "NOT", "MATERIALIZED", "UNION", "INTERSECT", "EXCEPT", "ALL", "DISTINCT"];

/// What a text does: `SELECT songs artists`, `INSERT shipping_details SELECT orders`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    text: String,
    chars: usize,
    full: bool,
    operation: Option<String>,
    collections: Collections,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Collections {
    #[default]
    None,
    One(String),
    Several,
}

impl Summary {
    /// The summary (`db.query.summary`): at most 255 characters, in the text's own case, never
    /// cut inside a word; empty where the text holds no operation.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first operation (`db.operation.name`), in the text's own case.
    pub fn operation(&self) -> Option<&str> {
        self.operation.as_deref()
    }

    /// The table (`db.collection.name`), where there is exactly one, without its quotes. The
    /// names of common table expressions, indices and procedures do not count.
    pub fn collection(&self) -> Option<&str> {
        match &self.collections {
            Collections::One(name) => Some(name),
            _ => None,
        }
    }

    /// Of a command that is one word and no SQL.
    pub(in crate::db) fn of_operation(word: &str) -> Self {
        let mut summary = Self::default();
        if !word.is_empty() {
            summary.push_operation(word);
        }
        summary
    }

    fn push_operation(&mut self, word: &str) {
        if self.operation.is_none() {
            self.operation = Some(word.to_owned());
        }
        self.push(word);
    }

    fn push(&mut self, piece: &str) {
        let separator = usize::from(!self.text.is_empty());
        let chars = self.chars + separator + piece.chars().count();
        self.full |= chars > MAX_CHARS;
        if self.full {
            return;
        }
        if separator == 1 {
            self.text.push(' ');
        }
        self.text.push_str(piece);
        self.chars = chars;
    }

    fn add_collection(&mut self, name: &str) {
        match &self.collections {
            Collections::None => self.collections = Collections::One(name.to_owned()),
            Collections::One(first) if first == name => {}
            _ => self.collections = Collections::Several,
        }
    }
}

pub(super) fn summarize(text: &str, dialect: Dialect) -> Summary {
    let mut tokens = Lexer::new(text, dialect)
        .filter(|token| !matches!(token.kind, Kind::Space | Kind::Comment))
        .peekable();
    let mut scan = Scan {
        summary: Summary::default(),
        frames: vec![Frame::statement()],
        ctes: HashSet::new(),
    };
    while let Some(token) = tokens.next() {
        let frame = scan.frame();
        let is_name = token.kind == Kind::QuotedName
            || (token.kind == Kind::Word
                && !token.text.starts_with('@')
                && !token.is_one_of(&QUERY_WORDS))
            || (token.kind == Kind::Text && frame.expects == Expects::Table && frame.lists_tables);
        if is_name && frame.expects.is_target() && !frame.expects.skips(&token) {
            let name = Name::read(&token, &mut tokens);
            scan.target(&name);
        } else {
            scan.token(&token);
        }
    }
    scan.summary
}

/// What comes next in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Nothing,
    /// The first word of a statement.
    Statement,
    /// The kind of a thing, after CREATE, ALTER or DROP.
    ThingKind,
    /// A table.
    Table,
    /// Something else with a name: an index, a procedure, a setting.
    Thing,
    /// The name of a common table expression.
    Cte,
}

impl Expects {
    fn is_target(self) -> bool {
        matches!(self, Self::Table | Self::Thing | Self::Cte)
    }

    /// Words that may stand in front of a target.
    fn skips(self, token: &Token<'_>) -> bool {
        token.is_one_of(match self {
            Self::Cte => &["RECURSIVE"],
            _ => &[
                "INTO",
                "ONLY",
                "LATERAL",
                "TABLE",
                "IF",
                "NOT",
                "EXISTS",
                "CONCURRENTLY",
                "OR",
                "REPLACE",
                "ROLLBACK",
                "ABORT",
                "FAIL",
                "IGNORE",
                "LOW_PRIORITY",
                "HIGH_PRIORITY",
                "DELAYED",
                "QUICK",
                "FROM",
                "OVERWRITE",
                "OUTFILE",
                "DUMPFILE",
            ],
        })
    }
}

#[derive(Debug)]
struct Frame {
    expects: Expects,
    /// It is a statement or a subquery, not a list or an expression.
    is_query: bool,
    /// Within FROM and the like, where a comma leads to another target.
    lists_tables: bool,
    /// Within WITH: after `)` comes a comma and another name, or the statement.
    in_with: bool,
    /// USING names a table here (MERGE, DELETE).
    using_names_table: bool,
    /// ON names a table here (CREATE INDEX, CREATE TRIGGER).
    on_names_table: bool,
    /// The previous token was DISTINCT, which makes `IS DISTINCT FROM` an operator.
    after_distinct_test: bool,
    after_is: bool,
}

impl Frame {
    fn new(expects: Expects) -> Self {
        Self {
            expects,
            is_query: false,
            lists_tables: false,
            in_with: false,
            using_names_table: false,
            on_names_table: false,
            after_distinct_test: false,
            after_is: false,
        }
    }

    fn statement() -> Self {
        Self::new(Expects::Statement)
    }
}

struct Scan {
    summary: Summary,
    /// Invariant: never empty.
    frames: Vec<Frame>,
    /// Lower-case names of common table expressions.
    ctes: HashSet<String>,
}

impl Scan {
    fn frame(&mut self) -> &mut Frame {
        if self.frames.is_empty() {
            self.frames.push(Frame::statement());
        }
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    fn target(&mut self, name: &Name) {
        let frame = self.frame();
        let expected = std::mem::replace(&mut frame.expects, Expects::Nothing);
        if expected == Expects::Cte {
            self.ctes.insert(name.plain.to_lowercase());
            return;
        }
        self.summary.push(&name.written);
        if expected == Expects::Table && !self.ctes.contains(&name.plain.to_lowercase()) {
            self.summary.add_collection(&name.plain);
        }
    }

    fn token(&mut self, token: &Token<'_>) {
        if token.kind == Kind::Word {
            return self.word(token);
        }
        let frame = self.frame();
        (frame.after_is, frame.after_distinct_test) = (false, false);
        match token.text {
            "(" => {
                // A subquery, a group of joins, or a list: the next word tells.
                let mut inner = Frame::statement();
                if frame.expects == Expects::Table && frame.lists_tables {
                    inner.expects = Expects::Table;
                    inner.lists_tables = true;
                    frame.expects = Expects::Nothing;
                } else if frame.expects.is_target() {
                    // `COPY (SELECT ..)`; after a name comes no second one.
                    frame.expects = Expects::Nothing;
                }
                self.frames.push(inner);
            }
            ")" => {
                if self.frames.len() > 1 {
                    self.frames.pop();
                }
                let frame = self.frame();
                if frame.in_with {
                    frame.expects = Expects::Statement;
                }
            }
            "," => {
                if frame.in_with {
                    frame.expects = Expects::Cte;
                } else if frame.lists_tables {
                    frame.expects = Expects::Table;
                } else if frame.expects != Expects::Statement {
                    frame.expects = Expects::Nothing;
                }
            }
            ";" => *frame = Frame::statement(),
            // A signed or bracketed expression: no target after all.
            _ if frame.expects.is_target() => frame.expects = Expects::Nothing,
            _ if frame.expects == Expects::Statement => frame.expects = Expects::Nothing,
            _ => {}
        }
    }

    fn word(&mut self, token: &Token<'_>) {
        let frame = self.frame();
        let after_is = std::mem::replace(&mut frame.after_is, token.is_word("IS"));
        let after_distinct_test = std::mem::replace(
            &mut frame.after_distinct_test,
            token.is_word("DISTINCT") && after_is,
        );
        if after_is && token.is_word("NOT") {
            frame.after_is = true;
            return;
        }
        // SELECT is reserved everywhere, so it always begins a query.
        if token.is_word("SELECT") {
            return self.statement(token);
        }
        match frame.expects {
            Expects::Statement => return self.statement(token),
            Expects::Table if frame.lists_tables && token.is_one_of(&QUERY_WORDS) => {
                return self.statement(token);
            }
            Expects::ThingKind => return self.thing_kind(token),
            // A skipped word.
            Expects::Table | Expects::Thing | Expects::Cte => return,
            Expects::Nothing => {}
        }
        if token.is_word("FROM") {
            if frame.is_query && !after_distinct_test {
                frame.expects = Expects::Table;
                frame.lists_tables = true;
            }
        } else if token.is_one_of(&["JOIN", "APPLY", "STRAIGHT_JOIN"]) {
            if frame.lists_tables {
                frame.expects = Expects::Table;
            }
        } else if token.is_word("INTO") {
            if frame.is_query {
                frame.expects = Expects::Table;
                frame.lists_tables = false;
            }
        } else if token.is_word("USING") && frame.using_names_table {
            frame.using_names_table = false;
            frame.expects = Expects::Table;
            frame.lists_tables = true;
        } else if token.is_word("ON") && frame.on_names_table {
            frame.on_names_table = false;
            frame.expects = Expects::Table;
        } else if token.is_one_of(&AFTER_TABLES) {
            frame.lists_tables = false;
        }
    }

    /// The first word of a statement, of a subquery, or of anything else in parentheses.
    fn statement(&mut self, token: &Token<'_>) {
        if token.is_one_of(&CONNECTORS) {
            return;
        }
        // In parentheses, changes stand in common table expressions only: `replace(a, b, c)`.
        let is_outermost = self.frames.len() == 1 || self.frame().in_with;
        let may_change = is_outermost || self.parent().is_some_and(|parent| parent.in_with);
        let frame = self.frame();
        if token.is_one_of(&["SELECT", "VALUES"]) {
            *frame = Frame { is_query: true, ..Frame::new(Expects::Nothing) };
        } else if token.is_word("WITH") {
            *frame = Frame { in_with: true, ..Frame::new(Expects::Cte) };
            return;
        } else if may_change && token.is_one_of(&["INSERT", "REPLACE", "UPSERT"]) {
            *frame = Frame { is_query: true, ..Frame::new(Expects::Table) };
        } else if may_change && token.is_word("MERGE") {
            let frame_of_merge = Frame::new(Expects::Table);
            *frame = Frame { is_query: true, using_names_table: true, ..frame_of_merge };
        } else if may_change && token.is_word("UPDATE") {
            *frame = Frame { is_query: true, lists_tables: true, ..Frame::new(Expects::Table) };
        } else if may_change && token.is_word("DELETE") {
            let frame_of_delete = Frame::new(Expects::Nothing);
            *frame = Frame { is_query: true, using_names_table: true, ..frame_of_delete };
        } else if is_outermost {
            self.other_statement(token);
        } else {
            // A list or an expression.
            frame.expects = Expects::Nothing;
            return;
        }
        self.summary.push_operation(token.text);
    }

    fn parent(&self) -> Option<&Frame> {
        self.frames.len().checked_sub(2).and_then(|parent| self.frames.get(parent))
    }

    fn other_statement(&mut self, token: &Token<'_>) {
        let frame = self.frame();
        let expects = if token.is_one_of(&["CREATE", "ALTER", "DROP"]) {
            Expects::ThingKind
        } else if token
            .is_one_of(&["TRUNCATE", "TABLE", "ANALYZE", "VACUUM", "DESCRIBE", "LOCK", "COPY"])
        {
            Expects::Table
        } else if token
            .is_one_of(&["CALL", "EXEC", "EXECUTE", "PRAGMA", "USE", "REINDEX", "REFRESH"])
        {
            Expects::Thing
        } else if token.is_word("EXPLAIN") {
            Expects::Statement
        } else {
            Expects::Nothing
        };
        *frame =
            Frame { lists_tables: token.is_one_of(&["TRUNCATE", "LOCK"]), ..Frame::new(expects) };
    }

    /// A word after CREATE, ALTER or DROP.
    fn thing_kind(&mut self, token: &Token<'_>) {
        let frame = self.frame();
        let expects = if token.is_one_of(&["TABLE", "VIEW"]) {
            Expects::Table
        } else if token.is_one_of(&[
            "INDEX",
            "TRIGGER",
            "FUNCTION",
            "PROCEDURE",
            "SCHEMA",
            "DATABASE",
            "SEQUENCE",
            "TYPE",
            "EXTENSION",
            "ROLE",
            "USER",
            "DOMAIN",
            "POLICY",
            "RULE",
            "STATISTICS",
        ]) {
            Expects::Thing
        } else {
            // OR REPLACE, TEMPORARY, UNIQUE, MATERIALIZED, VIRTUAL, UNLOGGED, ..
            return;
        };
        frame.expects = expects;
        frame.lists_tables = expects == Expects::Table;
        frame.on_names_table = token.is_one_of(&["INDEX", "TRIGGER", "POLICY", "RULE"]);
        self.summary.push(token.text);
    }
}

/// A name, with its qualifiers.
struct Name {
    /// As it stands in the text.
    written: String,
    /// Without quotes.
    plain: String,
}

impl Name {
    fn read<'a, I>(first: &Token<'a>, tokens: &mut std::iter::Peekable<I>) -> Self
    where
        I: Iterator<Item = Token<'a>>,
    {
        let mut name = Self { written: String::new(), plain: String::new() };
        name.push(first);
        while tokens.next_if(|token| token.is_symbol(".")).is_some() {
            name.written.push('.');
            name.plain.push('.');
            let part = tokens.next_if(|token| matches!(token.kind, Kind::Word | Kind::QuotedName));
            if let Some(part) = part {
                name.push(&part);
            }
        }
        name
    }

    fn push(&mut self, token: &Token<'_>) {
        self.written.push_str(token.text);
        self.plain.push_str(match token.kind {
            Kind::QuotedName | Kind::Text => token
                .text
                .trim_start_matches(['"', '`', '[', '\''])
                .trim_end_matches(['"', '`', ']', '\'']),
            _ => token.text,
        });
    }
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
