//! The layout of the log on disk, written once: `docs/format/log.md` is held to it by a test.
//!
//! A segment is a file of fixed size. It holds batches, one after the other, each padded to whole blocks. A batch is a header
//! and a payload of records. All integers are little-endian; nothing is aligned inside a payload.
//!
//! Invariant: a batch header lies in the first 512 bytes of a block, so that a device writes it whole or not at all.

use plinth_base::{BLOCK_BYTES, limits::GROUPS_PER_SHARD_MAX};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// The first bytes of every batch.
pub(crate) const MAGIC: [u8; 8] = *b"plinthWL";

/// The one format version that this code reads and writes.
pub(crate) const FORMAT_VERSION: u16 = 1;

/// The batch is the first of its segment: a chain record and a state record per group, nothing else.
pub(crate) const FLAG_START: u16 = 1;

/// The batch is empty and says that the one before it is durable.
pub(crate) const FLAG_SEAL: u16 = 2;

/// Block size as the format's own unit.
pub(crate) const BLOCK: u64 = BLOCK_BYTES as u64;

/// A field of a layout, as the format page shows it.
#[cfg(test)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
    pub(crate) meaning: &'static str,
}

macro_rules! layout {
    ($(#[$doc:meta])* $name:ident { $($(#[doc = $meaning:literal])+ $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub(crate) struct $name {
            $($(#[doc = $meaning])+ pub(crate) $field: $ty,)*
        }

        #[cfg(test)]
        impl $name {
            pub(crate) const FIELDS: &'static [Field] = &[$(Field {
                name: stringify!($field),
                offset: std::mem::offset_of!($name, $field),
                bytes: size_of::<$ty>(),
                meaning: concat!($($meaning,)+),
            },)*];
        }
    };
}

layout! {
    /// Stands before every batch.
    BatchHeader {
        /// `plinthWL`
        magic: [u8; 8],
        /// CRC32C of everything behind this field up to the payload's end, seeded with the nonce's halves xored
        checksum: U32,
        /// 1
        version: U16,
        /// 1 = start, 2 = seal
        flags: U16,
        /// length of the payload; what follows up to the block's end is zero
        payload_bytes: U32,
        /// length of the whole batch, header included, in blocks of 4096 bytes
        blocks: U32,
        /// how many records the payload holds
        records: U32,
        /// 0
        reserved: U32,
        /// the segment's nonce, drawn anew for each use of a file
        nonce: U64,
        /// the segment's sequence, as in the file's name
        segment: U64,
        /// the batch's sequence, one more than that of the batch before it, over all segments
        sequence: U64,
        /// highest sequence known to be durable when this batch was written
        durable: U64,
    }
}

layout! {
    /// A raft entry, or a part of one; its bytes follow.
    EntryRecord {
        /// 1
        kind: u8,
        /// 0 = whole, 1 = first, 2 = middle, 3 = last part
        part: u8,
        /// 1 = the entry changes the members
        flags: U16,
        /// group
        group: U32,
        /// the entry's index; one not above the group's last replaces that entry and all behind it
        index: U64,
        /// the entry's term
        term: U64,
        /// the term of the entry before it, which may lie in a segment that is gone
        previous_term: U64,
        /// how many bytes follow
        bytes: U32,
        /// length of the entry, all parts together
        total_bytes: U32,
    }
}

layout! {
    /// A group's new hard state.
    HardStateRecord {
        /// 2
        kind: u8,
        /// 1 = there is a vote, 0 = none
        voted: u8,
        /// 1 = the end of the member's log was cut, and it hasn't caught up since
        doubtful: U16,
        /// group
        group: U32,
        /// term
        term: U64,
        /// the member voted for in this term
        vote: U64,
        /// commit index
        commit: U64,
    }
}

layout! {
    /// A group's log starts anew: what it held before is void.
    GroupStartRecord {
        /// 3
        kind: u8,
        /// 0
        reserved: u8,
        /// 0
        reserved_too: U16,
        /// group
        group: U32,
        /// the log begins behind this index
        index: U64,
        /// and this term
        term: U64,
    }
}

layout! {
    /// First record of a segment: its place in the chain.
    ChainRecord {
        /// 4
        kind: u8,
        /// 1 = the next batch goes on with an entry whose first part lies in an earlier segment
        split: u8,
        /// 0
        reserved: U16,
        /// how many group state records follow
        groups: U32,
        /// length of this file
        segment_bytes: U64,
        /// the nonce that the next segment will have
        next_nonce: U64,
        /// sequence of the segment before, 0 if there was none
        previous_segment: U64,
        /// its nonce
        previous_nonce: U64,
        /// sequence of its last batch; anything behind that was cut
        previous_sequence: U64,
        /// offset of the end of that batch
        previous_end: U64,
    }
}

layout! {
    /// Where a group stood when the segment began.
    GroupStateRecord {
        /// 5
        kind: u8,
        /// 1 = there is a vote, 0 = none
        voted: u8,
        /// 1 = the end of the member's log was cut, and it hasn't caught up since
        doubtful: U16,
        /// group
        group: U32,
        /// term
        term: U64,
        /// the member voted for in this term
        vote: U64,
        /// commit index
        commit: U64,
        /// the log begins behind this index
        start_index: U64,
        /// and this term
        start_term: U64,
        /// index of the last entry
        last_index: U64,
        /// and its term
        last_term: U64,
    }
}

/// Flag of an entry: it changes the members.
pub(crate) const ENTRY_CHANGE: u16 = 1;

pub(crate) const KIND_ENTRY: u8 = 1;
pub(crate) const KIND_HARD_STATE: u8 = 2;
pub(crate) const KIND_GROUP_START: u8 = 3;
pub(crate) const KIND_CHAIN: u8 = 4;
pub(crate) const KIND_GROUP_STATE: u8 = 5;

pub(crate) const HEADER_BYTES: usize = size_of::<BatchHeader>();
pub(crate) const ENTRY_BYTES: usize = size_of::<EntryRecord>();

/// The largest start batch: every group a shard can carry, in whole blocks.
pub(crate) const START_BYTES_MAX: usize =
    (HEADER_BYTES + size_of::<ChainRecord>() + GROUPS_PER_SHARD_MAX * size_of::<GroupStateRecord>())
        .next_multiple_of(BLOCK_BYTES);

/// How much of a block must arrive whole for a header to be whole.
const SECTOR_BYTES: usize = 512;
const _: () = assert!(HEADER_BYTES <= SECTOR_BYTES);
const _: () = assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));

impl BatchHeader {
    /// The header at the start of `bytes`, whatever it holds.
    pub(crate) fn peek(bytes: &[u8]) -> Option<Self> {
        Self::read_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    /// Length of the batch in bytes.
    pub(crate) fn batch_bytes(&self) -> u64 {
        u64::from(self.blocks.get()) * BLOCK
    }

    /// Whether the lengths agree with each other and with the room up to `room_bytes`.
    pub(crate) fn lengths_fit(&self, room_bytes: u64) -> bool {
        let used = HEADER_BYTES as u64 + u64::from(self.payload_bytes.get());
        used.next_multiple_of(BLOCK) == self.batch_bytes() && self.batch_bytes() <= room_bytes
    }
}

/// The checksum of a batch whose header and payload are `batch`, in a segment with `nonce`.
///
/// The seed makes batches of a file's former life, and bytes of a client that look like a batch, fail the check.
pub(crate) fn batch_checksum(nonce: u64, batch: &[u8]) -> u32 {
    let seed = (nonce as u32) ^ ((nonce >> 32) as u32);
    plinth_base::crc32c(seed, &batch[std::mem::offset_of!(BatchHeader, version)..])
}

#[cfg(test)]
mod tests;
