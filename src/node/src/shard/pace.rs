//! The log goes first: what writes beside it learns here how long to step back.
//!
//! A device does one thing at a time: a batch of the log waits for the write before it, and its flush for everything that the device has not
//! stored yet. So background writes come in small pieces, and between them is a pause that grows with what the log's flushes take longer
//! than they usually do. An idle log disturbs nobody and is not disturbed: there is no pause then.
//!
//! Nobody starves: a pause is bounded; the next segment, which the log itself will need, is never paused behind its schedule, and a checkpoint
//! not at all once proposals would soon have to wait for it.

use std::{cell::Cell, rc::Rc, time::Duration};

use plinth_base::Instant;

/// A log that has not flushed for so long is idle, and nobody has to step back.
const LOG_IDLE_AFTER: Duration = Duration::from_millis(50);

/// The longest pause between two writes.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// The pause is so many times what a flush takes longer than usual.
const PAUSE_PER_SLOWDOWN: u64 = 4;

/// The pause between two writes of zeroes while the log is busy: the device's speed is not for them.
const ZEROES_PAUSE: Duration = Duration::from_millis(1);

/// Zeroes that must be there for each byte logged since the making of a segment began. It begins when a quarter of the one under way is used,
/// so with twice the log's speed it ends before three quarters are.
const ZEROES_PER_LOG_BYTE: u64 = 2;

/// How the log fares, for those who must not disturb it.
#[derive(Default, Debug)]
pub(super) struct LogPace {
    /// A slow and a fast moving average of the flush time in nanoseconds.
    usual_ns: Cell<u64>,
    recent_ns: Cell<u64>,
    last_flush: Cell<Instant>,
    /// Bytes made durable since the start.
    log_bytes: Cell<u64>,
    /// Memory for dirty pages is running out: the log itself will have to wait unless the others get on.
    is_urgent: Cell<bool>,
}

impl LogPace {
    pub(super) fn note_flush(&self, now: Instant, flush_ns: u64, bytes: u64) {
        let towards = |average: u64, weight: u64| (average * (weight - 1) + flush_ns) / weight;
        let usual = self.usual_ns.get();
        self.usual_ns.set(if usual == 0 { flush_ns } else { towards(usual, 256) });
        self.recent_ns.set(towards(self.recent_ns.get(), 8));
        self.last_flush.set(now);
        self.log_bytes.set(self.log_bytes.get() + bytes);
    }

    pub(super) fn set_urgent(&self, is_urgent: bool) {
        self.is_urgent.set(is_urgent);
    }

    fn is_idle(&self, now: Instant) -> bool {
        now.since(self.last_flush.get()) > LOG_IDLE_AFTER
    }

    /// How long to wait after a write: the more the log has slowed down, the longer.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        if self.is_idle(now) || self.is_urgent.get() {
            return Duration::ZERO;
        }
        let slower_ns = self.recent_ns.get().saturating_sub(self.usual_ns.get());
        Duration::from_nanos(slower_ns.saturating_mul(PAUSE_PER_SLOWDOWN)).min(PAUSE_MAX)
    }
}

/// The pace at which the next segment is zeroed.
#[derive(Debug)]
pub(super) struct SegmentPace {
    log: Rc<LogPace>,
    log_bytes_before: u64,
    zeroed_bytes: u64,
}

impl SegmentPace {
    pub(super) fn new(log: &Rc<LogPace>) -> Self {
        Self { log: Rc::clone(log), log_bytes_before: log.log_bytes.get(), zeroed_bytes: 0 }
    }

    /// How long to wait after `bytes` more zeroes.
    pub(super) fn pause(&mut self, now: Instant, bytes: u64) -> Duration {
        self.zeroed_bytes += bytes;
        let logged = self.log.log_bytes.get() - self.log_bytes_before;
        if self.log.is_idle(now) || self.zeroed_bytes < logged.saturating_mul(ZEROES_PER_LOG_BYTE) {
            return Duration::ZERO;
        }
        self.log.pause(now).max(ZEROES_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Instant {
        Instant(ms * MS)
    }

    /// A log that has flushed in 1 ms for long, the last time at `ms`.
    fn steady(ms: u64) -> Rc<LogPace> {
        let pace = Rc::new(LogPace::default());
        for back in (0..1000).rev() {
            pace.note_flush(at(ms - back), MS, 4096);
        }
        pace
    }

    #[test]
    fn pauses_grow_with_the_logs_slowdown_and_have_an_end() {
        let pace = steady(2000);
        assert!(pace.pause(at(2001)) < Duration::from_micros(10), "{:?}", pace.pause(at(2001)));
        pace.note_flush(at(2002), 3 * MS, 4096);
        let some = pace.pause(at(2003));
        assert!(some > Duration::from_micros(500) && some < Duration::from_millis(2), "{some:?}");
        pace.note_flush(at(2004), 900 * MS, 4096);
        assert_eq!(pace.pause(at(2005)), PAUSE_MAX);
        pace.set_urgent(true);
        assert_eq!(pace.pause(at(2005)), Duration::ZERO, "writes would have to wait for the checkpoint");
        pace.set_urgent(false);
        assert_eq!(pace.pause(at(3000)), Duration::ZERO, "an idle log needs no room");
    }

    #[test]
    fn zeroes_step_back_before_a_busy_log_but_never_fall_behind_it() {
        let log = steady(2000);
        let mut pace = SegmentPace::new(&log);
        assert_eq!(pace.pause(at(2001), 128 << 10), ZEROES_PAUSE);
        log.note_flush(at(2002), MS, 100 << 10);
        assert_eq!(pace.pause(at(2003), 1), Duration::ZERO, "behind: twice what was logged must be there");
        assert_eq!(pace.pause(at(2004), 128 << 10), ZEROES_PAUSE);
        assert_eq!(pace.pause(at(3000), 128 << 10), Duration::ZERO, "the log is idle");
    }
}
