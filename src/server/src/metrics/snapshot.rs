//! The node's numbers at one moment, as a scrape shows them.

use plinth_base::{
    MemberId,
    metrics::{APPLY_NS, FLUSH_NS, HistogramSnapshot, SWEEP_MS, TTL_SECONDS, TURN_NS},
};
use plinth_node::{CatchUp, PromotionFigures, Taken, TransferFigures};

use crate::peers::PeerFigures;

/// How long applies of one kind took.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Apply {
    /// etcd's name of the request: `Put`, `DeleteRange`, `Txn`, `Compaction`, ...
    pub op: &'static str,
    /// Whether it succeeded.
    pub success: bool,
    /// Nanoseconds, in [`APPLY_NS`].
    pub took: HistogramSnapshot,
}

/// Everything that is added up over shards and executors for one scrape. The fields are named after their metrics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetricsSnapshot {
    /// This member.
    pub member_id: MemberId,
    /// Whether a leader is known.
    pub has_leader: bool,
    /// Whether this member leads.
    pub is_leader: bool,
    /// Whether this member is a learner.
    pub is_learner: bool,
    /// Changes of leader that this member saw.
    pub leader_changes_seen: u64,
    /// The last committed index.
    pub proposals_committed: u64,
    /// The last applied index.
    pub proposals_applied: u64,
    /// Proposals that wait for commit or apply.
    pub proposals_pending: u64,
    /// Proposals that failed.
    pub proposals_failed: u64,
    /// Heartbeats that this leader sent late.
    pub heartbeat_send_failures: u64,
    /// Applies that took too long.
    pub slow_apply: u64,
    /// ReadIndex rounds that took too long.
    pub slow_read_indexes: u64,
    /// ReadIndex rounds that failed.
    pub read_indexes_failed: u64,
    /// The size at which writes stop, in bytes.
    pub quota_backend_bytes: u64,
    /// Applies by kind and result.
    pub applies: Vec<Apply>,
    /// Ranges that succeeded and that failed: nanoseconds, in [`APPLY_NS`].
    pub ranges: [HistogramSnapshot; 2],
    /// Allocated size of the data, in bytes.
    pub db_total_bytes: u64,
    /// Used size of the data, in bytes.
    pub db_in_use_bytes: u64,
    /// Reads that hold a root.
    pub db_open_read_transactions: u64,
    /// Range operations.
    pub range_count: u64,
    /// Put operations.
    pub put_count: u64,
    /// Delete operations.
    pub delete_count: u64,
    /// Transactions.
    pub txn_count: u64,
    /// Live keys.
    pub keys: u64,
    /// The newest revision.
    pub current_revision: i64,
    /// The compacted revision; -1 if there is none.
    pub compact_revision: i64,
    /// Bytes of keys and values put since the start.
    pub put_bytes: u64,
    /// Flushes of the log: nanoseconds, in [`FLUSH_NS`].
    pub wal_fsync: HistogramSnapshot,
    /// Bytes written to the log.
    pub wal_write_bytes: u64,
    /// How batches of the log reach the device, as `--wal-sync-method` names it.
    pub wal_sync_method: &'static str,
    /// 1 while the log's device takes too long and new proposals wait, 2 when it takes so long that the member should not lead.
    pub wal_stalled: u64,
    /// How often that began.
    pub wal_stalls: u64,
    /// How often it went so far.
    pub wal_hard_stalls: u64,
    /// What background work may read and write beside the log, in bytes per second.
    pub background_rate: u64,
    /// What it has, by use.
    pub background: Vec<Taken>,
    /// Leadership that was given away, by reason.
    pub handovers: Vec<(&'static str, u64)>,
    /// Open watch streams.
    pub watch_streams: u64,
    /// Watchers.
    pub watchers: u64,
    /// Watchers that are behind.
    pub slow_watchers: u64,
    /// Events that watch streams have not sent.
    pub pending_events: u64,
    /// Events handed to watch streams.
    pub watch_events: u64,
    /// Changes that compactions have looked at.
    pub compacted_changes: u64,
    /// When the last compaction was done, in seconds since the Unix epoch.
    pub last_compaction: u64,
    /// How long compactions took: milliseconds, in [`SWEEP_MS`].
    pub compaction: HistogramSnapshot,
    /// How much of the scrub's pass under way, or of the last one, is done, in millionths.
    pub scrub_progress_ppm: u64,
    /// Pages that scrubs have read.
    pub scrub_pages: u64,
    /// Passes that have ended.
    pub scrub_passes: u64,
    /// Pages that were found to be rotten.
    pub scrub_corruptions: u64,
    /// When the last pass ended, in seconds since the Unix epoch; 0 before.
    pub last_scrub_pass: u64,
    /// Leases granted.
    pub leases_granted: u64,
    /// Leases revoked, expired ones included.
    pub leases_revoked: u64,
    /// Renewals of leases.
    pub leases_renewed: u64,
    /// Leases whose time was over.
    pub leases_expired: u64,
    /// TTLs of granted and renewed leases: seconds, in [`TTL_SECONDS`].
    pub lease_ttl: HistogramSnapshot,
    /// Proposals that had to wait for the log's device or for memory.
    pub proposals_held: u64,
    /// Bytes of changed pages in memory.
    pub changed_page_bytes: u64,
    /// About the bytes of branches in memory.
    pub branch_bytes: u64,
    /// Checkpoints of the tree: nanoseconds, in [`FLUSH_NS`].
    pub backend_commit: HistogramSnapshot,
    /// Turns of the shard: nanoseconds, in [`TURN_NS`].
    pub turn: HistogramSnapshot,
    /// Batches of the log that became durable.
    pub wal_flushes: u64,
    /// Entries handed to the log.
    pub wal_entries: u64,
    /// Commands that waited for a page.
    pub apply_page_loads: u64,
    /// Learners that were to be promoted.
    pub promotions: PromotionFigures,
    /// Snapshots that were sent to each peer.
    pub snapshots_sent: Vec<TransferFigures>,
    /// And received.
    pub snapshots_received: Vec<TransferFigures>,
    /// How far peers are behind, where this member leads.
    pub catch_ups: Vec<CatchUp>,
    /// The other members.
    pub peers: Vec<PeerFigures>,
    /// What each executor counts about itself: names and counts, the same names for each.
    pub executors: Vec<Vec<(&'static str, u64)>>,
}

impl Default for MetricsSnapshot {
    fn default() -> Self {
        Self {
            member_id: MemberId(0),
            has_leader: false,
            is_leader: false,
            is_learner: false,
            leader_changes_seen: 0,
            proposals_committed: 0,
            proposals_applied: 0,
            proposals_pending: 0,
            proposals_failed: 0,
            heartbeat_send_failures: 0,
            slow_apply: 0,
            slow_read_indexes: 0,
            read_indexes_failed: 0,
            quota_backend_bytes: 0,
            applies: Vec::new(),
            ranges: [HistogramSnapshot::empty(APPLY_NS), HistogramSnapshot::empty(APPLY_NS)],
            db_total_bytes: 0,
            db_in_use_bytes: 0,
            db_open_read_transactions: 0,
            range_count: 0,
            put_count: 0,
            delete_count: 0,
            txn_count: 0,
            keys: 0,
            current_revision: 1,
            compact_revision: -1,
            put_bytes: 0,
            wal_fsync: HistogramSnapshot::empty(FLUSH_NS),
            wal_write_bytes: 0,
            wal_sync_method: "write-dsync",
            wal_stalled: 0,
            wal_stalls: 0,
            wal_hard_stalls: 0,
            background_rate: 0,
            background: Vec::new(),
            handovers: Vec::new(),
            watch_streams: 0,
            watchers: 0,
            slow_watchers: 0,
            pending_events: 0,
            watch_events: 0,
            compacted_changes: 0,
            last_compaction: 0,
            compaction: HistogramSnapshot::empty(SWEEP_MS),
            scrub_progress_ppm: 0,
            scrub_pages: 0,
            scrub_passes: 0,
            scrub_corruptions: 0,
            last_scrub_pass: 0,
            leases_granted: 0,
            leases_revoked: 0,
            leases_renewed: 0,
            leases_expired: 0,
            lease_ttl: HistogramSnapshot::empty(TTL_SECONDS),
            proposals_held: 0,
            changed_page_bytes: 0,
            branch_bytes: 0,
            backend_commit: HistogramSnapshot::empty(FLUSH_NS),
            turn: HistogramSnapshot::empty(TURN_NS),
            wal_flushes: 0,
            wal_entries: 0,
            apply_page_loads: 0,
            promotions: PromotionFigures::default(),
            snapshots_sent: Vec::new(),
            snapshots_received: Vec::new(),
            catch_ups: Vec::new(),
            peers: Vec::new(),
            executors: Vec::new(),
        }
    }
}
