//! Why an order is not placed.

use std::fmt;

use axum::http::StatusCode;

use super::payment::PaymentError;
use crate::services::error::ApiError;

/// Its variants are the `error.type` of spans.
#[derive(Debug)]
pub(super) enum OrderError {
    UnknownUser(i64),
    OutOfStock,
    Payment(PaymentError),
    Users(reqwest::Error),
    Database(sqlx::Error),
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownUser(id) => write!(f, "there is no user {id}"),
            Self::OutOfStock => f.write_str("not enough of it is in stock"),
            Self::Payment(error) => write!(f, "no payment: {error}"),
            Self::Users(_) => f.write_str("the users service does not answer"),
            Self::Database(_) => f.write_str("the database failed"),
        }
    }
}

impl std::error::Error for OrderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::UnknownUser(_) | Self::OutOfStock => None,
            Self::Payment(error) => Some(error),
            Self::Users(error) => Some(error),
            Self::Database(error) => Some(error),
        }
    }
}

impl From<PaymentError> for OrderError {
    fn from(error: PaymentError) -> Self {
        Self::Payment(error)
    }
}

impl From<reqwest::Error> for OrderError {
    fn from(error: reqwest::Error) -> Self {
        Self::Users(error)
    }
}

impl From<sqlx::Error> for OrderError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<OrderError> for ApiError {
    fn from(error: OrderError) -> Self {
        let status = match &error {
            OrderError::UnknownUser(_) => StatusCode::NOT_FOUND,
            OrderError::OutOfStock => StatusCode::CONFLICT,
            OrderError::Payment(PaymentError::Declined) => StatusCode::PAYMENT_REQUIRED,
            OrderError::Payment(PaymentError::Timeout) => StatusCode::GATEWAY_TIMEOUT,
            OrderError::Users(_) => return Self::upstream(),
            OrderError::Database(_) => return Self::internal(),
        };
        Self::new(status, error.to_string())
    }
}
