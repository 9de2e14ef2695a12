//! What the parent reads of a service's `/metrics`.

use std::net::SocketAddr;

/// The figures of one scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scrape {
    /// The sum over all series of `trace_span_total`: spans that have ended.
    pub(crate) spans: u64,
    /// Spans that have started and not ended.
    pub(crate) live: u64,
}

pub(crate) async fn scrape(
    client: &reqwest::Client,
    address: SocketAddr,
) -> reqwest::Result<Scrape> {
    let response = client.get(url(address)).send().await?.error_for_status()?;
    Ok(read(&response.text().await?))
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("http://{address}/metrics")
}

fn read(text: &str) -> Scrape {
    Scrape { spans: sum(text, "trace_span_total"), live: sum(text, "otel_sdk_span_live") }
}

/// The sum over all series of a family of whole numbers, in the text format without timestamps.
fn sum(text: &str, family: &str) -> u64 {
    text.lines()
        .filter_map(|line| {
            let labels = line.strip_prefix(family)?;
            // Another family may begin with this one's name.
            if !labels.starts_with(['{', ' ']) {
                return None;
            }
            labels.rsplit(' ').next()?.parse::<u64>().ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_summed_over_its_series_only() {
        let text = "# TYPE trace_span_total counter\n\
                    trace_span_total{operation=\"GET /users/{id}\",status=\"unset\"} 3\n\
                    trace_span_total{operation=\"a } 9 b\",status=\"error\"} 4\n\
                    trace_span_total_other{} 100\n\
                    otel_sdk_span_live 2\n";
        assert_eq!(read(text), Scrape { spans: 7, live: 2 });
        assert_eq!(read(""), Scrape::default());
    }
}
