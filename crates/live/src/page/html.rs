use std::fmt::{self, Display, Write};

/// Text from a span, escaped for HTML content and double-quoted attribute values.
pub(super) struct Escaped<T>(pub(super) T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Writer<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl Write for Writer<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for c in text.chars() {
                    match c {
                        '&' => self.0.write_str("&amp;")?,
                        '<' => self.0.write_str("&lt;")?,
                        '>' => self.0.write_str("&gt;")?,
                        '"' => self.0.write_str("&quot;")?,
                        '\'' => self.0.write_str("&#39;")?,
                        // Characters that HTML does not allow.
                        c if c.is_control() && !matches!(c, '\n' | '\t') => {
                            self.0.write_char('\u{fffd}')?;
                        }
                        c => self.0.write_char(c)?,
                    }
                }
                Ok(())
            }
        }
        write!(Writer(f), "{}", self.0)
    }
}

/// A whole document; `title` is escaped, `body` is HTML. `refresh` in seconds, 0 for never.
pub(super) fn document(title: &str, refresh: u32, body: &str) -> String {
    let refresh = if refresh > 0 {
        format!("<meta http-equiv=\"refresh\" content=\"{refresh}\">")
    } else {
        String::new()
    };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">{refresh}<title>{}</title>\
         <link rel=\"stylesheet\" href=\"/style.css\"></head><body>{body}</body></html>",
        Escaped(title)
    )
}

/// The class that colours a service; the same for the same name everywhere.
pub(super) fn service_class(service: &str) -> String {
    // FNV-1a: stable over processes and versions, which the standard hasher is not.
    let hash = service.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("s{}", (hash >> 32) % SERVICE_COLOURS)
}

/// As many as `style.css` has.
const SERVICE_COLOURS: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_a_span_can_leave_its_place() {
        assert_eq!(
            Escaped("<script>alert(\"1\" & '2')</script>\u{0}").to_string(),
            "&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;\u{fffd}"
        );
    }

    #[test]
    fn every_service_has_a_colour_of_the_style_sheet() {
        for service in ["", "gateway", "users", "orders", "ünï"] {
            assert!(super::super::STYLE.contains(&format!(".{}{{", service_class(service))));
        }
    }
}
