//! The pace at which the next segment of the log is zeroed: like all background work it steps back before the log, but never behind its schedule, since the log
//! itself will need it.

use std::{sync::Arc, time::Duration};

use plinth_base::Instant;

use crate::budget::{Budget, Use};

/// The pause between two writes of zeroes while the log is busy: the device's speed is not for them.
const ZEROES_PAUSE: Duration = Duration::from_millis(1);

/// Zeroes that must be there for each byte logged since the making of a segment began. It begins when a quarter of the one under way is used,
/// so with twice the log's speed it ends before three quarters are.
const ZEROES_PER_LOG_BYTE: u64 = 2;

/// The pace at which the next segment is zeroed.
#[derive(Debug)]
pub(super) struct SegmentPace {
    budget: Arc<Budget>,
    log_bytes_before: u64,
    zeroed_bytes: u64,
}

impl SegmentPace {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), log_bytes_before: budget.log_bytes(), zeroed_bytes: 0 }
    }

    /// How long to wait after `bytes` more zeroes.
    pub(super) fn pause(&mut self, now: Instant, bytes: u64) -> Duration {
        self.zeroed_bytes += bytes;
        let logged = self.budget.log_bytes() - self.log_bytes_before;
        if self.budget.is_log_idle(now) || self.zeroed_bytes < logged.saturating_mul(ZEROES_PER_LOG_BYTE) {
            self.budget.note(now, Use::Segment, bytes);
            return Duration::ZERO;
        }
        self.budget.take(now, Use::Segment, bytes).max(ZEROES_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Instant {
        Instant(ms * MS)
    }

    #[test]
    fn zeroes_step_back_before_a_busy_log_but_never_fall_behind_it() {
        let budget = Arc::new(Budget::default());
        (0..1000).for_each(|ms| budget.note_flush(at(1000 + ms), MS, 4096));
        let mut pace = SegmentPace::new(&budget);
        assert_eq!(pace.pause(at(2001), 128 << 10), ZEROES_PAUSE);
        budget.note_flush(at(2002), MS, 100 << 10);
        assert_eq!(pace.pause(at(2003), 1), Duration::ZERO, "behind: twice what was logged must be there");
        assert_eq!(pace.pause(at(2004), 128 << 10), ZEROES_PAUSE);
        assert_eq!(pace.pause(at(3000), 128 << 10), Duration::ZERO, "the log is idle");
    }
}
