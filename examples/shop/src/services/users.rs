//! The users: plain sqlx, whose own query events become the database spans.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use opentelemetry::{Array, StringValue, Value};
use serde::{Deserialize, Serialize};
use spanweave::SpanExt;
use sqlx::{PgPool, SqlitePool};
use tracing::Span;

use super::BoxError;
use super::error::ApiError;
use crate::database::{self, Either, pool_options, with_pool};
use crate::protocol::ServiceConfig;

/// 20 users to begin with.
const SCHEMA: &str = "
CREATE TABLE users (id {id}, name TEXT NOT NULL, email TEXT NOT NULL);
INSERT INTO users (name, email)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
SELECT 'User ' || i, 'user' || i || '@example.com' FROM n;
";

type Pool = Either<SqlitePool, PgPool>;

struct Users {
    pool: Pool,
}

type Shared = State<Arc<Users>>;

pub(super) async fn app(config: &ServiceConfig) -> Result<Router, BoxError> {
    let pool = match database::create(config, "users", SCHEMA).await? {
        Either::Sqlite(options) => Either::Sqlite(pool_options().connect_with(options).await?),
        Either::Postgres(options) => Either::Postgres(pool_options().connect_with(options).await?),
    };
    Ok(Router::new()
        .route("/users", post(create_user))
        .route("/users/{id}", get(get_user))
        .with_state(Arc::new(Users { pool })))
}

#[derive(Debug, Deserialize)]
struct NewUser {
    name: String,
    email: String,
}

#[derive(Debug, Serialize)]
struct User {
    id: i64,
    name: String,
    email: String,
}

async fn create_user(
    State(users): Shared,
    Json(new): Json<NewUser>,
) -> Result<(StatusCode, Json<User>), ApiError> {
    Ok((StatusCode::CREATED, Json(users.create(new).await?)))
}

async fn get_user(State(users): Shared, Path(id): Path<i64>) -> Result<Json<User>, ApiError> {
    Ok(Json(users.get(id).await?))
}

impl Users {
    #[tracing::instrument(name = "CreateUser", skip_all, fields(user.id), err(Debug))]
    async fn create(&self, new: NewUser) -> Result<User, UserError> {
        validate(&new)?;
        let user = self.insert(new).await?;
        Span::current().record("user.id", user.id);
        tracing::info!(user.id, "user created");
        Ok(user)
    }

    #[tracing::instrument(name = "InsertUser", skip_all, err(Debug))]
    async fn insert(&self, new: NewUser) -> Result<User, UserError> {
        const INSERT: &str = "INSERT INTO users (name, email) VALUES ($1, $2) RETURNING id";
        let NewUser { name, email } = new;
        let (id,) = with_pool!(&self.pool, pool => sqlx::query_as::<_, (i64,)>(INSERT)
            .bind(&name)
            .bind(&email)
            .fetch_one(pool)
            .await)?;
        Ok(User { id, name, email })
    }

    #[tracing::instrument(name = "GetUser", skip(self), fields(user.id = id), err(Debug))]
    async fn get(&self, id: i64) -> Result<User, UserError> {
        const SELECT: &str = "SELECT id, name, email FROM users WHERE id = $1";
        let row = with_pool!(&self.pool, pool => {
            sqlx::query_as::<_, (i64, String, String)>(SELECT).bind(id).fetch_optional(pool).await
        })?;
        let (id, name, email) = row.ok_or(UserError::NotFound(id))?;
        Ok(User { id, name, email })
    }
}

/// Says all that is wrong, not only the first thing.
#[tracing::instrument(name = "ValidateUser", skip_all, fields(validation.error_count), err(Debug))]
fn validate(new: &NewUser) -> Result<(), UserError> {
    let mut errors = Vec::new();
    if new.name.trim().is_empty() {
        errors.push("name is empty".to_owned());
    }
    if !new.email.contains('@') {
        errors.push("email has no @".to_owned());
    }
    if new.email.len() > 254 {
        errors.push("email is longer than 254 characters".to_owned());
    }
    let span = Span::current();
    span.record("validation.error_count", errors.len());
    if errors.is_empty() {
        return Ok(());
    }
    span.set_attribute("validation.errors", list(&errors));
    Err(UserError::Invalid(errors))
}

fn list(texts: &[String]) -> Value {
    let texts = texts.iter().map(|text| StringValue::from(text.clone())).collect();
    Value::Array(Array::String(texts))
}

/// Its variants are the `error.type` of spans.
#[derive(Debug)]
enum UserError {
    Invalid(Vec<String>),
    NotFound(i64),
    Database(sqlx::Error),
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(errors) => write!(f, "the user is invalid: {}", errors.join(", ")),
            Self::NotFound(id) => write!(f, "there is no user {id}"),
            Self::Database(_) => f.write_str("the database failed"),
        }
    }
}

impl std::error::Error for UserError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Database(error) => Some(error),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for UserError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<UserError> for ApiError {
    fn from(error: UserError) -> Self {
        match error {
            UserError::Invalid(errors) => Self::invalid(errors),
            UserError::NotFound(_) => Self::not_found(error.to_string()),
            UserError::Database(_) => Self::internal(),
        }
    }
}
