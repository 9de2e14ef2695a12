//! Which database, where.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sqlx::{ConnectOptions, Connection, Database};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// `db.system.name`.
    pub(super) system: Cow<'static, str>,
    /// `db.namespace`.
    pub(super) namespace: Option<String>,
    /// `server.address`.
    pub(super) address: Option<String>,
    /// `server.port`.
    pub(super) port: Option<u16>,
}

impl Target {
    pub(super) fn of<DB: Database>(options: &<DB::Connection as Connection>::Options) -> Self {
        // Building the URL is optional for a driver, and fails by a panic.
        let url = catch_unwind(AssertUnwindSafe(|| options.to_url_lossy())).ok();
        let system = system(DB::NAME, url.as_ref().map_or("", |url| url.scheme()));
        let mut target = Self { system: Cow::Borrowed(system), ..Self::default() };
        // The URL of SQLite is a path.
        if let Some(url) = url.filter(|_| system != "sqlite") {
            // A percent-encoded host is the path of a socket.
            target.address = url
                .host_str()
                .filter(|host| !host.contains('%'))
                .map(|host| host.trim_start_matches('[').trim_end_matches(']').to_owned());
            target.port = target
                .address
                .as_ref()
                .and(url.port())
                .or_else(|| target.address.as_ref().and(default_port(system)));
            let database = url.path().trim_start_matches('/');
            target.namespace = (!database.is_empty()).then(|| database.to_owned());
        }
        target
    }
}

fn system(driver: &str, scheme: &str) -> &'static str {
    match (driver, scheme) {
        ("PostgreSQL", _) | (_, "postgres" | "postgresql") => "postgresql",
        (_, "mariadb") => "mariadb",
        ("MySQL", _) | (_, "mysql") => "mysql",
        ("SQLite", _) | (_, "sqlite") => "sqlite",
        _ => "other_sql",
    }
}

fn default_port(system: &str) -> Option<u16> {
    match system {
        "postgresql" => Some(5432),
        "mysql" | "mariadb" => Some(3306),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_that_of_the_options() {
        use sqlx::{Postgres, Sqlite};
        let of = |url: &str| Target::of::<Postgres>(&url.parse().unwrap());
        let target = of("postgres://user:secret@db.example/shop");
        assert_eq!(target.system, "postgresql");
        assert_eq!(target.namespace.as_deref(), Some("shop"));
        assert_eq!((target.address.as_deref(), target.port), (Some("db.example"), Some(5432)));
        assert_eq!(of("postgres://[::1]:7/shop").address.as_deref(), Some("::1"));
        assert_eq!(of("postgres:///shop?host=/run/postgresql").address, None);
        let target = Target::of::<Sqlite>(&"sqlite:shop.db".parse().unwrap());
        assert_eq!((target.system.as_ref(), target.namespace), ("sqlite", None));
        assert_eq!((target.address, target.port), (None, None));
    }

    #[test]
    fn a_mysql_server_is_described_too() {
        use sqlx::MySql;
        let target = Target::of::<MySql>(&"mysql://user:secret@db.example/shop".parse().unwrap());
        assert_eq!(target.system, "mysql");
        assert_eq!(target.namespace.as_deref(), Some("shop"));
        assert_eq!((target.address.as_deref(), target.port), (Some("db.example"), Some(3306)));
    }

    #[test]
    fn the_system_is_the_drivers_else_the_urls() {
        assert_eq!(system("PostgreSQL", ""), "postgresql");
        assert_eq!(system("SQLite", ""), "sqlite");
        assert_eq!(system("Any", "mysql"), "mysql");
        assert_eq!(system("Any", "oracle"), "other_sql");
    }
}
