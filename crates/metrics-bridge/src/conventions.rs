//! HTTP and database metrics of the semantic conventions: which spans they are made of, their
//! attributes and their buckets.
//!
//! <https://opentelemetry.io/docs/specs/semconv/http/http-metrics/> and
//! <https://opentelemetry.io/docs/specs/semconv/db/database-metrics/>

use opentelemetry::trace::SpanKind;
use spanweave_core::span::AttributeValue;

use crate::model::SpanMetric;

pub(crate) const METHOD: &str = "http.request.method";
pub(crate) const DATABASE_SYSTEM: &str = "db.system.name";
/// Its value is the span's class of error, which is low in cardinality, and only of spans that
/// failed.
pub(crate) const ERROR_TYPE: &str = "error.type";
/// The name of the service that was called, as it gave it itself.
pub(crate) const PEER: &str = "service.peer.name";

/// Seconds, as the conventions have them.
const HTTP_SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const DATABASE_SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// The attributes that are labels of a metric without being asked for: those that are required,
/// required where they are there, or recommended, and stable; of addresses of peers none.
pub(crate) fn attributes(metric: SpanMetric) -> &'static [&'static str] {
    match metric {
        SpanMetric::HttpServer => &[
            METHOD,
            "url.scheme",
            "http.route",
            "http.response.status_code",
            "network.protocol.version",
            ERROR_TYPE,
        ],
        SpanMetric::HttpClient => &[
            METHOD,
            "server.address",
            "server.port",
            "http.response.status_code",
            "network.protocol.version",
            ERROR_TYPE,
        ],
        SpanMetric::Database => &[
            DATABASE_SYSTEM,
            "db.namespace",
            "db.collection.name",
            "db.stored_procedure.name",
            "db.operation.name",
            "db.query.summary",
            "db.response.status_code",
            "server.address",
            "server.port",
            ERROR_TYPE,
        ],
        SpanMetric::ActiveRequests => &[METHOD, "url.scheme"],
        SpanMetric::Spans | SpanMetric::Errors | SpanMetric::Requests | SpanMetric::Calls => &[],
    }
}

/// The bounds of a metric's histogram; `None` where they are the project's own.
pub(crate) fn seconds(metric: SpanMetric) -> Option<&'static [f64]> {
    match metric {
        SpanMetric::HttpServer | SpanMetric::HttpClient => Some(&HTTP_SECONDS),
        SpanMetric::Database => Some(&DATABASE_SECONDS),
        _ => None,
    }
}

/// The metric of the conventions that a span of this kind and these attributes belongs to.
#[inline]
pub(crate) fn metric_of<'a>(
    kind: &SpanKind,
    attribute: impl Fn(&str) -> Option<AttributeValue<'a>>,
) -> Option<SpanMetric> {
    match kind {
        SpanKind::Server => attribute(METHOD).map(|_| SpanMetric::HttpServer),
        // Some databases are spoken to over HTTP.
        SpanKind::Client if attribute(DATABASE_SYSTEM).is_some() => Some(SpanMetric::Database),
        SpanKind::Client => attribute(METHOD).map(|_| SpanMetric::HttpClient),
        SpanKind::Internal | SpanKind::Producer | SpanKind::Consumer => None,
    }
}
