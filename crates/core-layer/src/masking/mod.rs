//! What must not leave the process is replaced before it is queued.
//!
//! [`Masking`] is the description that an application writes, [`Masker`] the decider that it
//! compiles into. A value is masked where its key names a secret: one of the words `password`,
//! `passwd`, `pwd`, `secret`, `token`, `authorization`, `cookie`, `api_key`, compared as whole
//! words and in any spelling, or one that the application adds.

mod keys;

use std::borrow::Cow;
use std::collections::HashSet;

/// What stands in place of a masked value.
pub const MASK: &str = "[masked]";

/// The words that are secret from the start, normalized.
const WORDS: [&str; 8] =
    ["password", "passwd", "pwd", "secret", "token", "authorization", "cookie", "apikey"];

/// Which values are masked. The default is on, with the words of the module's page.
///
/// ```
/// use spanweave_core::masking::{MASK, Masking};
///
/// let masker = Masking::default().key("iban").allow_key("page_token").compile();
/// assert_eq!(masker.mask_value("user.password", "hunter2"), MASK);
/// assert_eq!(masker.mask_value("customerIban", "DE02…"), MASK);
/// assert_eq!(masker.mask_value("page_token", "7"), "7");
/// assert_eq!(masker.mask_value("tokens_used", "7"), "7");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masking {
    /// Normalized; none of them where masking is off.
    words: Vec<Box<str>>,
    allowed: HashSet<String>,
}

impl Masking {
    /// Masks nothing, but for words that are added afterwards.
    pub fn off() -> Self {
        Self { words: Vec::new(), allowed: HashSet::new() }
    }

    /// Also masks the values of keys that hold this word: `customer_id` matches `customer_id`,
    /// `customerId` and `order.customer-id`, but not `customer_ids`.
    #[must_use]
    pub fn key(mut self, word: impl AsRef<str>) -> Self {
        self.words.extend(keys::normalize(word.as_ref()));
        self
    }

    /// Never masks by this very key, compared to the letter.
    #[must_use]
    pub fn allow_key(mut self, key: impl Into<String>) -> Self {
        self.allowed.insert(key.into());
        self
    }

    /// The decider.
    pub fn compile(&self) -> Masker {
        Masker { words: self.words.clone().into(), allowed: self.allowed.clone() }
    }
}

impl Default for Masking {
    fn default() -> Self {
        Self { words: WORDS.map(Box::from).into(), allowed: HashSet::new() }
    }
}

/// Decides what is masked. Pure; the decision on a key does not allocate and may be cached.
#[derive(Clone, Debug)]
pub struct Masker {
    words: Box<[Box<str>]>,
    allowed: HashSet<String>,
}

impl Masker {
    /// Whether values under this key are secret.
    pub fn is_sensitive_key(&self, key: &str) -> bool {
        self.words.iter().any(|word| keys::contains(key, word)) && !self.allowed.contains(key)
    }

    /// The value as it may leave: [`MASK`] under a sensitive key.
    pub fn mask_value<'a>(&self, key: &str, value: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(if self.is_sensitive_key(key) { MASK } else { value })
    }
}

impl Default for Masker {
    fn default() -> Self {
        Masking::default().compile()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_keys_are_masked_as_whole_words() {
        let masker = Masker::default();
        for key in [
            "password",
            "PASSWORD",
            "user.password",
            "passwordHash",
            "password2",
            "db.passwd",
            "client_secret",
            "token",
            "access_token",
            "accessToken",
            "http.request.header.authorization",
            "Authorization",
            "set-cookie",
            "http.request.header.cookie",
            "api_key",
            "apiKey",
            "api-key",
            "apikey",
            "X-API-Key",
        ] {
            assert!(masker.is_sensitive_key(key), "{key}");
            assert_eq!(masker.mask_value(key, "v"), MASK);
        }
        for key in [
            "tokens_used",
            "tokenizer",
            "secretary",
            "cookiecutter",
            "key",
            "api",
            "monkey",
            "http.route",
            "user.id",
            "",
        ] {
            assert!(!masker.is_sensitive_key(key), "{key}");
            assert_eq!(masker.mask_value(key, "v"), "v");
        }
    }

    #[test]
    fn the_application_adds_words_and_exempts_keys() {
        let masker =
            Masking::default().key("Customer-ID").key("---").allow_key("page.token").compile();
        assert!(masker.is_sensitive_key("order.customerId"));
        assert!(!masker.is_sensitive_key("customer_ids"));
        assert!(!masker.is_sensitive_key("page.token"));
        assert!(masker.is_sensitive_key("Page.token"));
        assert!(!masker.is_sensitive_key("anything"));
    }

    #[test]
    fn off_masks_only_what_is_added() {
        let masker = Masking::off().key("iban").compile();
        assert!(!masker.is_sensitive_key("password"));
        assert!(masker.is_sensitive_key("iban"));
    }
}
