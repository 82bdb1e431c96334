//! What the log takes and gives: options, entries, reports, figures.

use std::path::PathBuf;

use bytes::Bytes;
use plinth_base::{GroupId, LogIndex, Term, limits};
use plinth_env::SyncMethod;

use crate::{
    format::{BLOCK, START_BYTES_MAX},
    group::{HardState, Position},
};

/// The smallest segment: the largest start, a seal, and a batch worth the name.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;

const _: () = assert!(SEGMENT_BYTES_MIN > 2 * (START_BYTES_MAX as u64 + BLOCK));

/// How a log is set up.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Its directory, used for nothing else.
    pub dir: PathBuf,
    /// Length of segments made from now on, whole blocks, at least [`SEGMENT_BYTES_MIN`].
    pub segment_bytes: u64,
    /// How many released segments are kept to be used again; more are removed.
    pub spares_max: usize,
    /// How a batch reaches the device.
    pub sync_method: SyncMethod,
}

impl WalOptions {
    /// The defaults: segments of 64 MiB, at most four spares, RWF_DSYNC.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, segment_bytes: 64 << 20, spares_max: 4, sync_method: SyncMethod::WriteDsync }
    }

    /// The largest batch that fits a fresh segment.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        let room = self.segment_bytes - START_BYTES_MAX as u64 - BLOCK;
        usize::try_from(room).map_or(limits::WAL_BATCH_BYTES_MAX, |room| room.min(limits::WAL_BATCH_BYTES_MAX))
    }
}

/// One raft entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Whose log it belongs to.
    pub group: GroupId,
    /// Its place there.
    pub index: LogIndex,
    /// The term it was proposed in.
    pub term: Term,
    /// It changes the members of the group; the log tells which entries do, see [`crate::Wal::changes`].
    pub is_change: bool,
    /// What it says; the log doesn't look inside. Below 4 GiB.
    pub payload: Bytes,
}

/// The sequence of a batch; 0 is before all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Lsn(pub u64);

/// What a finished flush made durable.
#[derive(Clone, Debug)]
pub struct Durable {
    /// The batch; everything up to it is durable.
    pub lsn: Lsn,
    /// What the batch held, per group.
    pub groups: Vec<GroupDurable>,
    /// Bytes of the batch on disk.
    pub bytes: u64,
    /// How long the write took, preparing a fresh segment included.
    pub flush_ns: u64,
    /// Whether a segment began with it.
    pub rotated: bool,
}

/// What one batch made durable for one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupDurable {
    /// The group.
    pub group: GroupId,
    /// The last entry that is durable now, if entries or a new start of the log were in the batch. By the time this is read it
    /// may have been replaced in memory by an entry of another term: compare the term.
    pub last: Option<Position>,
    /// The hard state, if the batch held one.
    pub hard_state: Option<HardState>,
}

/// Figures of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalStats {
    /// Segments that have begun.
    pub segments: usize,
    /// Released files that wait to be used again.
    pub spares: usize,
    /// Bytes of all of them on disk, with the next segment if it is ready.
    pub disk_bytes: u64,
    /// Highest batch that is durable.
    pub durable: Lsn,
    /// Highest batch that was handed to the device.
    pub submitted: Lsn,
    /// Highest batch that exists.
    pub tail: Lsn,
    /// Bytes appended and not yet durable.
    pub pending_bytes: usize,
}
