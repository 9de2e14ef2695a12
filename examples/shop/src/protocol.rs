//! What the parent and its services tell each other: a JSON value a line, over the services'
//! standard input and output.
//!
//! The first line to a service is its [`ServiceConfig`], the next ones are [`Command`]s; the end of
//! its input tells it to stop, so that no service outlives its parent. A service answers with
//! [`Report`]s: first [`Report::Ready`] or [`Report::Failed`], one for each command, and last
//! a [`Report::Ledger`].

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Users,
    Orders,
    Gateway,
}

impl Service {
    /// Each after those that it calls.
    pub(crate) const ALL: [Self; 3] = [Self::Users, Self::Orders, Self::Gateway];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Orders => "orders",
            Self::Gateway => "gateway",
        }
    }
}

/// All that a service has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServiceConfig {
    pub(crate) out: PathBuf,
    /// The embedded collector.
    pub(crate) collector_grpc: String,
    pub(crate) collector_http: String,
    pub(crate) otlp: Vec<String>,
    pub(crate) jaeger: Vec<String>,
    /// A PostgreSQL URL; without it the service has a SQLite file in `out`.
    pub(crate) database_url: Option<String>,
    /// Base URLs of the services that it calls.
    pub(crate) users: Option<String>,
    pub(crate) orders: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// Deliver all spans; answered with [`Report::Ledger`].
    Flush,
    /// Take no more requests and finish those under way; answered with [`Report::Drained`].
    Drain,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    Ready { address: SocketAddr, metrics: SocketAddr },
    Failed { error: String },
    Drained,
    Ledger(Vec<BackendLine>),
}

/// What became of one service's spans at one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackendLine {
    pub(crate) name: String,
    pub(crate) delivered: u64,
    pub(crate) dropped: u64,
    pub(crate) pending: u64,
    pub(crate) last_error: Option<String>,
}
