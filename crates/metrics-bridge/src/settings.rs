//! What can be chosen.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Buckets, SpanMetric};

/// A metric has at most so many series, unless [`Metrics::series_limit`] says otherwise.
const SERIES_LIMIT: usize = 2_000;

/// Span metrics: what is measured and where it is served.
///
/// ```
/// use std::time::Duration;
/// use spanweave_metrics::{Metrics, SpanMetric};
///
/// let metrics = Metrics::default()
///     .serve("127.0.0.1:9464")
///     .buckets([0.005, 0.05, 0.5, 5.0])
///     .operation_buckets("nightly report", [10.0, 60.0, 600.0])
///     .labels(["tenant.id"])
///     .labels_for(SpanMetric::HttpServer, ["tenant.id"])
///     .label_name("tenant.id", "tenant")
///     .series_limit(500)
///     .expire_after(Duration::from_secs(3600));
/// # let _ = metrics;
/// ```
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) address: Option<ServeAddress>,
    /// By metric.
    buckets: [Option<Buckets>; SpanMetric::ALL.len()],
    pub(crate) operation_buckets: Vec<(String, Buckets)>,
    /// By metric.
    labels: [Vec<String>; SpanMetric::ALL.len()],
    pub(crate) label_prefix: String,
    pub(crate) label_names: HashMap<String, String>,
    pub(crate) label_values: HashMap<String, ValueMap>,
    pub(crate) resource_labels: Vec<String>,
    pub(crate) conventions: bool,
    pub(crate) series_limit: usize,
    pub(crate) expire_after: Option<Duration>,
    pub(crate) aliases: Vec<Names>,
    pub(crate) token: Option<Token>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            address: None,
            buckets: Default::default(),
            operation_buckets: Vec::new(),
            labels: Default::default(),
            label_prefix: String::new(),
            label_names: HashMap::new(),
            label_values: HashMap::new(),
            resource_labels: Vec::new(),
            conventions: true,
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

    /// The upper bounds of the histograms of spans, requests and calls, in seconds, at most 32.
    /// What is not a positive finite number is left out, order and repetitions do not matter, and
    /// without any bound that is left the default stays: .001 .005 .01 .05 .1 .5 1 5 10 30.
    #[must_use]
    pub fn buckets(self, seconds: impl IntoIterator<Item = f64>) -> Self {
        let seconds: Vec<f64> = seconds.into_iter().collect();
        let of_ours = [SpanMetric::Spans, SpanMetric::Requests, SpanMetric::Calls];
        of_ours
            .into_iter()
            .fold(self, |settings, metric| settings.buckets_for(metric, seconds.iter().copied()))
    }

    /// As [`buckets`](Self::buckets), for one metric. The default of HTTP and database metrics is
    /// what the semantic conventions say; what is no histogram has no buckets.
    #[must_use]
    pub fn buckets_for(
        mut self,
        metric: SpanMetric,
        seconds: impl IntoIterator<Item = f64>,
    ) -> Self {
        self.buckets[metric as usize] = Buckets::new(seconds);
        self
    }

    /// As [`buckets`](Self::buckets), for the spans of one operation, by its label's value.
    /// Without any bound that can be used, those of all spans stay. When such a series expires,
    /// its counts move to buckets with bounds no less than theirs.
    #[must_use]
    pub fn operation_buckets(
        mut self,
        operation: impl Into<String>,
        seconds: impl IntoIterator<Item = f64>,
    ) -> Self {
        if let Some(buckets) = Buckets::new(seconds) {
            self.operation_buckets.push((operation.into(), buckets));
        }
        self
    }

    /// Span attributes that become labels of `trace_span_total` and
    /// `trace_span_duration_seconds`, with `_` in place of what a label name cannot hold. None by
    /// default: each label multiplies the series, and a span's look-up is then by hash.
    /// Keys whose label name is taken already are left out.
    #[must_use]
    pub fn labels<K: Into<String>>(self, attributes: impl IntoIterator<Item = K>) -> Self {
        self.labels_for(SpanMetric::Spans, attributes)
    }

    /// As [`labels`](Self::labels), for one metric: labels beyond those that it has anyway.
    #[must_use]
    pub fn labels_for<K: Into<String>>(
        mut self,
        metric: SpanMetric,
        attributes: impl IntoIterator<Item = K>,
    ) -> Self {
        self.labels[metric as usize] = attributes.into_iter().map(Into::into).collect();
        self
    }

    /// What the names of the labels begin with that were asked for by [`labels`](Self::labels)
    /// and [`labels_for`](Self::labels_for), unless [`label_name`](Self::label_name) names them.
    #[must_use]
    pub fn label_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.label_prefix = prefix.into();
        self
    }

    /// What the label of an attribute is called that was asked for.
    #[must_use]
    pub fn label_name(mut self, attribute: impl Into<String>, name: impl Into<String>) -> Self {
        self.label_names.insert(attribute.into(), name.into());
        self
    }

    /// What the value of an attribute becomes as a label's value, for example a class of it:
    /// wherever the attribute is a label, those of the semantic conventions included. `map` is
    /// called when a series is made, not for each span, and its result is masked.
    ///
    /// ```
    /// # use spanweave_metrics::Metrics;
    /// let metrics = Metrics::default()
    ///     .labels(["http.response.status_code"])
    ///     .label_values("http.response.status_code", |code| format!("{}xx", &code[..1]));
    /// # let _ = metrics;
    /// ```
    #[must_use]
    pub fn label_values(
        mut self,
        attribute: impl Into<String>,
        map: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        self.label_values.insert(attribute.into(), ValueMap(Arc::new(map)));
        self
    }

    /// Attributes of the resource that become labels of every span metric, such as
    /// `deployment.environment.name`. None by default: all of them stand in `target_info`.
    #[must_use]
    pub fn resource_labels<K: Into<String>>(
        mut self,
        attributes: impl IntoIterator<Item = K>,
    ) -> Self {
        self.resource_labels = attributes.into_iter().map(Into::into).collect();
        self
    }

    /// Whether HTTP and database metrics of the semantic conventions are made of the spans. On by
    /// default; off for an application that measures them itself.
    #[must_use]
    pub fn conventions(mut self, on: bool) -> Self {
        self.conventions = on;
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

    /// The bounds that were chosen.
    pub(crate) fn buckets_of(&self, metric: SpanMetric) -> Option<&Buckets> {
        self.buckets[metric as usize].as_ref()
    }

    /// The attributes that were asked for.
    pub(crate) fn labels_of(&self, metric: SpanMetric) -> &[String] {
        match metric {
            SpanMetric::ActiveRequests => &[],
            _ => &self.labels[metric as usize],
        }
    }
}

/// What the values of a label become.
#[derive(Clone)]
pub(crate) struct ValueMap(pub(crate) Arc<dyn Fn(&str) -> String + Send + Sync>);

impl fmt::Debug for ValueMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ValueMap")
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
    /// `traces_spanmetrics_latency`, and the service graph `traces_service_graph_request_total`,
    /// `_failed_total`, `_server_seconds` and `_client_seconds`. A request between two services
    /// is counted once, by the one that takes it; a call to a database by the one that makes it.
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
