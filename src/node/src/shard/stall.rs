//! The log's device under watch: a batch that takes too long is a *soft stall*, and the shard takes no new proposals until it has ended.
//!
//! What was accepted before stays in memory and waits for the batch, as always. What comes during a stall is held in the shard's bounded queue:
//! a client of etcd expects a put on a slow disk to take longer, not to fail, so a stall that ends within the request timeout costs nothing
//! but time. One that lasts longer is answered `etcdserver: request timed out` when the request's time is up, and that proposal is never
//! made: nobody waits for it any more, and the device should not begin with work for nobody. A full queue is `etcdserver: too many requests`,
//! at once. Reads go on.
//!
//! Invariant: a stall begins and ends with one log line each, and the gauge says the same.

use std::time::Duration;

use plinth_base::{Instant, log_info, log_warn};

use crate::metrics::ShardMetrics;

/// Watches the batch that is under way.
#[derive(Debug)]
pub(super) struct StallWatch {
    limit: Duration,
    /// When the batch under way was handed to the device.
    began: Option<Instant>,
    is_stalled: bool,
}

impl StallWatch {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, began: None, is_stalled: false }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// A batch goes to the device.
    pub(super) fn note_begin(&mut self, now: Instant) {
        self.began = Some(now);
    }

    /// It has come back, one way or the other.
    pub(super) fn note_end(&mut self, now: Instant, metrics: &ShardMetrics) {
        let Some(began) = self.began.take() else { return };
        if std::mem::take(&mut self.is_stalled) {
            metrics.wal_stalled.set(0);
            log_info!("the disk of the log answers again: writes go on", "stalled" => now.since(began));
        }
    }

    /// How long the batch under way has taken so far.
    pub(super) fn waiting(&self, now: Instant) -> Duration {
        self.began.map_or(Duration::ZERO, |began| now.since(began))
    }

    /// Looks at the clock; once per turn.
    pub(super) fn look(&mut self, now: Instant, metrics: &ShardMetrics) {
        let is_late = self.began.is_some_and(|began| now.since(began) >= self.limit);
        if is_late && !std::mem::replace(&mut self.is_stalled, true) {
            metrics.wal_stalled.set(1);
            metrics.wal_stalls.inc();
            log_warn!("the disk of the log doesn't answer: new writes wait until it does", "limit" => self.limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn a_stall_begins_at_its_limit_and_ends_with_the_batch() {
        let metrics = ShardMetrics::default();
        let mut watch = StallWatch::new(Duration::from_millis(500));
        watch.look(at(10_000), &metrics);
        assert!(!watch.is_stalled(), "nothing is under way");
        watch.note_begin(at(10_000));
        watch.look(at(10_499), &metrics);
        assert!(!watch.is_stalled());
        watch.look(at(10_500), &metrics);
        watch.look(at(10_600), &metrics);
        assert!(watch.is_stalled());
        assert_eq!((metrics.wal_stalled.get(), metrics.wal_stalls.get()), (1, 1), "counted once");
        watch.note_end(at(10_700), &metrics);
        watch.look(at(99_000), &metrics);
        assert!(!watch.is_stalled());
        assert_eq!((metrics.wal_stalled.get(), metrics.wal_stalls.get()), (0, 1));
    }
}
