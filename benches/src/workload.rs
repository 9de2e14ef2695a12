//! The request that is measured: 5 spans, 18 fields, 2 events.

/// Spans of one request.
pub(crate) const SPANS: u64 = 5;

/// One request, with `tracing`.
pub(crate) fn request(number: u64) {
    let _server = tracing::info_span!(
        "GET /orders/{id}",
        otel.kind = "server",
        http.request.method = "GET",
        http.route = "/orders/{id}",
        url.path = "/orders/17",
        http.response.status_code = 200,
        user.id = number
    )
    .entered();
    {
        let _authorize =
            tracing::info_span!("authorize", user.role = "customer", session.age = 17).entered();
        tracing::info!(cached = true, "session found");
    }
    let _load = tracing::info_span!("load order", order.id = number, shard = 3).entered();
    {
        let _query = tracing::info_span!(
            "SELECT orders",
            otel.kind = "client",
            db.system.name = "postgresql",
            db.query.text = "SELECT * FROM orders WHERE id = $1",
            db.operation.name = "SELECT"
        )
        .entered();
    }
    let _render = tracing::info_span!(
        "render",
        template = "order.html",
        size = 1024,
        compressed = false,
        language = "en"
    )
    .entered();
    tracing::info!(bytes = 1024, "rendered");
}

/// The same request with fastrace's own API.
pub(crate) fn fastrace_request(number: u64) {
    use fastrace::prelude::{Event, LocalSpan, Span, SpanContext};

    let root = Span::root("GET /orders/{id}", SpanContext::random()).with_properties(|| {
        [
            ("span.kind", "server".to_owned()),
            ("http.request.method", "GET".to_owned()),
            ("http.route", "/orders/{id}".to_owned()),
            ("url.path", "/orders/17".to_owned()),
            ("http.response.status_code", "200".to_owned()),
            ("user.id", number.to_string()),
        ]
    });
    let _root = root.set_local_parent();
    {
        let _authorize = LocalSpan::enter_with_local_parent("authorize")
            .with_properties(|| [("user.role", "customer"), ("session.age", "17")]);
        LocalSpan::add_event(Event::new("session found").with_property(|| ("cached", "true")));
    }
    let _load = LocalSpan::enter_with_local_parent("load order")
        .with_properties(|| [("order.id", number.to_string()), ("shard", "3".to_owned())]);
    {
        let _query = LocalSpan::enter_with_local_parent("SELECT orders").with_properties(|| {
            [
                ("span.kind", "client"),
                ("db.system.name", "postgresql"),
                ("db.query.text", "SELECT * FROM orders WHERE id = $1"),
                ("db.operation.name", "SELECT"),
            ]
        });
    }
    let _render = LocalSpan::enter_with_local_parent("render").with_properties(|| {
        [("template", "order.html"), ("size", "1024"), ("compressed", "false"), ("language", "en")]
    });
    LocalSpan::add_event(Event::new("rendered").with_property(|| ("bytes", "1024")));
}
