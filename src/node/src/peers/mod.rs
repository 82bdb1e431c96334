//! What members say to each other: frames on three connections for each pair of members, see `docs/format/peers.md`.
//!
//! Invariant: nothing that a peer sends is believed before its checksum, its lengths and its kind are known to be right; a frame that
//! isn't closes the connection.

mod census;
mod frame;
mod handshake;
mod leases;
mod membership;
mod message;
mod ping;
mod snapshots;

pub use census::{decode_census, encode_census};
pub use frame::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameError, FrameHeader};
pub use handshake::{HANDSHAKE_BYTES, Hello, PROTOCOL_VERSION, Purpose, Refused, Welcome};
pub use leases::{LeaseAnswer, LeaseFrame, is_about_leases};
pub use membership::{MembershipFrame, is_about_members};
pub use message::{decode, encode};
pub use ping::Ping;
pub use snapshots::{Content, Ending, OpenPart, Place, RANGES_MAX, SnapshotFrame, SnapshotRecord, is_about_snapshots};
