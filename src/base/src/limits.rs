//! Limits that more than one crate must agree on. Their relations are asserted at compile time.

/// The largest batch the write-ahead log writes at once, headers included, in bytes.
pub const WAL_BATCH_BYTES_MAX: usize = 512 << 10;

/// The largest single read or write handed to a device, in bytes.
pub const IO_BYTES_MAX: usize = 512 << 10;

/// Groups one shard can carry.
pub const GROUPS_PER_SHARD_MAX: usize = 64;

/// How many messages a mailbox holds; full is an answer ("too many requests"), never a wait.
pub const MAILBOX_MESSAGES_MAX: usize = 16 << 10;

const _: () = assert!(WAL_BATCH_BYTES_MAX <= IO_BYTES_MAX);
const _: () = assert!(WAL_BATCH_BYTES_MAX.is_multiple_of(crate::BLOCK_BYTES));
const _: () = assert!(IO_BYTES_MAX.is_multiple_of(crate::BLOCK_BYTES));

/// URLs that one member can have, of each kind.
pub const URLS_MAX: usize = 64;

/// Members that a group can have: all of them fit the state record of a root.
pub const MEMBERS_MAX: usize = 16;
