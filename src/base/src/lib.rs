//! What every other crate of plinth may use: ids, time, aligned memory, checksums, bounded queues,
//! the deterministic random generator, limits, log lines, metric cells, the marks that the simulator counts, and the known bugs of
//! test builds.
//!
//! Invariant: nothing here does I/O, reads a clock or knows raft, etcd or a file format.

pub mod aligned;
pub mod bug;
pub mod codec;
pub mod corrupt;
pub mod hash;
pub mod ids;
pub mod limits;
pub mod log;
pub mod mailbox;
pub mod mark;
pub mod metrics;
pub mod prng;
pub mod time;
pub mod url;

pub use aligned::{AlignedBuf, BLOCK_BYTES};
pub use corrupt::Corrupt;
pub use ids::{GroupId, LogIndex, MemberId, PageId, PageRun, Revision, ShardId, Term};
pub use mark::Mark;
pub use prng::Prng;
pub use time::Instant;
pub use url::Url;

/// CRC32C (Castagnoli) of `bytes`, continuing from `seed`: the checksum of every block, page and frame.
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(seed, bytes)
}
