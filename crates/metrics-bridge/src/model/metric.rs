/// What is counted for itself, with labels, buckets and a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpanMetric {
    /// `trace_span_total` and `trace_span_duration_seconds`, which are views of the same series,
    /// also under the names of alias sets.
    Spans,
    /// `trace_errors_total`.
    Errors,
    /// `service_requests_total`, and the service graph of alias sets: requests that were taken.
    Requests,
    /// `service_calls_total`, and the service graph of alias sets: requests that were made.
    Calls,
    /// `http_server_request_duration_seconds`.
    HttpServer,
    /// `http_client_request_duration_seconds`.
    HttpClient,
    /// `db_client_operation_duration_seconds`.
    Database,
    /// `http_server_active_requests`. It takes no labels beyond its own: what is added at the
    /// start has to be taken away from the same series at the end.
    ActiveRequests,
}

impl SpanMetric {
    pub(crate) const ALL: [Self; 8] = [
        Self::Spans,
        Self::Errors,
        Self::Requests,
        Self::Calls,
        Self::HttpServer,
        Self::HttpClient,
        Self::Database,
        Self::ActiveRequests,
    ];

    /// The metrics of the semantic conventions.
    pub(crate) const CONVENTIONS: [Self; 4] =
        [Self::HttpServer, Self::HttpClient, Self::Database, Self::ActiveRequests];

    /// Whether its series have buckets and a sum; otherwise they are a single count.
    pub(crate) fn is_histogram(self) -> bool {
        !matches!(self, Self::Errors | Self::ActiveRequests)
    }

    /// How many values a series has in front of those of attributes.
    pub(crate) fn own_values(self) -> usize {
        match self {
            Self::Spans => 1,
            Self::Errors | Self::Requests | Self::Calls => 2,
            Self::HttpServer | Self::HttpClient | Self::Database | Self::ActiveRequests => 0,
        }
    }
}
