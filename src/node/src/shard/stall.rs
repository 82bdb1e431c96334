//! The log's device under watch: a batch that takes too long is a *soft stall*, and the shard takes no new proposals until it has ended.
//!
//! What was accepted before stays in memory and waits for the batch, as always. What comes during a stall is held in the shard's bounded queue:
//! a client of etcd expects a put on a slow disk to take longer, not to fail, so a stall that ends within the request timeout costs nothing
//! but time. One that lasts longer is answered `etcdserver: request timed out` when the request's time is up, and that proposal is never
//! made: nobody waits for it any more, and the device should not begin with work for nobody. A full queue is `etcdserver: too many requests`,
//! at once. Reads go on.
//!
//! When it lasts longer still, past the *hard* limit, a leader makes another member lead if others do better (`plinth_raft`, `handover.rs`), and no member campaigns or votes.
//!
//! Invariant: each change is one log line, and the gauge says the same.

use std::time::Duration;

use plinth_base::{Instant, bug, log_info, log_warn};
use plinth_raft::Stall;

use crate::metrics::ShardMetrics;

/// Watches the batch that is under way.
#[derive(Debug)]
pub(super) struct StallWatch {
    soft: Duration,
    hard: Duration,
    /// When the batch under way was handed to the device.
    began: Option<Instant>,
    stall: Stall,
}

impl StallWatch {
    pub(super) fn new(soft: Duration, hard: Duration) -> Self {
        Self { soft, hard: hard.max(soft), began: None, stall: Stall::None }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stall != Stall::None
    }

    /// A batch goes to the device.
    pub(super) fn note_begin(&mut self, now: Instant) {
        self.began = Some(now);
    }

    /// It has come back, one way or the other.
    pub(super) fn note_end(&mut self, now: Instant) {
        let Some(began) = self.began.take() else { return };
        if self.is_stalled() {
            log_info!("the disk of the log answers again: writes go on", "stalled" => now.since(began));
        }
    }

    /// When it has to be looked at again, if the batch hasn't come back until then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let limit = match self.stall {
            Stall::None => self.soft,
            Stall::Soft => self.hard,
            Stall::Hard => return None,
        };
        self.began.map(|began| began + limit)
    }

    /// Looks at the clock; once per turn. What has changed, if something has.
    pub(super) fn look(&mut self, now: Instant, metrics: &ShardMetrics) -> Option<Stall> {
        let stall = match self.began.map(|began| now.since(began)) {
            Some(waiting) if waiting >= self.hard && !bug!(HardStallIgnored) => Stall::Hard,
            Some(waiting) if waiting >= self.soft => Stall::Soft,
            _ => Stall::None,
        };
        let before = std::mem::replace(&mut self.stall, stall);
        if stall == before {
            return None;
        }
        metrics.wal_stalled.set(stall as i64);
        if before == Stall::None {
            metrics.wal_stalls.inc();
            log_warn!("the disk of the log doesn't answer: new writes wait until it does", "limit" => self.soft);
        }
        if stall == Stall::Hard {
            metrics.wal_hard_stalls.inc();
            log_warn!("the disk of the log is stuck: this member had better not lead", "limit" => self.hard);
        }
        Some(stall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn a_stall_begins_at_its_limits_and_ends_with_the_batch() {
        let metrics = ShardMetrics::default();
        let counts = || (metrics.wal_stalled.get(), metrics.wal_stalls.get(), metrics.wal_hard_stalls.get());
        let mut watch = StallWatch::new(Duration::from_millis(500), Duration::from_millis(750));
        assert_eq!(watch.look(at(10_000), &metrics), None, "nothing is under way");
        assert_eq!(watch.deadline(), None);
        watch.note_begin(at(10_000));
        assert_eq!(watch.look(at(10_499), &metrics), None);
        assert_eq!(watch.deadline(), Some(at(10_500)));
        assert_eq!(watch.look(at(10_500), &metrics), Some(Stall::Soft));
        assert_eq!(watch.look(at(10_600), &metrics), None);
        assert_eq!((watch.is_stalled(), watch.deadline(), counts()), (true, Some(at(10_750)), (1, 1, 0)));
        assert_eq!(watch.look(at(10_750), &metrics), Some(Stall::Hard));
        assert_eq!((watch.is_stalled(), watch.deadline(), counts()), (true, None, (2, 1, 1)));
        watch.note_end(at(10_800));
        assert_eq!(watch.look(at(99_000), &metrics), Some(Stall::None));
        assert_eq!((watch.is_stalled(), counts()), (false, (0, 1, 1)));
    }

    #[test]
    fn limits_may_be_one_and_a_batch_may_be_very_late_when_it_is_looked_at() {
        let metrics = ShardMetrics::default();
        let mut watch = StallWatch::new(Duration::from_millis(500), Duration::from_millis(100));
        watch.note_begin(at(0));
        assert_eq!(watch.look(at(499), &metrics), None);
        assert_eq!(watch.look(at(700), &metrics), Some(Stall::Hard));
        assert_eq!((metrics.wal_stalls.get(), metrics.wal_hard_stalls.get()), (1, 1));
    }
}
