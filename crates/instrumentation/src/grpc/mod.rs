//! gRPC with tonic: tower layers for servers and clients, and its metadata as a carrier.
//!
//! ```
//! use spanweave_instrumentation::grpc::{GrpcClientLayer, GrpcServerLayer};
//! use tonic::transport::{Channel, Server};
//! use tower_layer::Layer;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let server = Server::builder().layer(GrpcServerLayer::new());
//! let endpoint = Channel::from_static("http://[::1]:50051");
//! let layer = GrpcClientLayer::new().destination(endpoint.uri().clone());
//! let channel = layer.layer(endpoint.connect_lazy()); // for `UsersClient::new(channel)`
//! # drop((server, channel));
//! # }
//! ```
//!
//! # What a span says
//! - The name is the method, `package.Service/Method`.
//! - `rpc.system.name` (`grpc`), `rpc.method`, `server.address`, `server.port` at the start;
//!   `rpc.response.status_code` and, of the same value, `rpc.status_code` (`OK`,
//!   `DEADLINE_EXCEEDED`, ...), `error.type` (the same, where it is an error),
//!   `spanweave.rpc.request.messages` and `spanweave.rpc.response.messages` (how many passed) later;
//!   on a client `service.peer.name` as well, where the server says it.
//! - The status is an error on a client for every code but `OK`; on a server for `UNKNOWN`,
//!   `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE` and `DATA_LOSS`: the other ones
//!   are the caller's.
//! - A method that a server does not have is foreign text: it is called `_OTHER`, and
//!   `rpc.method_original` says what was asked for.
//!
//! # When it ends
//! With the trailers. A stream that one side gives up before ends it as `CANCELLED`, without an
//! error, with `spanweave.outcome = "cancelled"`; a panic with `error.type = "panic"`.
//!
//! # Parents
//! On a server the caller's span, where the metadata names one, else the current span. A client's
//! metadata carries what the egress policy lets go to the host.

// Deciding.
mod code;
mod messages;

// One call, to its trailers.
mod call;

mod body;
mod client;
mod server;

use opentelemetry::Context;
use spanweave_core::propagation;
use tonic::metadata::MetadataMap;

pub use body::{CallBody, CallFuture};
pub use client::{GrpcClient, GrpcClientLayer};
pub use server::{GrpcServer, GrpcServerLayer};

/// Writes the context of the current span into metadata, unrestricted, as
/// [`propagation::inject`] does into headers. Under [`GrpcClientLayer`] nobody needs it.
pub fn inject(metadata: &mut MetadataMap) {
    propagation::inject(metadata.as_mut());
}

/// Reads the caller's context out of metadata. Under [`GrpcServerLayer`] nobody needs it.
pub fn extract(metadata: &MetadataMap) -> Context {
    propagation::extract(metadata.as_ref())
}
