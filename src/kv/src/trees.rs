//! The trees of a group's file. Their names and their order are part of the file: it is refused if they differ.

use plinth_base::codec::varint_len;
use plinth_tree::{TreeId, TreeSpec};

use crate::record;

/// User key → newest version. Its weight is the size of the key's entry in a range reply.
pub const LIVE: TreeId = TreeId(0);
/// (epoch of the revision that ended it, user key, revision) → superseded version, and the revision that ended it.
pub const PAST: TreeId = TreeId(1);
/// Revision → operation, user key, revision before.
pub const LOG: TreeId = TreeId(2);
/// Leases, the keys attached to them, and their order by TTL.
pub const LEASE: TreeId = TreeId(3);
/// Member id → name and URLs.
pub const MEMBER: TreeId = TreeId(4);

/// All trees, in the order of their ids.
pub const TREES: &[TreeSpec] = &[
    TreeSpec { name: "live", weigh: reply_bytes },
    TreeSpec { name: "past", weigh: stored_bytes },
    TreeSpec { name: "log", weigh: stored_bytes },
    TreeSpec { name: "lease", weigh: stored_bytes },
    TreeSpec { name: "member", weigh: stored_bytes },
];

/// Bytes that a live key takes in a `RangeResponse`: tag and length of the `kvs` element, and the message itself.
#[must_use]
pub fn reply_bytes(key_bytes: usize, head: &[u8], value_bytes: usize) -> u64 {
    let message = record::message_bytes(key_bytes, head.len(), value_bytes) as u64;
    1 + varint_len(message) as u64 + message
}

fn stored_bytes(key_bytes: usize, head: &[u8], body_bytes: usize) -> u64 {
    (key_bytes + head.len() + body_bytes) as u64
}
