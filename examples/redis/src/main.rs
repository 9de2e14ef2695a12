//! A driver without any instrumentation, traced by one helper. Takes the server from `REDIS_URL`.

use std::error::Error;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Client, Cmd, FromRedisValue, RedisError};
use spanweave::{Backend, db};

/// The one place where commands are sent.
async fn send<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    words: &[&str],
) -> Result<T, RedisError> {
    let mut command = Cmd::new();
    for word in words {
        command.arg(*word);
    }
    // Values do not reach the span: only the operation and the key do.
    db::query("redis", &words.join(" "))
        .run_with_code(command.query_async(connection), |error| error.code().map(str::to_owned))
        .await
}

#[tracing::instrument(skip_all)]
async fn visits(connection: &mut MultiplexedConnection) -> Result<i64, RedisError> {
    send::<()>(connection, &["SET", "visits", "41", "EX", "60"]).await?;
    send(connection, &["INCR", "visits"]).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let telemetry = spanweave::builder()
        .service_name("redis-example")
        .export_to(Backend::console())
        .install()?;

    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1/".to_owned());
    let mut connection = Client::open(url)?.get_multiplexed_async_connection().await?;
    eprintln!("visits: {}", visits(&mut connection).await?);
    let wrong: Result<i64, _> = send(&mut connection, &["LPUSH", "visits", "x"]).await;
    eprintln!("visits is a list: {}", wrong.is_ok());

    let report = telemetry.shutdown_async(Duration::from_secs(5)).await;
    eprintln!("complete: {}", report.is_complete());
    Ok(())
}
