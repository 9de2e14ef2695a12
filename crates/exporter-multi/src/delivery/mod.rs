//! Deciding what becomes of a request. Pure: values in, values out, time and chance passed in.

pub(crate) mod wire;

mod response;
mod retry_after;

mod backoff;
mod classify;

pub use backoff::RetryPolicy;
pub(crate) use classify::{GrpcReply, HttpReply, Verdict, grpc, http};
pub(crate) use response::ReplyBody;
pub(crate) use retry_after::retry_after;
