//! The five behaviours that make a tracing system, each from the application's code to a collector
//! at the other end of a socket.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use spanweave::http::client::HttpClient;
use spanweave::http::server::HttpServerLayer;
use spanweave::{Backend, SpanExt, Telemetry, propagation};
use spanweave_testkit::{
    SpanKind, StatusCode as SpanStatus, TestCollector, Value, assert_attribute, assert_child_of,
    assert_error, assert_no_attribute, assert_root, assert_same_trace, assert_within,
};
use tracing::{Dispatch, Instrument};
use tracing_subscriber::layer::SubscriberExt;

const DEADLINE: Duration = Duration::from_secs(10);

/// A service: its telemetry, and the subscriber that its code runs under.
struct Service {
    telemetry: Telemetry,
    dispatch: Dispatch,
}

impl Service {
    fn named(name: &str, backend: Backend) -> Self {
        let (layer, telemetry) =
            spanweave::builder().service_name(name).export_to(backend).build().unwrap();
        Self { telemetry, dispatch: Dispatch::new(tracing_subscriber::registry().with(layer)) }
    }

    fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        tracing::dispatcher::with_default(&self.dispatch, work)
    }

    /// Runs a future on a single thread, so that all of its tasks are this service's.
    fn block_on<F: Future>(&self, future: impl FnOnce() -> F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        self.run(|| runtime.block_on(future()))
    }

    /// Serves `router` on a thread of this service until the end of the process.
    fn serve(self, router: Router) -> SocketAddr {
        let (sender, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            self.block_on(|| async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                // Spans of a service that goes on are to arrive without a shutdown.
                let flush = async {
                    loop {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        self.telemetry.flush_async(DEADLINE).await;
                    }
                };
                tokio::select! {
                    served = axum::serve(listener, router).into_future() => served.unwrap(),
                    () = flush => {}
                }
            });
        });
        address.recv().unwrap()
    }

    #[track_caller]
    fn deliver(&self) {
        let report = self.telemetry.shutdown(DEADLINE);
        assert!(report.is_complete(), "{report:?}");
    }
}

#[test]
fn a_basic_span_is_recorded() {
    let collector = TestCollector::start();
    let service = Service::named("accounts", Backend::otlp_http(collector.http_endpoint()));
    service.run(|| {
        let span = tracing::info_span!(
            "CreateUser",
            otel.kind = "internal",
            user.id = 42,
            user.name = "ann",
            user.verified = true,
            user.score = 0.5,
        );
        span.in_scope(|| tracing::info!(rows = 1, "user stored"));
    });
    service.deliver();

    let span = collector.wait_for_span("CreateUser");
    assert_root(&span);
    assert_eq!(collector.unique_spans(), 1);
    assert_eq!((span.service.as_str(), span.kind), ("accounts", SpanKind::Internal));
    assert_eq!(span.status, SpanStatus::Unset);
    assert_attribute(&span, "user.id", 42_i64);
    assert_attribute(&span, "user.name", "ann");
    assert_attribute(&span, "user.verified", true);
    assert_attribute(&span, "user.score", 0.5);
    let event = span.event("user stored").unwrap();
    assert_eq!(event.attribute("rows"), Some(&Value::Int(1)));
    assert!(span.start_ns <= event.time_ns && event.time_ns <= span.end_ns);
    assert!(span.resource_attribute("telemetry.sdk.language").is_some());
}

#[test]
fn a_child_span_is_under_its_parent() {
    #[tracing::instrument(name = "CreateUser")]
    async fn create_user() {
        validate_user();
        insert_user().await;
    }
    #[tracing::instrument(name = "ValidateUser")]
    fn validate_user() {}
    #[tracing::instrument(name = "InsertUser", fields(otel.kind = "client"))]
    async fn insert_user() {
        tokio::task::yield_now().await;
        // Another task, and thereby another way for a parent to get lost.
        let audit = async {}.instrument(tracing::info_span!("Audit"));
        tokio::spawn(audit).await.unwrap();
    }

    let collector = TestCollector::start();
    let service = Service::named("accounts", Backend::otlp_grpc(collector.grpc_endpoint()));
    service.block_on(create_user);
    service.deliver();

    let spans = collector.wait_for_spans(4);
    assert_same_trace(spans.iter().map(|span| &**span));
    let [create, validate, insert, audit] = ["CreateUser", "ValidateUser", "InsertUser", "Audit"]
        .map(|name| collector.span_named(name));
    assert_root(&create);
    for (child, parent) in [(&validate, &create), (&insert, &create), (&audit, &insert)] {
        assert_child_of(child, parent);
        assert_within(child, parent);
    }
    assert_eq!(insert.kind, SpanKind::Client);
}

#[test]
fn context_is_propagated_across_services() {
    async fn user(headers: HeaderMap) -> &'static str {
        let span = tracing::info_span!("find user", otel.kind = "server");
        span.set_parent(propagation::extract(&headers)).unwrap();
        async { "ann" }.instrument(span).await
    }

    let collector = TestCollector::start();
    let users = Service::named("users", Backend::otlp_grpc(collector.grpc_endpoint()))
        .serve(Router::new().route("/users/7", get(user)));
    let gateway = Service::named("gateway", Backend::otlp_http(collector.http_endpoint()));
    let name = gateway.block_on(|| {
        async {
            let mut headers = HeaderMap::new();
            propagation::inject(&mut headers);
            assert!(headers.contains_key("traceparent"), "{headers:?}");
            let request = reqwest::Client::new().get(format!("http://{users}/users/7"));
            request.headers(headers).send().await.unwrap().text().await.unwrap()
        }
        .instrument(tracing::info_span!("call users", otel.kind = "client"))
    });
    gateway.deliver();

    assert_eq!(name, "ann");
    collector.wait_for_spans(2);
    let [call, find] = ["call users", "find user"].map(|name| collector.span_named(name));
    assert_root(&call);
    assert_child_of(&find, &call);
    assert!(find.has_remote_parent() && !call.has_remote_parent());
    assert_eq!((call.service.as_str(), find.service.as_str()), ("gateway", "users"));
    assert_eq!((call.kind, find.kind), (SpanKind::Client, SpanKind::Server));
}

#[derive(Debug)]
struct OutOfStock {
    item: u32,
}

impl fmt::Display for OutOfStock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item {} is out of stock", self.item)
    }
}

impl std::error::Error for OutOfStock {}

#[test]
fn an_error_is_recorded_on_its_span() {
    let collector = TestCollector::start();
    let service = Service::named("orders", Backend::otlp_http(collector.http_endpoint()));
    service.block_on(|| {
        async {
            let failed: Result<(), _> =
                spanweave::traced("ReserveItem", async { Err(OutOfStock { item: 9 }) }).await;
            tracing::Span::current().record_error(&failed.unwrap_err());
            spanweave::traced("NotifyUser", async { Ok::<_, OutOfStock>(()) }).await.unwrap();
        }
        .instrument(tracing::info_span!("PlaceOrder"))
    });
    service.deliver();

    collector.wait_for_spans(3);
    let text = "item 9 is out of stock";
    for name in ["ReserveItem", "PlaceOrder"] {
        let span = collector.span_named(name);
        let error_type = span.error_type().unwrap_or_default().to_owned();
        assert!(error_type.ends_with("OutOfStock"), "{error_type}");
        assert_error(&span, &error_type);
        assert_attribute(&span, "error.type", error_type.as_str());
        assert_eq!(span.status_message, text);
        let exception = span.event("exception").unwrap();
        assert_eq!(exception.attribute("exception.type"), Some(&error_type.into()));
        assert_eq!(exception.attribute("exception.message"), Some(&text.into()));
    }
    let well = collector.span_named("NotifyUser");
    assert_eq!(well.status, SpanStatus::Unset);
    assert!(well.events.is_empty());
    assert_no_attribute(&well, "error.type");
}

#[test]
fn an_http_request_is_traced_automatically() {
    async fn order(Json(order): Json<serde_json::Value>) -> (StatusCode, String) {
        tracing::info_span!("PlaceOrder").in_scope(|| ());
        match order["items"].as_u64() {
            Some(0) => (StatusCode::BAD_REQUEST, "no items".to_owned()),
            Some(items) if items < 100 => (StatusCode::CREATED, "thanks".to_owned()),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "too many".to_owned()),
        }
    }

    let collector = TestCollector::start();
    let router =
        Router::new().route("/shops/{shop}/orders", post(order)).layer(HttpServerLayer::new());
    let server =
        Service::named("orders", Backend::otlp_grpc(collector.grpc_endpoint())).serve(router);
    let caller = Service::named("gateway", Backend::otlp_http(collector.http_endpoint()));
    let statuses = caller.block_on(|| async {
        let client = HttpClient::new();
        let mut statuses = Vec::new();
        for items in [3, 0, 100] {
            let request = client.post(format!("http://{server}/shops/west/orders?trial=1"));
            let body = serde_json::json!({ "items": items });
            let response = request.json(&body).send().await.unwrap();
            statuses.push(response.status().as_u16());
            response.text().await.unwrap();
        }
        statuses
    });
    caller.deliver();
    assert_eq!(statuses, [201, 400, 500]);

    // Three requests of a client, a server and the handler's own span each.
    let spans = collector.wait_for_spans(9);
    assert_eq!(spans.len(), 9);
    for (code, client_fails, server_fails) in
        [(201_i64, false, false), (400, true, false), (500, true, true)]
    {
        let span = |kind| {
            let mut of_kind = spans.iter().filter(|span| {
                span.kind == kind
                    && span.attribute("http.response.status_code") == Some(&Value::Int(code))
            });
            let span = of_kind.next().unwrap_or_else(|| panic!("no {kind} span of {code}"));
            assert!(of_kind.next().is_none(), "two {kind} spans of {code}");
            span
        };
        let (client, server_span) = (span(SpanKind::Client), span(SpanKind::Server));
        assert_root(client);
        assert_child_of(server_span, client);
        assert_within(server_span, client);
        let own = spans.iter().find(|span| span.parent == Some(server_span.span_id)).unwrap();
        assert_eq!((own.name.as_str(), own.kind), ("PlaceOrder", SpanKind::Internal));

        assert_eq!((client.name.as_str(), client.service.as_str()), ("POST", "gateway"));
        assert_eq!(server_span.name, "POST /shops/{shop}/orders");
        assert_eq!(server_span.service, "orders");
        assert_attribute(server_span, "http.route", "/shops/{shop}/orders");
        assert_attribute(server_span, "url.path", "/shops/west/orders");
        assert_attribute(server_span, "url.query", "trial=1");
        assert_attribute(client, "url.full", format!("http://{server}/shops/west/orders?trial=1"));
        for (span, fails) in [(client, client_fails), (server_span, server_fails)] {
            assert_attribute(span, "http.request.method", "POST");
            assert_attribute(span, "server.address", "127.0.0.1");
            assert_attribute(span, "server.port", i64::from(server.port()));
            assert!(span.attribute("http.response.body.size").is_some());
            if fails {
                assert_error(span, &code.to_string());
                assert_eq!(span.status_message, "", "the code says it");
            } else {
                assert_eq!(span.status, SpanStatus::Unset);
                assert_no_attribute(span, "error.type");
            }
        }
    }
}
