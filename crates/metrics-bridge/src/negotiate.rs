//! Which format a client wants: `Accept` and `Accept-Encoding` (RFC 9110, section 12.5).

use crate::text::Format;

/// The format for an `Accept` header. OpenMetrics is written for those that name it and do not
/// like text better; everyone else gets text, even where they accept neither.
pub(crate) fn format(accept: Option<&str>) -> Format {
    let (mut open_metrics, mut text) = (Preference::default(), Preference::default());
    for range in accept.into_iter().flat_map(ranges) {
        match range.media_type.as_str() {
            "application/openmetrics-text" if range.has_version("1.0.0") => {
                open_metrics.offer(2, range.quality);
            }
            "text/plain" if range.has_version("0.0.4") => text.offer(2, range.quality),
            "text/*" => text.offer(1, range.quality),
            "*/*" => text.offer(0, range.quality),
            _ => {}
        }
    }
    let wanted = open_metrics.quality();
    if wanted > 0 && wanted >= text.quality() { Format::OpenMetrics } else { Format::Text }
}

/// Whether a body may be compressed with gzip.
pub(crate) fn gzip(accept_encoding: Option<&str>) -> bool {
    let mut gzip = Preference::default();
    for range in accept_encoding.into_iter().flat_map(ranges) {
        match range.media_type.as_str() {
            "gzip" | "x-gzip" => gzip.offer(1, range.quality),
            "*" => gzip.offer(0, range.quality),
            _ => {}
        }
    }
    gzip.quality() > 0
}

/// The quality of the most specific range that matches, in thousandths.
#[derive(Default)]
struct Preference(Option<(u8, u16)>);

impl Preference {
    fn offer(&mut self, specificity: u8, quality: u16) {
        self.0 = self.0.max(Some((specificity, quality)));
    }

    fn quality(&self) -> u16 {
        self.0.map_or(0, |(_, quality)| quality)
    }
}

struct Range<'a> {
    media_type: String,
    version: Option<&'a str>,
    quality: u16,
}

impl Range<'_> {
    /// Whether the range asks for this version, or for none.
    fn has_version(&self, version: &str) -> bool {
        self.version.is_none_or(|wanted| wanted == version)
    }
}

/// The ranges of a list; those whose quality is malformed are left out.
fn ranges(header: &str) -> impl Iterator<Item = Range<'_>> {
    header.split(',').filter_map(|item| {
        let mut parts = item.split(';');
        let media_type = parts.next()?.trim().to_ascii_lowercase();
        let mut range = Range { media_type, version: None, quality: 1_000 };
        for parameter in parts {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = value.trim().trim_matches('"');
            match key.trim() {
                "q" | "Q" => range.quality = quality(value)?,
                key if key.eq_ignore_ascii_case("version") => range.version = Some(value),
                _ => {}
            }
        }
        Some(range)
    })
}

/// `0`, `1`, or up to three decimals between.
fn quality(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_the_client_likes_best() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,\
            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let table = [
            (None, Format::Text),
            (Some(""), Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/plain"), Format::Text),
            (Some("text/html, */*;q=0.1"), Format::Text),
            (Some("application/json"), Format::Text),
            (Some(prometheus_2), Format::OpenMetrics),
            (Some(prometheus_3), Format::OpenMetrics),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (
                Some("Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8"),
                Format::OpenMetrics,
            ),
            (Some("application/openmetrics-text;version=0.0.1"), Format::Text),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some("application/openmetrics-text;q=0, */*"), Format::Text),
            (Some("application/openmetrics-text;q=0.2, text/plain;q=0.9"), Format::Text),
            (Some("application/openmetrics-text;q=0.9, text/plain;q=0.2"), Format::OpenMetrics),
            (Some("application/openmetrics-text;q=0.5, text/plain;q=0.5"), Format::OpenMetrics),
            (Some("application/openmetrics-text;q=0.5, text/*;q=0.6"), Format::Text),
            (
                Some("application/openmetrics-text;q=0.5, text/plain;q=0.1, text/*;q=0.9"),
                Format::OpenMetrics,
            ),
            (Some("application/openmetrics-text;q=nonsense"), Format::Text),
            (Some("application/openmetrics-text;q=1.001"), Format::Text),
            (Some(";;q=,,=,"), Format::Text),
        ];
        for (accept, expected) in table {
            assert_eq!(format(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_body_is_compressed_only_for_those_who_accept_it() {
        let table = [
            (None, false),
            (Some("identity"), false),
            (Some("gzip"), true),
            (Some("br, GZIP;q=0.5"), true),
            (Some("gzip;q=0"), false),
            (Some("*"), true),
            (Some("*, gzip;q=0"), false),
        ];
        for (accept, expected) in table {
            assert_eq!(gzip(accept), expected, "{accept:?}");
        }
    }
}
