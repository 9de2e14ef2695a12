use spanweave_core::SpanExt;
use tracing::Span;
use tracing::field::Empty;

/// The span of a connection that a response of `101 Switching Protocols` hands over: the request's
/// own span ends there. It begins a trace of its own, since a connection outlives every request,
/// and links to the request, which is to be the current span.
///
/// `protocol` is a name of few, such as `websocket`: the span's name and `network.protocol.name`.
///
/// ```
/// use tracing::Instrument;
/// use spanweave_instrumentation::http::server::upgraded;
///
/// # async fn chat() {}
/// // In the handler, before the connection is given away:
/// let connection = upgraded("websocket");
/// let task = async move { chat().await }.instrument(connection);
/// # drop(task);
/// ```
pub fn upgraded(protocol: &str) -> Span {
    let request = Span::current().span_context();
    let span = tracing::info_span!(
        target: "spanweave::http::server",
        parent: None,
        "http.server.connection",
        otel.name = protocol,
        otel.kind = "server",
        network.protocol.name = protocol,
        otel.status_code = Empty,
        error.type = Empty,
    );
    if request.is_valid() {
        span.add_link(request);
    }
    span
}
