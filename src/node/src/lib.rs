//! A node: shards that run raft groups over one log each, and the API that turns requests into commands and reads.
//!
//! Generic over [`plinth_env::Env`]: the server runs it on io_uring, the simulator on a seeded executor, unchanged.
//!
//! Invariants:
//! - nothing is acknowledged before its entry is durable and applied (asserted in release builds);
//! - a shard's turn never waits: flushes, checkpoints and page loads are tasks whose completion is an input;
//! - a reader sees published roots only, and a write is published before it is answered.

pub mod api;
mod auto_compaction;
mod bootstrap;
mod budget;
mod completions;
mod group;
mod message;
mod metrics;
mod options;
pub mod peers;
mod published;
mod readers;
mod shard;
mod waiters;
mod watch;

pub use auto_compaction::{AutoCompaction, Retention, compact_automatically};
pub use bootstrap::{NodeError, open_shard};
pub use budget::{Budget, Taken, Use};
pub use message::{Answer, Message, Refusal, Reply as ShardReply, ReplyTo};
pub use metrics::{
    ApplyTimes, CatchUp, CatchUpState, PromotionFigures, Promotions, RangeTimes, ShardMetrics, Times, TransferFigures,
    Transfers,
};
pub use options::{Identity, ShardOptions};
pub use plinth_kv::{Command, MemberRecord};
/// The version of tree pages that this node reads and writes.
pub use plinth_tree::FORMAT_VERSION as PAGE_FORMAT;
pub use published::{GroupStatus, Published};
pub use shard::{Shard, ShardHandle, ShardPorts};
pub use waiters::{Executor, ReplyPort};
pub use watch::{WatchLimits, WatchMetrics};
