//! What a shard counts. It alone writes, but for promotions, which whoever was asked for them counts; a scrape on any executor reads.

mod catch_up;
mod handovers;
mod promotions;
mod transfers;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use plinth_base::metrics::{
    APPLY_NS, Counter, FLUSH_NS, Gauge, Histogram, HistogramSnapshot, SWEEP_MS, TTL_SECONDS, TURN_NS,
};
use plinth_kv::CommandKind;

pub use self::{
    catch_up::{CatchUp, CatchUpState, CatchUps},
    handovers::{Handover, Handovers},
    promotions::{PromotionFigures, Promotions},
    transfers::{TransferFigures, Transfers},
};

/// How long something took, apart for what succeeded and what failed.
#[derive(Debug)]
pub struct Times {
    succeeded: Histogram,
    failed: Histogram,
}

impl Default for Times {
    fn default() -> Self {
        Self { succeeded: Histogram::new(APPLY_NS), failed: Histogram::new(APPLY_NS) }
    }
}

impl Times {
    /// Counts one.
    pub fn observe(&self, has_succeeded: bool, took: Duration) {
        if has_succeeded { &self.succeeded } else { &self.failed }.observe_duration(took);
    }

    /// What was counted of those that succeeded, and of those that failed.
    #[must_use]
    pub fn snapshot(&self) -> [HistogramSnapshot; 2] {
        [self.succeeded.snapshot(), self.failed.snapshot()]
    }
}

/// How long commands took, by kind.
#[derive(Default, Debug)]
pub struct ApplyTimes([Times; CommandKind::ALL.len()]);

impl ApplyTimes {
    /// Those of one kind.
    #[must_use]
    pub fn of(&self, kind: CommandKind) -> &Times {
        &self.0[kind as usize]
    }

    /// All of them, by etcd's name of the request.
    pub fn by_name(&self) -> impl Iterator<Item = (&'static str, &Times)> {
        CommandKind::ALL.into_iter().map(|kind| (kind.name(), self.of(kind)))
    }
}

/// How long range reads took. Each executor counts by itself: they are too many to be counted in one place.
#[derive(Default, Debug)]
pub struct RangeTimes(Mutex<Vec<Arc<Times>>>);

impl RangeTimes {
    /// For one more executor.
    pub(crate) fn join(&self) -> Arc<Times> {
        let times = Arc::<Times>::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&times));
        times
    }

    /// Of all executors: those that succeeded, and those that failed.
    #[must_use]
    pub fn snapshot(&self) -> [HistogramSnapshot; 2] {
        let mut sum = Times::default().snapshot();
        for times in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            sum.iter_mut().zip(times.snapshot()).for_each(|(sum, one)| sum.merge(&one));
        }
        sum
    }
}

/// A shard's counters.
#[derive(Debug)]
pub struct ShardMetrics {
    /// From handing a batch to the device until it is durable.
    pub wal_flush: Histogram,
    /// From the start of a checkpoint's first write until its meta page is durable.
    pub checkpoint: Histogram,
    /// One turn of the shard.
    pub turn: Histogram,
    /// Commands, each from its first slice to its last.
    pub applies: ApplyTimes,
    /// Bytes handed to the log's device.
    pub wal_write_bytes: Counter,
    /// Batches written.
    pub wal_flushes: Counter,
    /// 1 while the batch under way takes longer than the soft limit, and new proposals wait; 2 when it takes longer than the hard one.
    pub wal_stalled: Gauge,
    /// How often that began.
    pub wal_stalls: Counter,
    /// How often the hard limit was reached.
    pub wal_hard_stalls: Counter,
    /// Leadership that was given away.
    pub handovers: Handovers,
    /// Entries in them.
    pub wal_entries: Counter,
    /// Frames of peers that made no sense.
    pub frames_refused: Counter,
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
    /// How much of the scrub's pass under way, or of the last one, is done, in millionths.
    pub scrub_progress_ppm: Gauge,
    /// Pages that scrubs have read.
    pub scrub_pages: Counter,
    /// Passes of scrubs that have ended.
    pub scrub_passes: Counter,
    /// Pages that scrubs found to be rotten, each as often as it was found.
    pub scrub_corruptions: Counter,
    /// When the last pass of a scrub ended, in seconds since the Unix epoch.
    pub last_scrub_pass: Gauge,
    /// TTLs of granted and renewed leases.
    pub lease_ttl: Histogram,
    /// Learners that were to be promoted.
    pub promotions: Promotions,
    /// Snapshots to other members.
    pub snapshots_sent: Transfers,
    /// And from them.
    pub snapshots_received: Transfers,
    /// How far peers are behind.
    pub catch_ups: CatchUps,
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
            applies: ApplyTimes::default(),
            wal_write_bytes: Counter::new(),
            wal_flushes: Counter::new(),
            wal_stalled: Gauge::new(),
            wal_stalls: Counter::new(),
            wal_hard_stalls: Counter::new(),
            handovers: Handovers::default(),
            wal_entries: Counter::new(),
            frames_refused: Counter::new(),
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
            scrub_progress_ppm: Gauge::new(),
            scrub_pages: Counter::new(),
            scrub_passes: Counter::new(),
            scrub_corruptions: Counter::new(),
            last_scrub_pass: Gauge::new(),
            lease_ttl: Histogram::new(TTL_SECONDS),
            promotions: Promotions::default(),
            snapshots_sent: Transfers::default(),
            snapshots_received: Transfers::default(),
            catch_ups: CatchUps::default(),
            changed_page_bytes: Gauge::new(),
            branch_bytes: Gauge::new(),
        }
    }
}
