//! HTTP/2 and gRPC, as small as measuring wants them.
//!
//! A load that costs more than the server that it loads measures itself. A request through the `h2` crate and tokio takes several times what it
//! takes here, where one thread reads what has come on a connection, understands all of it, and sends all that follows in one call of the kernel
//! (docs/decisions/load-client.md). It speaks plain text only, never compresses, and trusts the server as far as a measuring client may: broken
//! frames end the connection with a reason.
//!
//! | module | job |
//! |---|---|
//! | `frame` | frames |
//! | `hpack`, `huffman` | headers |
//! | `events` | what came: messages and ends of calls |
//! | `connection` | one connection, bytes in and bytes out |
//! | `socket` | connections with their sockets, and the wait for all of them |

mod connection;
mod events;
mod frame;
mod hpack;
mod huffman;
mod socket;

pub use events::{Event, Events, Status, What};
pub use socket::Sockets;
