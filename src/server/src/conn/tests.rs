//! The connection loop on in-memory pipes, against the h2 crate's client and against raw bytes.

mod authority;
mod bulk;
mod client;
mod hostile;
mod http1;
mod pressure;
mod rig;
mod streaming;
mod times;
mod unary;
