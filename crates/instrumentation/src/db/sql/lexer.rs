//! Text into tokens. Every byte of the text belongs to exactly one token, and tokens begin and
//! end on character boundaries.

/// What the dialects read differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL: `$1`, `$tag$ text $tag$`, `E'\n'`; `?` is an operator.
    Postgres,
    /// MySQL and MariaDB: `?`, backslashes in strings, `"text"`, `# comment`.
    MySql,
    /// SQLite: `?`, `?1`, `:a`, `@a`, `$a`, `[name]`; `"x"` may be text.
    Sqlite,
    /// Microsoft SQL Server: `@p1`, `[name]`.
    SqlServer,
    /// Unknown: `?` and `$1`; `"x"` may be text.
    #[default]
    Other,
}

impl Dialect {
    /// The dialect of a `db.system.name`.
    pub fn of_system(system: &str) -> Self {
        match system {
            "postgresql" | "cockroachdb" | "aws.redshift" => Self::Postgres,
            "mysql" | "mariadb" => Self::MySql,
            "sqlite" => Self::Sqlite,
            "microsoft.sql_server" => Self::SqlServer,
            _ => Self::Other,
        }
    }

    fn has_brackets(self) -> bool {
        matches!(self, Self::Sqlite | Self::SqlServer)
    }

    fn has_dollar_quotes(self) -> bool {
        matches!(self, Self::Postgres | Self::Other)
    }

    fn has_backslashes(self) -> bool {
        self == Self::MySql
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Space,
    Comment,
    /// A keyword or a name.
    Word,
    /// `"name"`, `` `name` ``, `[name]`.
    QuotedName,
    /// A string literal, with its prefix.
    Text,
    Number,
    Placeholder,
    /// One character of anything else.
    Symbol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
}

impl Token<'_> {
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    pub(super) fn is_one_of(&self, words: &[&str]) -> bool {
        self.kind == Kind::Word && words.iter().any(|word| self.text.eq_ignore_ascii_case(word))
    }

    pub(super) fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }
}

/// The tokens of a text.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a str,
    dialect: Dialect,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, dialect: Dialect) -> Self {
        Self { rest: text, dialect }
    }

    /// The kind and the length in bytes of the token at the beginning of `rest`.
    fn measure(&self) -> Option<(Kind, usize)> {
        let bytes = self.rest.as_bytes();
        let dialect = self.dialect;
        Some(match bytes {
            [] => return None,
            [b, ..] if b.is_ascii_whitespace() => {
                (Kind::Space, run(bytes, |b| b.is_ascii_whitespace()))
            }
            [b'-', b'-', ..] => (Kind::Comment, run(bytes, |b| b != b'\n')),
            [b'#', ..] if dialect == Dialect::MySql => (Kind::Comment, run(bytes, |b| b != b'\n')),
            [b'/', b'*', ..] => (Kind::Comment, block_comment(bytes)),
            [b'\'', ..] => (Kind::Text, quoted(bytes, 0, dialect.has_backslashes())),
            [b'"', ..] if dialect == Dialect::MySql => (Kind::Text, quoted(bytes, 0, true)),
            [b'"' | b'`', ..] => (Kind::QuotedName, quoted(bytes, 0, false)),
            [b'[', ..] if dialect.has_brackets() => {
                let end = bytes.iter().position(|b| *b == b']');
                (Kind::QuotedName, end.map_or(bytes.len(), |end| end + 1))
            }
            // E'..' with backslashes, B'..', X'..', N'..', U&'..' .
            [b'e' | b'E', b'\'', ..] if dialect != Dialect::MySql => {
                (Kind::Text, quoted(bytes, 1, true))
            }
            [b'b' | b'B' | b'x' | b'X' | b'n' | b'N', b'\'', ..] => {
                (Kind::Text, quoted(bytes, 1, dialect.has_backslashes()))
            }
            [b'u' | b'U', b'&', b'\'', ..] => (Kind::Text, quoted(bytes, 2, false)),
            [b'$', ..] => self.dollar(bytes),
            [b'?', ..] if dialect != Dialect::Postgres => {
                (Kind::Placeholder, 1 + run(&bytes[1..], |b| b.is_ascii_digit()))
            }
            // A cast, not a name.
            [b':', b':', ..] => (Kind::Symbol, 2),
            [b':', b, ..] if is_name_start(*b) && dialect == Dialect::Sqlite => {
                (Kind::Placeholder, 1 + run(&bytes[1..], is_name_part))
            }
            // Variables of the server, not of the caller.
            [b'@', b'@', ..] => (Kind::Word, 2 + run(&bytes[2..], is_name_part)),
            [b'@', b, ..] if is_name_start(*b) => {
                let len = 1 + run(&bytes[1..], is_name_part);
                match dialect {
                    Dialect::Sqlite | Dialect::SqlServer => (Kind::Placeholder, len),
                    Dialect::Postgres => (Kind::Symbol, 1),
                    Dialect::MySql | Dialect::Other => (Kind::Word, len),
                }
            }
            [b, ..] if b.is_ascii_digit() => (Kind::Number, number(bytes)),
            [b'.', b, ..] if b.is_ascii_digit() => (Kind::Number, number(bytes)),
            [b, ..] if is_name_start(*b) => (Kind::Word, run(bytes, is_name_part)),
            _ => (Kind::Symbol, 1),
        })
    }

    /// `$1`, `$name`, `$$text$$`, `$tag$text$tag$`.
    fn dollar(&self, bytes: &[u8]) -> (Kind, usize) {
        let tag = 1 + run(&bytes[1..], |b| is_name_part(b) && b != b'$');
        let numbered = bytes.get(1).is_some_and(u8::is_ascii_digit);
        if self.dialect.has_dollar_quotes() && !numbered && bytes.get(tag) == Some(&b'$') {
            let mark = self.rest.get(..=tag).unwrap_or_default();
            let body = self.rest.get(tag + 1..).unwrap_or_default();
            let end = body.find(mark).map_or(bytes.len(), |end| tag + 1 + end + mark.len());
            return (Kind::Text, end);
        }
        if numbered {
            return (Kind::Placeholder, 1 + run(&bytes[1..], |b| b.is_ascii_digit()));
        }
        let named = bytes.get(1).is_some_and(|b| is_name_start(*b));
        if named && self.dialect == Dialect::Sqlite {
            return (Kind::Placeholder, tag);
        }
        (Kind::Symbol, 1)
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let (kind, len) = self.measure()?;
        // Every rule ends before an ASCII character or at the end; this holds even if one does not.
        let len = (len.max(1)..=self.rest.len()).find(|len| self.rest.is_char_boundary(*len))?;
        let (text, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some(Token { kind, text })
    }
}

/// How many bytes at the beginning satisfy `test`.
fn run(bytes: &[u8], test: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|b| !test(*b)).unwrap_or(bytes.len())
}

/// Names may hold anything that is not ASCII.
fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

fn is_name_part(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit() || byte == b'$' || byte == b'#'
}

/// The length of a quoted piece whose quote stands at `start`; a doubled quote does not end it.
/// One that is never closed goes to the end of the text.
fn quoted(bytes: &[u8], start: usize, backslashes: bool) -> usize {
    let Some(quote) = bytes.get(start) else {
        return bytes.len();
    };
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        if backslashes && *byte == b'\\' {
            at += 2;
        } else if byte == quote {
            if bytes.get(at + 1) != Some(quote) {
                return at + 1;
            }
            at += 2;
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// The length of a block comment; they nest.
fn block_comment(bytes: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => {
                depth += 1;
                at += 2;
            }
            Some(b"*/") => {
                at += 2;
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `1`, `1.5`, `.5`, `1e-3`, `0xff`, `1_000`.
fn number(bytes: &[u8]) -> usize {
    if let [b'0', b'x' | b'X' | b'b' | b'B' | b'o' | b'O', b, ..] = bytes
        && b.is_ascii_hexdigit()
    {
        return 2 + run(&bytes[2..], |b| b.is_ascii_hexdigit() || b == b'_');
    }
    let digits = |from: usize| {
        from + bytes.get(from..).map_or(0, |rest| run(rest, |b| b.is_ascii_digit() || b == b'_'))
    };
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lex(text: &str, dialect: Dialect) -> Vec<(Kind, &str)> {
        Lexer::new(text, dialect)
            .filter(|token| token.kind != Kind::Space)
            .map(|token| (token.kind, token.text))
            .collect()
    }

    #[test]
    fn literals_names_and_placeholders_are_told_apart_by_dialect() {
        use Kind::*;
        type Case<'a> = (&'a str, Dialect, &'a [(Kind, &'a str)]);
        let table: &[Case<'_>] = &[
            ("'it''s' x", Dialect::Other, &[(Text, "'it''s'"), (Word, "x")]),
            (r"'it\'s' x", Dialect::MySql, &[(Text, r"'it\'s'"), (Word, "x")]),
            (r"E'it\'s' x", Dialect::Postgres, &[(Text, r"E'it\'s'"), (Word, "x")]),
            (r"'\' x", Dialect::Postgres, &[(Text, r"'\'"), (Word, "x")]),
            ("\"a\"\"b\"", Dialect::Sqlite, &[(QuotedName, "\"a\"\"b\"")]),
            ("\"a\"", Dialect::MySql, &[(Text, "\"a\"")]),
            ("[a b]", Dialect::SqlServer, &[(QuotedName, "[a b]")]),
            ("$1$2", Dialect::Postgres, &[(Placeholder, "$1"), (Placeholder, "$2")]),
            ("$$a'b$$", Dialect::Postgres, &[(Text, "$$a'b$$")]),
            ("$t$a$$b$t$ c", Dialect::Postgres, &[(Text, "$t$a$$b$t$"), (Word, "c")]),
            ("a ? b", Dialect::Postgres, &[(Word, "a"), (Symbol, "?"), (Word, "b")]),
            (
                "?12 :a @b $c",
                Dialect::Sqlite,
                &[
                    (Placeholder, "?12"),
                    (Placeholder, ":a"),
                    (Placeholder, "@b"),
                    (Placeholder, "$c"),
                ],
            ),
            ("a::text", Dialect::Sqlite, &[(Word, "a"), (Symbol, "::"), (Word, "text")]),
            (
                "1.5e-3 0xfF .5 1e",
                Dialect::Other,
                &[(Number, "1.5e-3"), (Number, "0xfF"), (Number, ".5"), (Number, "1"), (Word, "e")],
            ),
            ("x'ff' N'ü'", Dialect::Other, &[(Text, "x'ff'"), (Text, "N'ü'")]),
            (
                "/* a /* b */ c */ d -- e",
                Dialect::Other,
                &[(Comment, "/* a /* b */ c */"), (Word, "d"), (Comment, "-- e")],
            ),
            ("t1 größe", Dialect::Other, &[(Word, "t1"), (Word, "größe")]),
        ];
        for (text, dialect, expected) in table {
            assert_eq!(&lex(text, *dialect), expected, "{text}");
        }
    }

    fn any_dialect() -> impl Strategy<Value = Dialect> {
        prop::sample::select(vec![
            Dialect::Postgres,
            Dialect::MySql,
            Dialect::Sqlite,
            Dialect::SqlServer,
            Dialect::Other,
        ])
    }

    proptest! {
        #[test]
        fn every_byte_of_any_text_belongs_to_one_token(
            text in r#"([\\'"`$@:?/*#\[\]\-e0.xü ;(),]|SELECT|FROM|\PC){0,60}"#,
            dialect in any_dialect(),
        ) {
            let joined: String = Lexer::new(&text, dialect).map(|token| token.text).collect();
            prop_assert_eq!(joined, text);
        }
    }
}
