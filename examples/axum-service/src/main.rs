//! A service of two routes that is called, calls itself, and ends.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use spanweave::http::client::HttpClient;
use spanweave::http::server::HttpServerLayer;
use spanweave::{Backend, JoinSetExt};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

#[derive(Clone)]
struct Service {
    client: HttpClient,
    address: SocketAddr,
    receipts: Arc<Mutex<JoinSet<()>>>,
}

async fn order(State(service): State<Service>, Path(id): Path<u32>) -> Result<String, StatusCode> {
    let url = format!("http://{}/users/{id}", service.address);
    let response = service.client.get(url).url_template("/users/{id}").send().await;
    let response = response.and_then(|response| response.error_for_status());
    let user = match response {
        Ok(response) => response.text().await.map_err(|_| StatusCode::BAD_GATEWAY)?,
        Err(_) => return Err(StatusCode::BAD_GATEWAY),
    };
    // Work that outlives the request stays in its trace.
    let receipt = async move { tracing::info_span!("SendReceipt", order = id).in_scope(|| ()) };
    service.receipts.lock().await.spawn_carried(receipt);
    Ok(format!("order {id} of {user}"))
}

#[tracing::instrument]
async fn user(Path(id): Path<u32>) -> Result<&'static str, StatusCode> {
    match id {
        7 => Ok("ada"),
        _ => Err(StatusCode::NOT_FOUND),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let telemetry = spanweave::builder()
        .service_name("axum-service")
        .export_to(Backend::console())
        .baggage_attributes(["tenant"])
        .install()?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let service = Service {
        client: HttpClient::new(),
        address: listener.local_addr()?,
        receipts: Arc::default(),
    };
    let layer = HttpServerLayer::new()
        .trusted_proxies(["127.0.0.0/8"])?
        .capture_request_headers(["x-tenant"])
        .trace_in_response(true);
    let app = Router::new()
        .route("/orders/{id}", get(order))
        .route("/users/{id}", get(user))
        .layer(layer)
        .with_state(service.clone())
        .into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });

    // Somebody from outside, behind a proxy.
    let outside = reqwest::Client::new();
    for id in [7, 8] {
        let response = outside
            .get(format!("http://{}/orders/{id}", service.address))
            .header("x-forwarded-for", "203.0.113.9")
            .header("x-tenant", "acme")
            .header("baggage", "tenant=acme")
            .send()
            .await?;
        let trace = response.headers().contains_key("traceparent");
        let status = response.status();
        eprintln!("{status} with a traceparent: {trace}: {:?}", response.text().await?);
    }

    // What is still open when the telemetry ends is lost.
    while service.receipts.lock().await.join_next().await.is_some() {}
    let report = telemetry.shutdown_async(Duration::from_secs(5)).await;
    eprintln!("complete: {}", report.is_complete());
    Ok(())
}
