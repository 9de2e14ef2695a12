//! What can be chosen.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use crate::model::Buckets;

/// A metric has at most so many series, unless [`Metrics::series_limit`] says otherwise.
const SERIES_LIMIT: usize = 2_000;

/// Span metrics: what is measured and where it is served.
///
/// ```
/// use std::time::Duration;
/// use spanweave_metrics::Metrics;
///
/// let metrics = Metrics::default()
///     .serve("127.0.0.1:9464")
///     .buckets([0.005, 0.05, 0.5, 5.0])
///     .labels(["http.request.method"])
///     .series_limit(500)
///     .expire_after(Duration::from_secs(3600));
/// # let _ = metrics;
/// ```
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) address: Option<ServeAddress>,
    pub(crate) buckets: Buckets,
    pub(crate) labels: Vec<String>,
    pub(crate) series_limit: usize,
    pub(crate) expire_after: Option<Duration>,
    pub(crate) aliases: Vec<Names>,
    pub(crate) token: Option<Token>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            address: None,
            buckets: Buckets::default(),
            labels: Vec::new(),
            series_limit: SERIES_LIMIT,
            expire_after: None,
            aliases: Vec::new(),
            token: None,
        }
    }
}

impl Metrics {
    /// Serves `/metrics` at `address`: a socket address, or `host:port`. Port 0 takes a free one.
    #[must_use]
    pub fn serve(mut self, address: impl Into<ServeAddress>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Shows `/metrics` only to requests with `Authorization: Bearer <token>`; `/healthz` stays
    /// open. An empty token is none.
    #[must_use]
    pub fn bearer_token(mut self, token: impl Into<String>) -> Self {
        let token = token.into();
        self.token = (!token.is_empty()).then_some(Token(token));
        self
    }

    /// The upper bounds of the duration histogram, in seconds, at most 32. What is not a positive
    /// finite number is left out, order and repetitions do not matter, and without any bound that
    /// is left the default stays: .001 .005 .01 .05 .1 .5 1 5 10 30.
    #[must_use]
    pub fn buckets(mut self, seconds: impl IntoIterator<Item = f64>) -> Self {
        self.buckets = Buckets::new(seconds).unwrap_or_default();
        self
    }

    /// Span attributes that become labels of `trace_span_total` and
    /// `trace_span_duration_seconds`, with `_` in place of what a label name cannot hold. None by
    /// default: each label multiplies the series, and a span's look-up is then by hash.
    /// Keys whose label name is taken already are left out.
    #[must_use]
    pub fn labels<K: Into<String>>(mut self, attributes: impl IntoIterator<Item = K>) -> Self {
        self.labels = attributes.into_iter().map(Into::into).collect();
        self
    }

    /// How many series a metric can have, 2,000 by default and at least 1. Spans above it are
    /// counted in series with `operation="_other"`.
    #[must_use]
    pub fn series_limit(mut self, series: usize) -> Self {
        self.series_limit = series.max(1);
        self
    }

    /// Series that have not changed for so long are folded into `operation="_other"` at the next
    /// scrape, which makes room for others. Never, by default.
    #[must_use]
    pub fn expire_after(mut self, unused: Duration) -> Self {
        self.expire_after = Some(unused);
        self
    }

    /// Writes span metrics under further names too. The project's own names are always there.
    #[must_use]
    pub fn names(mut self, names: Names) -> Self {
        if names != Names::Spanweave && !self.aliases.contains(&names) {
            self.aliases.push(names);
        }
        self
    }

    /// Where metrics are to be served, if anywhere.
    pub fn address(&self) -> Option<&ServeAddress> {
        self.address.as_ref()
    }
}

/// A secret that a request has to know. It is never shown.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// Compares in a time that does not depend on where the two differ.
    pub(crate) fn matches(&self, given: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let difference = own.iter().zip(given).fold(0, |sum, (a, b)| sum | (a ^ b));
        own.len() == given.len() && difference == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[masked]")
    }
}

/// Sets of names for span metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Names {
    /// The project's own names; always there.
    Spanweave,
    /// What Jaeger's Monitor tab reads: `traces_span_metrics_calls_total` and
    /// `traces_span_metrics_duration_milliseconds`.
    JaegerSpm,
    /// What Tempo's metrics generator writes: `traces_spanmetrics_calls_total`,
    /// `traces_spanmetrics_latency` and `traces_service_graph_request_total`.
    Tempo,
}

/// Where to listen: a socket address, or a name with a port that is resolved when the server
/// starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeAddress(Address);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Socket(SocketAddr),
    Text(String),
}

impl ServeAddress {
    pub(crate) fn bind(&self) -> io::Result<TcpListener> {
        match &self.0 {
            Address::Socket(address) => TcpListener::bind(address),
            Address::Text(address) => TcpListener::bind(address.as_str()),
        }
    }
}

impl fmt::Display for ServeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Address::Socket(address) => address.fmt(f),
            Address::Text(address) => address.fmt(f),
        }
    }
}

impl From<SocketAddr> for ServeAddress {
    fn from(address: SocketAddr) -> Self {
        Self(Address::Socket(address))
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for ServeAddress {
    fn from(address: (I, u16)) -> Self {
        Self(Address::Socket(address.into()))
    }
}

impl From<String> for ServeAddress {
    fn from(address: String) -> Self {
        Self(Address::Text(address))
    }
}

impl From<&str> for ServeAddress {
    fn from(address: &str) -> Self {
        address.to_owned().into()
    }
}
