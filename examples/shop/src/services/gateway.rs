//! The gateway: passes requests on, and puts one page together from two services. Not one span of
//! it is written by hand.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use spanweave::http::client::{HttpClient, RequestBuilder};

use super::BoxError;
use super::error::ApiError;
use crate::protocol::ServiceConfig;

struct Gateway {
    client: HttpClient,
    users: String,
    orders: String,
}

type Shared = State<Arc<Gateway>>;

pub(super) fn app(config: &ServiceConfig) -> Result<Router, BoxError> {
    let gateway = Gateway {
        client: super::client()?,
        users: config.users.clone().ok_or("the gateway needs the users service")?,
        orders: config.orders.clone().ok_or("the gateway needs the orders service")?,
    };
    Ok(Router::new()
        .route("/users", post(create_user))
        .route("/users/{id}", get(user))
        .route("/users/{id}/orders", get(orders_of_user))
        .route("/users/{id}/dashboard", get(dashboard))
        .route("/orders", post(place_order))
        .route("/reports/sales", get(sales_report))
        .with_state(Arc::new(gateway)))
}

async fn create_user(State(gateway): Shared, Json(user): Json<Value>) -> Result<Reply, ApiError> {
    let url = format!("{}/users", gateway.users);
    call(gateway.client.post(url).url_template("/users").json(&user)).await
}

async fn user(State(gateway): Shared, Path(id): Path<i64>) -> Result<Reply, ApiError> {
    gateway.user(id).await
}

async fn orders_of_user(State(gateway): Shared, Path(id): Path<i64>) -> Result<Reply, ApiError> {
    gateway.orders_of_user(id).await
}

/// Both parts at the same time.
async fn dashboard(State(gateway): Shared, Path(id): Path<i64>) -> Result<Reply, ApiError> {
    let (user, orders) = tokio::join!(gateway.user(id), gateway.orders_of_user(id));
    let (user, orders) = (user?, orders?);
    let failed = [&user, &orders].into_iter().find(|part| !part.status.is_success());
    let status = failed.map_or(StatusCode::OK, |part| part.status);
    Ok(Reply { status, body: json!({ "user": user.body, "orders": orders.body }) })
}

async fn place_order(State(gateway): Shared, Json(order): Json<Value>) -> Result<Reply, ApiError> {
    let url = format!("{}/orders", gateway.orders);
    call(gateway.client.post(url).url_template("/orders").json(&order)).await
}

async fn sales_report(State(gateway): Shared) -> Result<Reply, ApiError> {
    let url = format!("{}/reports/sales", gateway.orders);
    call(gateway.client.get(url).url_template("/reports/sales")).await
}

impl Gateway {
    async fn user(&self, id: i64) -> Result<Reply, ApiError> {
        let url = format!("{}/users/{id}", self.users);
        call(self.client.get(url).url_template("/users/{id}")).await
    }

    async fn orders_of_user(&self, id: i64) -> Result<Reply, ApiError> {
        let url = format!("{}/users/{id}/orders", self.orders);
        call(self.client.get(url).url_template("/users/{id}/orders")).await
    }
}

/// What a service said, for the client.
struct Reply {
    status: StatusCode,
    body: Value,
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

async fn call(request: RequestBuilder) -> Result<Reply, ApiError> {
    let answer = async {
        let response = request.send().await?;
        let status = response.status();
        Ok(Reply { status, body: response.json().await? })
    };
    answer.await.map_err(|error: reqwest::Error| {
        tracing::warn!(%error, "a service does not answer");
        ApiError::upstream()
    })
}
