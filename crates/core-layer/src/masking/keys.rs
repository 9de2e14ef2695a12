//! Whether a key names something secret.
//!
//! A key is a row of words, cut at everything that is no letter or digit, at the humps of
//! camelCase and between letters and digits: `http.request.header.Set-Cookie`, `userPassword2`,
//! `APIKey`. A secret word is found where one or several words in a row spell it exactly, whatever
//! the case: `api_key`, `apiKey` and `apikey` are one, but `tokens_used` and `secretary` hold no
//! secret.

/// A secret word in the form in which it is compared: letters and digits alone, ASCII in lower
/// case. `None` where nothing is left.
pub(super) fn normalize(word: &str) -> Option<Box<str>> {
    let normal: String =
        word.chars().filter(|c| !is_separator(*c)).map(|c| c.to_ascii_lowercase()).collect();
    (!normal.is_empty()).then(|| normal.into())
}

/// Whether words of `key` in a row spell `word`, which is normalized. Does not allocate.
pub(super) fn contains(key: &str, word: &str) -> bool {
    word_starts(key).any(|start| key.get(start..).is_some_and(|rest| spells(rest, word)))
}

/// Where the words of a key start.
fn word_starts(key: &str) -> impl Iterator<Item = usize> {
    let mut before = Class::Separator;
    let mut following = key.chars().skip(1);
    key.char_indices().filter_map(move |(at, c)| {
        let class = Class::of(c);
        let next = following.next().map_or(Class::Separator, Class::of);
        let starts = class != Class::Separator && is_boundary(before, class, next);
        before = class;
        starts.then_some(at)
    })
}

/// Whether a text that starts with a word starts with whole words that spell `word`.
fn spells(text: &str, word: &str) -> bool {
    let mut wanted = word.chars();
    let mut before = Class::Separator;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let class = Class::of(c);
        if wanted.as_str().is_empty() {
            let next = rest.clone().next().map_or(Class::Separator, Class::of);
            return is_boundary(before, class, next);
        }
        if class != Class::Separator && wanted.next() != Some(c.to_ascii_lowercase()) {
            return false;
        }
        before = class;
    }
    wanted.as_str().is_empty()
}

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Separator,
    Upper,
    /// Letters that are not upper case, also those of scripts without case.
    Lower,
    Digit,
}

impl Class {
    fn of(c: char) -> Self {
        if is_separator(c) {
            Self::Separator
        } else if c.is_numeric() {
            Self::Digit
        } else if c.is_uppercase() {
            Self::Upper
        } else {
            Self::Lower
        }
    }
}

fn is_separator(c: char) -> bool {
    !c.is_alphanumeric()
}

/// Whether a word ends between `before` and `class`; `next` is what follows `class`.
fn is_boundary(before: Class, class: Class, next: Class) -> bool {
    match (before, class) {
        (Class::Separator, _) | (_, Class::Separator) => true,
        // `userId`; the last capital of a run starts a word: `APIKey`.
        (Class::Lower, Class::Upper) => true,
        (Class::Upper, Class::Upper) => next == Class::Lower,
        (before, class) => (before == Class::Digit) != (class == Class::Digit),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(key: &str) -> Vec<&str> {
        let starts: Vec<_> = word_starts(key).collect();
        let ends = starts.iter().skip(1).copied().chain([key.len()]);
        starts
            .iter()
            .zip(ends)
            .map(|(start, end)| key[*start..end].trim_end_matches(is_separator))
            .collect()
    }

    #[test]
    fn keys_are_cut_into_words() {
        for (key, expected) in [
            ("user.password", vec!["user", "password"]),
            ("set-cookie", vec!["set", "cookie"]),
            ("apiKey", vec!["api", "Key"]),
            ("APIKey", vec!["API", "Key"]),
            ("MyAPI", vec!["My", "API"]),
            ("password2", vec!["password", "2"]),
            ("__a..b__", vec!["a", "b"]),
            ("größeÄnd", vec!["größe", "Änd"]),
            ("", vec![]),
            ("...", vec![]),
        ] {
            assert_eq!(words(key), expected, "{key}");
        }
    }

    #[test]
    fn a_word_is_found_whole_and_in_any_spelling() {
        let api_key = normalize("api_key").unwrap();
        for key in [
            "api_key",
            "apiKey",
            "API-KEY",
            "apikey",
            "APIKey",
            "x.api key.y",
            "myApiKey2",
            "API_KEY_ID",
        ] {
            assert!(contains(key, &api_key), "{key}");
        }
        for key in ["api", "key", "api_keys", "apikeys", "apik_eys", "rapikey", "key_api", ""] {
            assert!(!contains(key, &api_key), "{key}");
        }
    }

    #[test]
    fn words_are_normalized() {
        assert_eq!(normalize("Customer-ID").as_deref(), Some("customerid"));
        assert_eq!(normalize("-_-"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_keys_never_panic(key in ".*", word in ".*") {
            if let Some(word) = normalize(&word) {
                contains(&key, &word);
            }
        }

        #[test]
        fn a_word_between_separators_is_always_found(
            before in "[a-zA-Z0-9._-]{0,10}",
            word in "[a-z]{1,10}",
            after in "[a-zA-Z0-9._-]{0,10}",
        ) {
            let key = format!("{before}.{word}.{after}");
            prop_assert!(contains(&key, &word));
            prop_assert!(contains(&key.to_uppercase(), &word));
        }
    }
}
