//! Sending one request and understanding its answer.

mod endpoint;
mod text;

mod headers;
mod tls;

mod body;
mod connect;

mod client;

pub(crate) use client::{Attempt, Client, ClientConfig};
pub(crate) use endpoint::{
    Endpoint, Protocol, parse_grpc, parse_http_base, parse_http_url, parse_jaeger,
};
pub(crate) use headers::HeaderSource;
pub(crate) use text::{printable, redact};
pub(crate) use tls::{Tls, TlsProblem};
