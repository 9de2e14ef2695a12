//! The names and help texts of all families that are written here.

/// What a family is called and what it says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Described {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
}

const fn described(name: &'static str, help: &'static str) -> Described {
    Described { name, help }
}

// Spans.

pub(crate) const CALLS: Described =
    described("trace_span_total", "Spans that ended, before sampling, by operation and status.");
pub(crate) const DURATION: Described =
    described("trace_span_duration_seconds", "How long spans took, before sampling, by operation.");
pub(crate) const ERRORS: Described = described(
    "trace_errors_total",
    "Spans that ended with an error, before sampling, by operation and class of the error.",
);
pub(crate) const REQUESTS: Described = described(
    "service_requests_total",
    "Requests that this service took, by calling service and operation.",
);

pub(crate) const SERVICE_CALLS: Described = described(
    "service_calls_total",
    "Requests that this service made, by called service and operation.",
);

pub(crate) const SERVICE: &str = "service";
pub(crate) const OPERATION: &str = "operation";
pub(crate) const STATUS: &str = "status";
pub(crate) const ERROR_TYPE: &str = "error_type";
pub(crate) const SOURCE_SERVICE: &str = "source_service";
pub(crate) const TARGET_SERVICE: &str = "target_service";

/// The operation of spans above the series limit, and of series that have expired.
pub(crate) const OTHER: &str = "_other";
/// A service that did not give its name.
pub(crate) const UNKNOWN: &str = "unknown";
/// The class of errors of which nothing is known (semantic conventions: `error.type`).
pub(crate) const OTHER_ERROR: &str = "_OTHER";

// Semantic conventions.

pub(crate) const HTTP_SERVER: Described =
    described("http_server_request_duration_seconds", "Duration of HTTP server requests.");
pub(crate) const HTTP_CLIENT: Described =
    described("http_client_request_duration_seconds", "Duration of HTTP client requests.");
pub(crate) const DATABASE: Described =
    described("db_client_operation_duration_seconds", "Duration of database client operations.");
pub(crate) const ACTIVE_REQUESTS: Described =
    described("http_server_active_requests", "Number of active HTTP server requests.");

// Alias sets.

pub(crate) const JAEGER_CALLS: Described =
    described("traces_span_metrics_calls_total", "Spans that ended, as Jaeger's SPM reads them.");
pub(crate) const JAEGER_DURATION: Described = described(
    "traces_span_metrics_duration_milliseconds",
    "How long spans took, in milliseconds, as Jaeger's SPM reads it.",
);
pub(crate) const TEMPO_CALLS: Described =
    described("traces_spanmetrics_calls_total", "Spans that ended, as Tempo names them.");
pub(crate) const TEMPO_DURATION: Described =
    described("traces_spanmetrics_latency", "How long spans took, in seconds, as Tempo names it.");
pub(crate) const TEMPO_EDGES: Described = described(
    "traces_service_graph_request_total",
    "Requests between services, as Tempo names them.",
);
pub(crate) const TEMPO_EDGES_FAILED: Described = described(
    "traces_service_graph_request_failed_total",
    "Requests between services that failed, as Tempo names them.",
);
pub(crate) const TEMPO_EDGES_SERVER: Described = described(
    "traces_service_graph_request_server_seconds",
    "How long requests between services took where they were taken, as Tempo names it.",
);
pub(crate) const TEMPO_EDGES_CLIENT: Described = described(
    "traces_service_graph_request_client_seconds",
    "How long requests between services took where they were made, as Tempo names it.",
);

pub(crate) const CLIENT: &str = "client";
pub(crate) const SERVER: &str = "server";
pub(crate) const CONNECTION_TYPE: &str = "connection_type";

pub(crate) const ALIAS_SPAN_NAME: &str = "span_name";
pub(crate) const ALIAS_SPAN_KIND: &str = "span_kind";
pub(crate) const ALIAS_STATUS: &str = "status_code";
pub(crate) const JAEGER_SERVICE: &str = "service_name";

// The ledger: where every span went.

pub(crate) const SPANS_STARTED: Described =
    described("otel_sdk_span_started_total", "Spans that started.");
pub(crate) const SPANS_LIVE: Described =
    described("otel_sdk_span_live", "Spans that have started and not ended.");
pub(crate) const QUEUE_SIZE: Described = described(
    "otel_sdk_processor_span_queue_size",
    "Spans between the application and the backends: handed off, undecided or in a batch.",
);
pub(crate) const QUEUE_CAPACITY: Described = described(
    "otel_sdk_processor_span_queue_capacity",
    "Spans that the hand-off from the application can hold.",
);
pub(crate) const PROCESSED: Described = described(
    "otel_sdk_processor_span_processed_total",
    "Spans that went on to the backends or, with error_type, were dropped before them.",
);
pub(crate) const IN_FLIGHT: Described = described(
    "otel_sdk_exporter_span_inflight",
    "Spans in requests that are under way, by backend.",
);
pub(crate) const EXPORTED: Described = described(
    "otel_sdk_exporter_span_exported_total",
    "Spans that the backend has or, with error_type, will never have.",
);
pub(crate) const ENDED: Described =
    described("spanweave_spans_ended_total", "Spans that ended in this process.");
pub(crate) const SAMPLED_OUT: Described =
    described("spanweave_spans_sampled_out_total", "Spans that sampling kept from all backends.");
pub(crate) const BACKEND_SAMPLED_OUT: Described = described(
    "spanweave_backend_sampled_out_spans_total",
    "Spans that sampling or a filter kept from the backend, those of all backends included.",
);
pub(crate) const BACKEND_PENDING: Described = described(
    "spanweave_backend_pending_spans",
    "Spans on their way to the backend: ended = exported + processed with error_type + \
     sampled out + pending.",
);
pub(crate) const BACKEND_UP: Described =
    described("spanweave_backend_up", "Whether requests to the backend succeed.");
pub(crate) const BACKEND_REQUESTS: Described =
    described("spanweave_backend_requests_total", "Requests made to the backend.");
pub(crate) const BACKEND_REQUESTS_FAILED: Described = described(
    "spanweave_backend_requests_failed_total",
    "Requests to the backend that failed; they may have been tried again.",
);
pub(crate) const CALLBACK_PANICS: Described =
    described("spanweave_callback_panics_total", "Panics of observers and hooks that were caught.");
pub(crate) const ORPHAN_EVENTS: Described = described(
    "spanweave_orphan_events_total",
    "Events that would have been spans but had no parent.",
);
pub(crate) const MALFORMED_HEADERS: Described = described(
    "spanweave_malformed_headers_total",
    "Trace context headers that were there but did not parse.",
);

pub(crate) const COMPONENT_TYPE: &str = "otel_component_type";
pub(crate) const COMPONENT_NAME: &str = "otel_component_name";

// Of the metrics themselves.

pub(crate) const SERIES: Described =
    described("spanweave_metrics_series", "Series of the span metrics, by metric.");
pub(crate) const SERIES_LIMIT: Described = described(
    "spanweave_metrics_series_limit",
    "Series that a span metric can have before spans count as operation=\"_other\".",
);
pub(crate) const FAMILIES_DROPPED: Described = described(
    "spanweave_metrics_dropped_families",
    "Families of the registry that are left out because their names clash with others.",
);
pub(crate) const METRIC: &str = "metric";

pub(crate) const TARGET_INFO: Described =
    described("target_info", "The resource that these metrics belong to.");

// The process.

pub(crate) const PROCESS_CPU: Described =
    described("process_cpu_seconds_total", "CPU time that the process has used, in seconds.");
pub(crate) const PROCESS_MEMORY: Described =
    described("process_resident_memory_bytes", "Memory of the process that is resident.");
pub(crate) const PROCESS_VIRTUAL_MEMORY: Described =
    described("process_virtual_memory_bytes", "Address space of the process.");
pub(crate) const PROCESS_OPEN_FDS: Described =
    described("process_open_fds", "File descriptors that the process has open.");
pub(crate) const PROCESS_MAX_FDS: Described =
    described("process_max_fds", "File descriptors that the process may have open.");
pub(crate) const PROCESS_START_TIME: Described =
    described("process_start_time_seconds", "When the process started, since the Unix epoch.");
pub(crate) const PROCESS_THREADS: Described =
    described("process_threads", "Threads of the process.");

/// What stands as help where a foreign family has none.
pub(crate) const NO_HELP: &str = "No help text was given.";
