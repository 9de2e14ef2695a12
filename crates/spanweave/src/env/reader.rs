//! One variable: its text, and what it means.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What a timeout of zero ("no limit", by the specification) becomes: long enough, and any sum
/// with a point in time stays expressible.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Characters of a bad value that a warning repeats.
const SHOWN: usize = 40;

/// A variable that could not be used as it stands. Shown to the user once, at the start.
///
/// The text never holds values of header lists or credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    /// The variable.
    pub(crate) variable: String,
    /// What is wrong and what happens instead.
    pub(crate) message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.message)
    }
}

/// Reads variables through a look-up and collects warnings.
pub(crate) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    warnings: Vec<Warning>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, warnings: Vec::new() }
    }

    pub(crate) fn into_warnings(self) -> Vec<Warning> {
        self.warnings
    }

    /// Notes a warning, once for each variable and message.
    pub(crate) fn warn(&mut self, variable: &str, message: impl Into<String>) {
        let warning = Warning { variable: variable.to_owned(), message: message.into() };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// The text without surrounding blanks; an empty one is unset.
    pub(crate) fn text(&self, variable: &str) -> Option<String> {
        let text = (self.lookup)(variable)?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// True only for `true`, in any case.
    pub(crate) fn boolean(&mut self, variable: &str) -> Option<bool> {
        let text = self.text(variable)?;
        if text.eq_ignore_ascii_case("true") {
            return Some(true);
        }
        if !text.eq_ignore_ascii_case("false") {
            self.warn(
                variable,
                format!("{} is neither true nor false; read as false", shown(&text)),
            );
        }
        Some(false)
    }

    /// A number from `min` on.
    pub(crate) fn number<T>(&mut self, variable: &str, min: T) -> Option<T>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let text = self.text(variable)?;
        let number = text.parse().ok().filter(|number| *number >= min);
        if number.is_none() {
            let message = format!("{} is not a whole number from {min} on; ignored", shown(&text));
            self.warn(variable, message);
        }
        number
    }

    /// A duration in milliseconds, from `min` on.
    pub(crate) fn millis(&mut self, variable: &str, min: u64) -> Option<Duration> {
        self.number(variable, min).map(|millis| Duration::from_millis(millis).min(NO_LIMIT))
    }

    /// A timeout in milliseconds; zero is no limit.
    pub(crate) fn timeout(&mut self, variable: &str) -> Option<Duration> {
        let timeout = self.millis(variable, 0)?;
        Some(if timeout.is_zero() { NO_LIMIT } else { timeout })
    }

    /// One of `choices`, in any case.
    pub(crate) fn choice<T: Copy>(&mut self, variable: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(variable)?;
        let found = find(choices, &text);
        if found.is_none() {
            self.warn_choice(variable, &text, choices);
        }
        found
    }

    /// A comma list of `choices`, without repetition. Unknown members are left out with a
    /// warning; a list in which none is known counts as unset.
    pub(crate) fn choices<T: Copy + PartialEq>(
        &mut self,
        variable: &str,
        choices: &[(&str, T)],
    ) -> Option<Vec<T>> {
        let text = self.text(variable)?;
        let mut found = Vec::new();
        for member in text.split(',').map(str::trim).filter(|member| !member.is_empty()) {
            match find(choices, member) {
                Some(choice) if found.contains(&choice) => {}
                Some(choice) => found.push(choice),
                None => self.warn_choice(variable, member, choices),
            }
        }
        (!found.is_empty()).then_some(found)
    }

    fn warn_choice<T>(&mut self, variable: &str, text: &str, choices: &[(&str, T)]) {
        let known: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let message =
            format!("{} is not supported (supported: {}); ignored", shown(text), known.join(", "));
        self.warn(variable, message);
    }
}

fn find<T: Copy>(choices: &[(&str, T)], text: &str) -> Option<T> {
    choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, choice)| *choice)
}

/// A value in a warning: quoted, escaped, short.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(value: &str, read: impl FnOnce(&mut Reader<'_>) -> T) -> (T, Vec<Warning>) {
        let lookup = |_: &str| Some(value.to_owned());
        let mut reader = Reader::new(&lookup);
        let read = read(&mut reader);
        (read, reader.into_warnings())
    }

    #[test]
    fn empty_and_blank_are_unset() {
        for value in ["", "  "] {
            assert_eq!(with(value, |reader| reader.boolean("X")), (None, vec![]));
            assert_eq!(with(value, |reader| reader.number("X", 0_u64)), (None, vec![]));
            assert_eq!(with(value, |reader| reader.choices("X", &[("a", 1)])), (None, vec![]));
        }
    }

    #[test]
    fn only_true_is_true() {
        for (value, expected, warnings) in [
            ("true", true, 0),
            ("TrUe", true, 0),
            ("false", false, 0),
            ("1", false, 1),
            ("yes", false, 1),
        ] {
            let (read, warned) = with(value, |reader| reader.boolean("X"));
            assert_eq!((read, warned.len()), (Some(expected), warnings), "{value}");
        }
    }

    #[test]
    fn a_bad_number_is_named_and_ignored() {
        for value in ["x", "-1", "1.5", "99999999999999999999999", "0"] {
            let (read, warnings) = with(value, |reader| reader.number("X", 1_usize));
            assert_eq!(read, None, "{value}");
            assert_eq!(warnings.len(), 1);
            assert!(warnings[0].to_string().starts_with("X: "), "{}", warnings[0]);
        }
        assert_eq!(with(" 7 ", |reader| reader.number("X", 1_usize)), (Some(7), vec![]));
    }

    #[test]
    fn a_timeout_of_zero_is_no_limit() {
        assert_eq!(with("0", |reader| reader.timeout("X")).0, Some(NO_LIMIT));
        assert_eq!(with("250", |reader| reader.timeout("X")).0, Some(Duration::from_millis(250)));
        let huge = with(&u64::MAX.to_string(), |reader| reader.timeout("X"));
        assert_eq!(huge, (Some(NO_LIMIT), vec![]));
    }

    #[test]
    fn a_list_keeps_its_known_members_once() {
        let choices = [("a", 1), ("b", 2)];
        let (read, warnings) = with("b, zipkin,A,b,", |reader| reader.choices("X", &choices));
        assert_eq!(read, Some(vec![2, 1]));
        assert_eq!(warnings.len(), 1);
        assert_eq!(with("nothing", |reader| reader.choices("X", &choices)).0, None);
    }

    #[test]
    fn a_warning_shows_little_of_a_long_value() {
        let (_, warnings) = with(&"é".repeat(10_000), |reader| reader.number("X", 0_u64));
        assert!(warnings[0].message.len() < 200);
    }
}
