//! A driver without any instrumentation, traced by one helper. Takes the server from `DATABASE_URL`.

use std::error::Error;
use std::time::Duration;

use spanweave::{Backend, db};
use tokio_postgres::config::Host;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row};

/// A client that knows where it is connected to.
struct Database {
    client: Client,
    host: String,
    port: u16,
    name: String,
}

impl Database {
    async fn connect(url: &str) -> Result<Self, Box<dyn Error>> {
        let config: Config = url.parse()?;
        let (client, connection) = config.connect(NoTls).await?;
        // The connection belongs to no request.
        tokio::spawn(connection);
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            _ => "localhost".to_owned(),
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let name = config.get_dbname().unwrap_or("postgres").to_owned();
        Ok(Self { client, host, port, name })
    }

    async fn query(
        &self,
        text: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        db::query("postgresql", text)
            .server(&self.host, self.port)
            .namespace(&self.name)
            .run_with_code(self.client.query(text, values), |error| {
                error.code().map(|state| state.code().to_owned())
            })
            .await
    }
}

#[tracing::instrument(skip_all)]
async fn greet(database: &Database) -> Result<String, tokio_postgres::Error> {
    let create = "CREATE TEMPORARY TABLE users (id int PRIMARY KEY, name text)";
    database.query(create, &[]).await?;
    database.query("INSERT INTO users VALUES ($1, $2)", &[&7, &"ada"]).await?;
    let rows = database.query("SELECT name FROM users WHERE id = 7", &[]).await?;
    rows.first().map_or(Ok(String::new()), |row| row.try_get(0))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let telemetry = spanweave::builder()
        .service_name("tokio-postgres-example")
        .export_to(Backend::console())
        .install()?;

    let url = std::env::var("DATABASE_URL")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
    let database = Database::connect(&url).await?;
    eprintln!("hello, {}", greet(&database).await?);
    let twice = database.query("INSERT INTO users VALUES ($1, $2)", &[&7, &"eve"]).await;
    eprintln!("the same id a second time: {}", twice.is_ok());

    let report = telemetry.shutdown_async(Duration::from_secs(5)).await;
    eprintln!("complete: {}", report.is_complete());
    Ok(())
}
