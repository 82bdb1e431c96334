//! How fast the memory for changed pages may be used up while a checkpoint makes room.
//!
//! Where pages change faster than they are written, proposals have to wait. Without a pace they would go on at full speed until the memory is used up
//! and then all wait until the checkpoint is through: a few of them for a very long time. So what may be held grows with the time that a checkpoint of
//! this size usually takes, and each waits a little. Whoever changes pages more slowly never meets the line.
//!
//! Nobody waits for longer than without it: when the usual time is over, all of the memory may be used.

use std::time::Duration;

use plinth_base::Instant;

/// A checkpoint's part of the memory: so much may be added during one, so that the next one is of the same size. If all of it were, a long checkpoint
/// and a short one would take turns.
const ADDED_DIVISOR: u64 = 2;

/// So much may be added at once.
const BURST_DIVISOR: u64 = 8;

/// Smaller checkpoints say little about how long a page takes.
const PAGES_MIN: u64 = 1024;

/// Before anything was measured.
const PAGE_NS: u64 = 10_000;

/// The pace of one group.
#[derive(Debug)]
pub(crate) struct MemoryPace {
    /// What a page takes from the beginning of a checkpoint until its memory is free: a moving average.
    page_ns: u64,
    under_way: Option<UnderWay>,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    began: Instant,
    pages: u64,
    /// When it began.
    held_bytes: u64,
}

impl Default for MemoryPace {
    fn default() -> Self {
        Self { page_ns: PAGE_NS, under_way: None }
    }
}

impl MemoryPace {
    /// A checkpoint of `pages` begins, while `held_bytes` are in memory, these pages among them.
    pub(crate) fn begin(&mut self, began: Instant, pages: u64, held_bytes: u64) {
        self.under_way = Some(UnderWay { began, pages, held_bytes });
    }

    /// Its memory is free.
    pub(crate) fn end(&mut self, now: Instant) {
        let Some(UnderWay { began, pages, .. }) = self.under_way.take() else { return };
        if pages >= PAGES_MIN {
            let took_ns = u64::try_from(now.since(began).as_nanos()).unwrap_or(u64::MAX);
            self.page_ns = (self.page_ns * 3 + took_ns / pages) / 4;
        }
    }

    /// What may be held now, of `bytes_max` at most.
    pub(crate) fn allowed_bytes(&self, now: Instant, bytes_max: u64) -> u64 {
        let Some(UnderWay { began, pages, held_bytes }) = self.under_way else { return bytes_max };
        let (usual, elapsed) = (Duration::from_nanos(self.page_ns.saturating_mul(pages)), now.since(began));
        if elapsed >= usual {
            return bytes_max;
        }
        let (burst, added) = (bytes_max / BURST_DIVISOR, bytes_max / ADDED_DIVISOR);
        let part = elapsed.as_secs_f64() / usual.as_secs_f64();
        let grown = burst + ((added - burst) as f64 * part) as u64;
        held_bytes.saturating_add(grown).min(bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 64 << 20;
    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Instant {
        Instant(ms * MS)
    }

    #[test]
    fn what_may_be_held_grows_with_the_usual_time_of_a_checkpoint() {
        let mut pace = MemoryPace::default();
        assert_eq!(pace.allowed_bytes(at(5), MAX), MAX, "nothing is under way");
        pace.begin(at(1000), 10_000, 16 << 20);
        assert_eq!(pace.allowed_bytes(at(1000), MAX), (16 << 20) + MAX / 8);
        assert_eq!(pace.allowed_bytes(at(1050), MAX), (16 << 20) + MAX / 8 + MAX * 3 / 16);
        assert!(pace.allowed_bytes(at(1099), MAX) < (16 << 20) + MAX / 2);
        assert_eq!(pace.allowed_bytes(at(1100), MAX), MAX, "it takes longer than usual");
        pace.end(at(1500));
        assert_eq!(pace.allowed_bytes(at(1500), MAX), MAX);
        // Now a page is known to take longer.
        pace.begin(at(2000), 10_000, 16 << 20);
        assert!(pace.allowed_bytes(at(2150), MAX) < MAX);
    }

    #[test]
    fn small_checkpoints_teach_nothing_and_the_limit_holds() {
        let mut pace = MemoryPace::default();
        pace.begin(at(0), 1, 0);
        pace.end(at(1000));
        assert_eq!(pace.page_ns, PAGE_NS);
        pace.begin(at(2000), 10_000, 60 << 20);
        assert_eq!(pace.allowed_bytes(at(2099), MAX), MAX);
        pace.end(at(2100));
        pace.end(at(9000));
        assert_eq!(pace.page_ns, PAGE_NS, "an end without a beginning");
    }
}
