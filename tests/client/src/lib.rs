//! A small gRPC client for tests and load: the `h2` crate on a current-thread tokio runtime, nothing generated.
//!
//! It sends exactly the bytes it is given, malformed ones included, and reports exactly the status that came back. One
//! [`Client`] is one connection; clones share it, and any number of calls may be under way on it.

mod call;
mod client;
mod http1;
mod kv;
mod status;
mod stream;

pub use call::{Call, GRPC_PREFIX_BYTES, frame};
pub use client::{Client, Incoming};
pub use http1::{HttpResponse, http_request};
pub use status::{Code, Status};
pub use stream::Stream;
