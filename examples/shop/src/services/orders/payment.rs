//! A payment provider that exists here only.

use std::fmt;
use std::time::Duration;

use spanweave::SpanExt;
use tracing::Span;

/// What the provider takes for a quantity.
const PER_PIECE: Duration = Duration::from_millis(4);

/// How long a payment may take.
const TIMEOUT: Duration = Duration::from_millis(250);

/// What a payment fails with; its path is the `error.type`.
#[derive(Debug)]
pub(super) enum PaymentError {
    Declined,
    Timeout,
}

impl fmt::Display for PaymentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Declined => "the card was declined",
            Self::Timeout => "the payment provider did not answer in time",
        })
    }
}

impl std::error::Error for PaymentError {}

/// One measured operation that records the error it ends with, type and all.
pub(super) async fn process(card_token: &str, quantity: i64) -> Result<(), PaymentError> {
    spanweave::traced("ProcessPayment", async {
        let span = Span::current();
        // `token` is a sensitive word: no backend ever sees this value.
        span.set_attribute("payment.card_token", card_token.to_owned());
        span.set_attribute("payment.provider", "example-pay");
        let pieces = u32::try_from(quantity.clamp(1, 10)).unwrap_or(1);
        match card_token {
            "tok_slow" => {
                tokio::time::sleep(TIMEOUT).await;
                Err(PaymentError::Timeout)
            }
            "tok_declined" => {
                tokio::time::sleep(PER_PIECE).await;
                Err(PaymentError::Declined)
            }
            _ => {
                tokio::time::sleep(PER_PIECE * pieces).await;
                tracing::info!(payment.pieces = pieces, "payment accepted");
                Ok(())
            }
        }
    })
    .await
}
