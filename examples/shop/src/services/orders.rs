//! The orders: a traced pool, whose spans also tell of errors and transactions; a payment provider
//! that is slow at times; and, on purpose, a page that asks the database once for each order.

mod error;
mod payment;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use spanweave::db::pool::TracedPool;
use spanweave::http::client::HttpClient;
use sqlx::{Postgres, Sqlite};
use tracing::Span;

use super::BoxError;
use super::error::ApiError;
use crate::database::{self, Either, pool_options, with_pool};
use crate::protocol::ServiceConfig;
use error::OrderError;

/// 8 orders of two items for each of the users 1 to 5, and no rare book in stock. A table of
/// coupons is missing: orders with one fail.
const SCHEMA: &str = "
CREATE TABLE stock (item TEXT PRIMARY KEY, quantity BIGINT NOT NULL);
INSERT INTO stock (item, quantity)
VALUES ('teapot', 1000000000), ('lamp', 1000000000), ('chair', 1000000000), ('rare-book', 0);
CREATE TABLE orders (id {id}, user_id BIGINT NOT NULL, status TEXT NOT NULL);
CREATE TABLE order_items
    (id {id}, order_id BIGINT NOT NULL, item TEXT NOT NULL, quantity BIGINT NOT NULL);
CREATE INDEX orders_by_user ON orders (user_id);
CREATE INDEX order_items_by_order ON order_items (order_id);
INSERT INTO orders (user_id, status)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
SELECT 1 + (i - 1) % 5, 'paid' FROM n;
INSERT INTO order_items (order_id, item, quantity) SELECT id, 'teapot', 1 FROM orders;
INSERT INTO order_items (order_id, item, quantity) SELECT id, 'lamp', 2 FROM orders;
";

/// Joins without a condition, over the rows of the start only: a quarter of a million, always.
const SALES: &str = "
SELECT COUNT(*) FROM orders, order_items AS a, order_items AS b
WHERE orders.id <= 40 AND a.id <= 80 AND b.id <= 80";

type Pool = Either<TracedPool<Sqlite>, TracedPool<Postgres>>;

struct Orders {
    pool: Pool,
    client: HttpClient,
    users: String,
}

type Shared = State<Arc<Orders>>;

pub(super) async fn app(config: &ServiceConfig) -> Result<Router, BoxError> {
    let pool = match database::create(config, "orders", SCHEMA).await? {
        Either::Sqlite(options) => {
            Either::Sqlite(TracedPool::connect_with(pool_options(), options).await?)
        }
        Either::Postgres(options) => {
            Either::Postgres(TracedPool::connect_with(pool_options(), options).await?)
        }
    };
    let users = config.users.clone().ok_or("the orders need the users service")?;
    let orders = Orders { pool, client: super::client()?, users };
    Ok(Router::new()
        .route("/orders", post(place_order))
        .route("/users/{id}/orders", get(orders_of_user))
        .route("/reports/sales", get(sales_report))
        .with_state(Arc::new(orders)))
}

#[derive(Debug, Deserialize)]
struct NewOrder {
    user_id: i64,
    item: String,
    quantity: i64,
    /// What the payment provider gave for the card.
    card_token: String,
    coupon: Option<String>,
}

#[derive(Debug, Serialize)]
struct PlacedOrder {
    id: i64,
}

#[derive(Debug, Serialize)]
struct Order {
    id: i64,
    items: Vec<(String, i64)>,
}

#[derive(Debug, Serialize)]
struct SalesReport {
    pairs: i64,
}

async fn place_order(
    State(orders): Shared,
    Json(new): Json<NewOrder>,
) -> Result<(StatusCode, Json<PlacedOrder>), ApiError> {
    let id = orders.place(new).await?;
    Ok((StatusCode::CREATED, Json(PlacedOrder { id })))
}

async fn orders_of_user(
    State(orders): Shared,
    Path(user_id): Path<i64>,
) -> Result<Json<Vec<Order>>, ApiError> {
    Ok(Json(orders.list(user_id).await?))
}

async fn sales_report(State(orders): Shared) -> Result<Json<SalesReport>, ApiError> {
    Ok(Json(orders.sales().await?))
}

impl Orders {
    #[tracing::instrument(
        name = "PlaceOrder",
        skip_all,
        fields(user.id = new.user_id, order.item = new.item, order.quantity = new.quantity, order.id),
        err(Debug)
    )]
    async fn place(&self, new: NewOrder) -> Result<i64, OrderError> {
        self.find_user(new.user_id).await?;
        self.check_stock(&new).await?;
        if let Some(coupon) = &new.coupon {
            self.redeem(coupon).await?;
        }
        payment::process(&new.card_token, new.quantity).await?;
        let id = self.save(&new).await?;
        Span::current().record("order.id", id);
        tracing::info!(order.id = id, "order placed");
        Ok(id)
    }

    #[tracing::instrument(name = "FindUser", skip(self), fields(user.id = id), err(Debug))]
    async fn find_user(&self, id: i64) -> Result<(), OrderError> {
        let url = format!("{}/users/{id}", self.users);
        let response = self.client.get(url).url_template("/users/{id}").send().await?;
        match response.status() {
            StatusCode::NOT_FOUND => Err(OrderError::UnknownUser(id)),
            _ => {
                response.error_for_status()?.bytes().await?;
                Ok(())
            }
        }
    }

    #[tracing::instrument(name = "CheckStock", skip_all, fields(stock.quantity), err(Debug))]
    async fn check_stock(&self, new: &NewOrder) -> Result<(), OrderError> {
        const SELECT: &str = "SELECT quantity FROM stock WHERE item = $1";
        let row = with_pool!(&self.pool, pool => {
            pool.fetch_optional_as(sqlx::query_as::<_, (i64,)>(SELECT).bind(&new.item)).await
        })?;
        let quantity = row.map_or(0, |(quantity,)| quantity);
        Span::current().record("stock.quantity", quantity);
        if quantity < new.quantity { Err(OrderError::OutOfStock) } else { Ok(()) }
    }

    /// Fails: the table was forgotten.
    #[tracing::instrument(name = "RedeemCoupon", skip_all, err(Debug))]
    async fn redeem(&self, coupon: &str) -> Result<(), OrderError> {
        const UPDATE: &str = "UPDATE coupons SET used = 1 WHERE code = $1";
        with_pool!(&self.pool, pool => pool.execute(sqlx::query(UPDATE).bind(coupon)).await.map(drop))?;
        Ok(())
    }

    #[tracing::instrument(name = "SaveOrder", skip_all, err(Debug))]
    async fn save(&self, new: &NewOrder) -> Result<i64, OrderError> {
        // The write comes first: SQLite cannot turn a transaction that has read into one that
        // writes while another one does.
        const TAKE: &str =
            "UPDATE stock SET quantity = quantity - $1 WHERE item = $2 AND quantity >= $1";
        const ORDER: &str = "INSERT INTO orders (user_id, status) VALUES ($1, 'paid') RETURNING id";
        const ITEM: &str = "INSERT INTO order_items (order_id, item, quantity) VALUES ($1, $2, $3)";
        with_pool!(&self.pool, pool => {
            let mut transaction = pool.begin().await?;
            let taken = sqlx::query(TAKE).bind(new.quantity).bind(&new.item);
            if transaction.execute(taken).await?.rows_affected() == 0 {
                transaction.rollback().await?;
                return Err(OrderError::OutOfStock);
            }
            let order = sqlx::query_as::<_, (i64,)>(ORDER).bind(new.user_id);
            let (id,) = transaction.fetch_one_as(order).await?;
            let item = sqlx::query(ITEM).bind(id).bind(&new.item).bind(new.quantity);
            transaction.execute(item).await?;
            transaction.commit().await?;
            Ok(id)
        })
    }

    /// One statement for each order where one for all would do: what a trace shows at once.
    #[tracing::instrument(name = "ListOrders", skip(self), fields(user.id = user_id, orders.count), err(Debug))]
    async fn list(&self, user_id: i64) -> Result<Vec<Order>, OrderError> {
        const ORDERS: &str = "SELECT id FROM orders WHERE user_id = $1 ORDER BY id";
        const ITEMS: &str =
            "SELECT item, quantity FROM order_items WHERE order_id = $1 ORDER BY id";
        self.find_user(user_id).await?;
        let mut orders = Vec::new();
        with_pool!(&self.pool, pool => {
            let ids = sqlx::query_as::<_, (i64,)>(ORDERS).bind(user_id);
            for (id,) in pool.fetch_all_as(ids).await? {
                let items = sqlx::query_as::<_, (String, i64)>(ITEMS).bind(id);
                orders.push(Order { id, items: pool.fetch_all_as(items).await? });
            }
        });
        Span::current().record("orders.count", orders.len());
        Ok(orders)
    }

    #[tracing::instrument(name = "SalesReport", skip_all, err(Debug))]
    async fn sales(&self) -> Result<SalesReport, OrderError> {
        let (pairs,) = with_pool!(&self.pool, pool => {
            pool.fetch_one_as(sqlx::query_as::<_, (i64,)>(SALES)).await
        })?;
        Ok(SalesReport { pairs })
    }
}
