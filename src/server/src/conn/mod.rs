//! The connection loop: bytes of one client in, calls of a [`Service`] out, and back.
//!
//! One task drives each connection; each call is a task of its own, so that answers that become ready in one pass of the executor
//! leave in one write. Everything belongs to one executor (`!Send`) and is generic over the socket ([`tokio::io`]'s traits), over time
//! and tasks ([`Runtime`]) and over what answers ([`Service`]): the tests run it on in-memory pipes.
//!
//! | module | job |
//! |---|---|
//! | `sniff` | tells HTTP/2 from HTTP/1 by the first bytes |
//! | `grpc` | drives the h2 connection: accept, keepalive, drain, farewell |
//! | `call` | one call: head, message, deadline, handler |
//! | `streaming` | one streaming call: its messages and answers |
//! | `send` | the answer of a unary call |
//! | `room` | messages on their way out, with back-pressure |
//! | `lane` | bulk data takes turns, so that small messages don't wait for it |
//! | `stream_io` | the socket as h2 sees it: batched writes |
//! | `intake` | what is read: rationed, watched, authorities settled |
//! | `authority`, `huffman` | names of the server that h2 would refuse and etcd doesn't |
//! | `scan`, `keepalive`, `gate` | frame heads; ping policy and own pings; limits on bytes held |
//! | `registry`, `alarm` | open connections and their end; one timer per connection |
//! | `http1` | everything that is not gRPC |
//! | `metrics` | counters per executor |
//!
//! Invariants: no byte a client sends makes this panic; what one connection can make the server hold is bounded by [`ConnConfig`] and
//! the constants of `gate`, `lane`, `stream_io` and `intake`; a call that was counted as started is counted as handled exactly once.
//!
//! Nothing here is durable: a crash loses connections, and clients make new ones.

mod alarm;
mod authority;
mod call;
mod config;
mod gate;
mod grpc;
mod http1;
mod huffman;
mod intake;
mod keepalive;
mod lane;
mod metrics;
mod registry;
mod room;
mod runtime;
mod scan;
mod send;
mod server;
mod service;
mod sniff;
mod stream_io;
mod streaming;

pub use config::ConnConfig;
pub use metrics::{GrpcMetrics, GrpcTotals, MethodTotals};
pub use runtime::{EnvRuntime, Runtime};
pub use server::{ConnEnd, Server};
pub use service::Service;

#[cfg(test)]
mod tests;
