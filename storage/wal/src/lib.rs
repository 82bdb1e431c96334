//! The write-ahead log of a shard: the raft logs and hard states of all its groups in one sequence of batches.
//!
//! It knows groups, indexes, terms and opaque payloads, and nothing of raft's rules or of etcd. The layout on disk is in `format.rs` and in
//! `docs/format/log.md`.
//!
//! The log is driven from outside and never waits: records are added in memory, [`Wal::begin_flush`] hands out the next batch as
//! a [`Flush`] that runs on its own, and its [`FlushDone`] comes back through [`Wal::finish_flush`]. The same holds for
//! [`Maintenance`] and for reads.
//!
//! Invariants:
//! - What [`Wal::finish_flush`] reports is durable, in the order in which it was added.
//! - At most one batch is in flight.
//! - After a failed write nothing is written any more.

mod batch;
mod check;
mod commit;
mod error;
mod flush;
mod format;
mod group;
mod log;
mod maintenance;
mod read;
mod recovery;
mod replay;
mod segment;
mod types;

pub use check::{Report, SegmentReport, check};
pub use error::WalError;
pub use flush::{Flush, FlushDone};
pub use group::{GroupState, HardState, Position};
pub use log::Wal;
pub use maintenance::{Maintenance, MaintenanceDone};
pub use recovery::{Recovered, TailCut};
pub use types::{Durable, Entry, GroupDurable, Lsn, SEGMENT_BYTES_MIN, WalOptions, WalStats};
