//! Listening sockets, one per executor, and the connections they accept.
//!
//! Invariants: a port belongs to this process alone; a connection is owned from the moment it is accepted, by the executor that
//! accepted it, and stays there.

mod bind;
mod connection;

pub use bind::{ListenAddr, ListenError, Listeners};
pub use connection::{Connection, Listener, Peer};

#[cfg(test)]
mod tests;
