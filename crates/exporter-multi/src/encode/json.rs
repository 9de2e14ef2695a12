//! A minimal JSON writer: objects and arrays with their commas, into bytes.

use std::fmt::Write as _;

/// Writes JSON to the end of a buffer.
pub(crate) struct Json<'a> {
    out: &'a mut Vec<u8>,
    /// Whether the next member or element needs a comma in front.
    comma: bool,
}

impl<'a> Json<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, comma: false }
    }

    fn separate(&mut self) {
        if std::mem::replace(&mut self.comma, true) {
            self.out.push(b',');
        }
    }

    fn enclosed(&mut self, open: u8, close: u8, write: impl FnOnce(&mut Self)) {
        self.separate();
        self.out.push(open);
        self.comma = false;
        write(self);
        self.out.push(close);
        self.comma = true;
    }

    /// The key of the next value.
    pub(crate) fn key(&mut self, key: &str) -> &mut Self {
        self.separate();
        escape(self.out, key);
        self.out.push(b':');
        self.comma = false;
        self
    }

    pub(crate) fn object(&mut self, write: impl FnOnce(&mut Self)) {
        self.enclosed(b'{', b'}', write);
    }

    pub(crate) fn array(&mut self, write: impl FnOnce(&mut Self)) {
        self.enclosed(b'[', b']', write);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.separate();
        escape(self.out, text);
    }

    /// Text that needs no escaping, such as hex or numbers in quotes.
    pub(crate) fn plain(&mut self, text: impl std::fmt::Display) {
        self.separate();
        self.out.push(b'"');
        self.raw(text);
        self.out.push(b'"');
    }

    /// Bytes as lower-case hex.
    pub(crate) fn hex(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.separate();
        self.out.push(b'"');
        for byte in bytes {
            let digits = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]];
            self.out.extend_from_slice(&digits);
        }
        self.out.push(b'"');
    }

    pub(crate) fn number(&mut self, number: impl Into<i64>) {
        self.separate();
        self.raw(number.into());
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.separate();
        self.raw(value);
    }

    /// A double, as protobuf's JSON mapping has it: what JSON cannot say is text.
    pub(crate) fn double(&mut self, value: f64) {
        if value.is_nan() {
            self.plain("NaN");
        } else if value.is_infinite() {
            self.plain(if value > 0.0 { "Infinity" } else { "-Infinity" });
        } else {
            self.separate();
            // The shortest form that reads back the same; the exponent keeps huge values short.
            if value == 0.0 || (1e-5..1e16).contains(&value.abs()) {
                self.raw(format_args!("{value:?}"));
            } else {
                self.raw(format_args!("{value:e}"));
            }
        }
    }

    fn raw(&mut self, value: impl std::fmt::Display) {
        // Writing to memory does not fail.
        write!(Bytes(self.out), "{value}").ok();
    }
}

struct Bytes<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn escape(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.push(b'"');
    // Most text needs no escape; without an early exit the test runs over many bytes at once.
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    if !bytes.iter().fold(false, |found, byte| found | special(byte)) {
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    let mut start = 0;
    for (position, byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 => 0,
            _ => continue,
        };
        out.extend_from_slice(bytes.get(start..position).unwrap_or_default());
        start = position + 1;
        if short == 0 {
            write!(Bytes(out), "\\u{byte:04x}").ok();
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
    }
    out.extend_from_slice(bytes.get(start..).unwrap_or_default());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Json<'_>)) -> serde_json::Value {
        let mut out = Vec::new();
        write(&mut Json::new(&mut out));
        assert!(!out.contains(&b'\n'), "a value stays on its line");
        serde_json::from_slice(&out).unwrap()
    }

    proptest! {
        #[test]
        fn any_text_reads_back_the_same(text in ".*", control in proptest::collection::vec(any::<char>(), 0..20)) {
            let text: String = text.chars().chain(control).collect();
            prop_assert_eq!(written(|json| json.text(&text)), serde_json::Value::from(text));
        }

        #[test]
        fn any_finite_double_reads_back_the_same(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
            let read = written(|json| json.double(value)).as_f64().unwrap();
            // serde_json reads without `float_roundtrip` to the last bit but one.
            prop_assert!((read - value).abs() <= value.abs() * 1e-15, "{} {}", read, value);
        }
    }

    #[test]
    fn commas_stand_between_members_and_elements_only() {
        let value = written(|json| {
            json.object(|json| {
                json.key("a").array(|json| {
                    json.number(1);
                    json.object(|_| {});
                    json.bool(true);
                });
                json.key("b").double(f64::NAN);
            });
        });
        assert_eq!(value, serde_json::json!({"a": [1, {}, true], "b": "NaN"}));
    }
}
