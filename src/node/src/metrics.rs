//! What a shard counts. It alone writes; a scrape on any executor reads.

use plinth_base::metrics::{APPLY_NS, Counter, FLUSH_NS, Gauge, Histogram, SWEEP_MS, TTL_SECONDS, TURN_NS};

/// A shard's counters.
#[derive(Debug)]
pub struct ShardMetrics {
    /// From handing a batch to the device until it is durable.
    pub wal_flush: Histogram,
    /// From the start of a checkpoint's first write until its meta page is durable.
    pub checkpoint: Histogram,
    /// One turn of the shard.
    pub turn: Histogram,
    /// One command, from its first slice to its last.
    pub apply: Histogram,
    /// Bytes handed to the log's device.
    pub wal_write_bytes: Counter,
    /// Batches written.
    pub wal_flushes: Counter,
    /// 1 while the batch under way takes longer than the limit, and new proposals wait.
    pub wal_stalled: Gauge,
    /// How often that began.
    pub wal_stalls: Counter,
    /// Entries in them.
    pub wal_entries: Counter,
    /// Proposals that were refused.
    pub proposals_failed: Counter,
    /// Puts applied.
    pub puts: Counter,
    /// Deletions applied.
    pub deletes: Counter,
    /// Transactions applied.
    pub txns: Counter,
    /// Page loads that commands waited for.
    pub apply_page_loads: Counter,
    /// Proposals that waited: the log's device stalls, or memory for changed pages is used up.
    pub throttled: Counter,
    /// Leases granted.
    pub leases_granted: Counter,
    /// Leases revoked, expired ones included.
    pub leases_revoked: Counter,
    /// Renewals.
    pub leases_renewed: Counter,
    /// Leases whose time was over.
    pub leases_expired: Counter,
    /// Changes that sweeps have looked at, to remove what was superseded.
    pub swept_changes: Counter,
    /// From the beginning of a sweep to its end, in milliseconds.
    pub sweep: Histogram,
    /// When the last sweep ended, in seconds since the Unix epoch.
    pub last_sweep: Gauge,
    /// TTLs of granted and renewed leases.
    pub lease_ttl: Histogram,
    /// Bytes of pages that are in memory because they were changed.
    pub changed_page_bytes: Gauge,
    /// About the bytes of branches in memory.
    pub branch_bytes: Gauge,
}

impl Default for ShardMetrics {
    fn default() -> Self {
        Self {
            wal_flush: Histogram::new(FLUSH_NS),
            checkpoint: Histogram::new(FLUSH_NS),
            turn: Histogram::new(TURN_NS),
            apply: Histogram::new(APPLY_NS),
            wal_write_bytes: Counter::new(),
            wal_flushes: Counter::new(),
            wal_stalled: Gauge::new(),
            wal_stalls: Counter::new(),
            wal_entries: Counter::new(),
            proposals_failed: Counter::new(),
            puts: Counter::new(),
            deletes: Counter::new(),
            txns: Counter::new(),
            apply_page_loads: Counter::new(),
            throttled: Counter::new(),
            leases_granted: Counter::new(),
            leases_revoked: Counter::new(),
            leases_renewed: Counter::new(),
            leases_expired: Counter::new(),
            swept_changes: Counter::new(),
            sweep: Histogram::new(SWEEP_MS),
            last_sweep: Gauge::new(),
            lease_ttl: Histogram::new(TTL_SECONDS),
            changed_page_bytes: Gauge::new(),
            branch_bytes: Gauge::new(),
        }
    }
}
