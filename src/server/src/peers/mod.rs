//! The way to the other members: connections of the peer protocol (`docs/format/peers.md`), made, kept and made again.
//!
//! For each lane of each peer this member connects and *sends*; what it *receives* comes on the connections that the peer makes. So each side tries the
//! URLs that it knows, and a broken connection concerns one direction of one lane. All of it runs on the executor of the shard.
//!
//! Invariants: an outbox is bounded, and what finds no room is refused at once; frames that came on a connection are never handed on after those of a
//! later one of that lane; nothing is believed of who doesn't name this cluster and this member.

mod accept;
mod census;
mod counts;
mod introduction;
mod lane;
mod network;

pub use census::{Census, census};
pub use counts::{AllCounts, PeerCounts, PeerFigures};
pub use network::{Dial, Me, Network};

#[cfg(test)]
mod tests;
