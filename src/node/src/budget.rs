//! The log goes first: what is read and written beside it shares one budget of bytes, which shrinks when the log's flushes take longer than usual.
//!
//! A device does one thing at a time: a batch of the log waits for the write before it, and its flush for everything that the device has not stored yet.
//! So background work comes in small pieces; each is taken from the budget, and whoever took it waits until it is paid. The budget is a rate: it is cut by a
//! quarter while flushes are slow, and grows by an eighth while they are not and somebody waits (additive growth would take too long to find the speed of a
//! fast device). What usual is, flushes tell that nobody disturbed. An idle log disturbs nobody and is not disturbed: nobody waits then.
//!
//! Those that are at work share the rate by weight, and none gets what others don't ask for kept from it. Nobody starves: the rate has a lower end, a wait has
//! an upper one, and a checkpoint hurries when memory for changed pages runs out, since at its end all proposals would wait for it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use plinth_base::{
    Instant,
    metrics::{Counter, Gauge},
};

/// A log that has not flushed for so long is idle, and nobody has to step back.
const LOG_IDLE_AFTER: Duration = Duration::from_millis(50);

/// The rate, in bytes per second: at first, at least, at most.
const RATE_START: u64 = 64 << 20;
const RATE_MIN: u64 = 16 << 20;
const RATE_MAX: u64 = 4 << 30;

/// The rate changes no more often.
const RATE_INTERVAL: Duration = Duration::from_millis(10);

/// Flushes are slow when they take more than this part of the usual time longer, and more than so long.
const SLOW_DIVISOR: u64 = 2;
const SLOW_NS: u64 = 50_000;

/// The weight of what is known already against one more flush: of what is usual, if nobody disturbed that flush and if somebody did, and of what is recent.
/// Something may have changed for good: in the end disturbed flushes count, too.
const USUAL_WEIGHT: u64 = 256;
const DISTURBED_WEIGHT: u64 = 8192;
const RECENT_WEIGHT: u64 = 8;

/// A flush so long after somebody took something is not disturbed by it.
const DISTURBED_FOR: Duration = Duration::from_millis(20);

/// Whoever has taken nothing for so long is not at work.
const IDLE_AFTER: Duration = Duration::from_millis(100);

/// What was left over for so long can still be taken.
const BURST: Duration = Duration::from_millis(2);

/// The longest wait for one piece.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Shorter waits are put together.
const WAIT_MIN: Duration = Duration::from_micros(200);

/// A checkpoint waits less with every part of the memory for changed pages that is used above the first of these, in eighths, and not at all above the second.
const HURRY_EIGHTHS: (u64, u64) = (2, 4);

/// What background work is done for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Making changes durable in the tree.
    Checkpoint,
    /// Removing what is compacted.
    Compaction,
    /// Snapshots to and from other members.
    Snapshot,
    /// Backups that clients take.
    Backup,
    /// Proving pages.
    Scrub,
    /// Giving free pages back to the file system.
    GiveBack,
    /// Zeroing the log's next segment.
    Segment,
}

impl Use {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Checkpoint, Self::Compaction, Self::Snapshot, Self::Backup, Self::Scrub, Self::GiveBack, Self::Segment];

    /// As a label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Compaction => "compaction",
            Self::Snapshot => "snapshot",
            Self::Backup => "backup",
            Self::Scrub => "scrub",
            Self::GiveBack => "give-back",
            Self::Segment => "segment",
        }
    }

    fn weight(self) -> u64 {
        match self {
            Self::Checkpoint => 4,
            Self::Compaction | Self::Snapshot => 2,
            Self::Backup | Self::Scrub | Self::GiveBack | Self::Segment => 1,
        }
    }
}

/// One use's part.
#[derive(Clone, Copy, Default, Debug)]
struct Share {
    /// When what was taken is paid.
    paid_at: Instant,
    /// When something was last taken.
    taken_at: Option<Instant>,
}

#[derive(Debug)]
struct State {
    /// Bytes per second.
    rate: u64,
    rate_changed: Instant,
    /// Somebody has waited since.
    is_short: bool,
    /// A slow and a fast moving average of the flush time in nanoseconds.
    usual_ns: u64,
    recent_ns: u64,
    last_flush: Instant,
    last_taken: Option<Instant>,
    /// Bytes made durable since the start.
    log_bytes: u64,
    /// How much of the memory for changed pages is used, in thousandths.
    memory_used: u64,
    shares: [Share; Use::ALL.len()],
}

/// The budget of one shard. Executors take from it, too.
#[derive(Debug)]
pub struct Budget {
    state: Mutex<State>,
    taken_bytes: [Counter; Use::ALL.len()],
    waited_ns: [Counter; Use::ALL.len()],
    rate: Gauge,
}

/// What a scrape shows of one use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Its name.
    pub name: &'static str,
    /// Bytes read and written for it.
    pub bytes: u64,
    /// How long it waited, in nanoseconds.
    pub waited_ns: u64,
}

impl Default for Budget {
    fn default() -> Self {
        let state = State {
            rate: RATE_START,
            rate_changed: Instant::default(),
            is_short: false,
            usual_ns: 0,
            recent_ns: 0,
            last_flush: Instant::default(),
            last_taken: None,
            log_bytes: 0,
            memory_used: 0,
            shares: Default::default(),
        };
        let rate = Gauge::new();
        rate.set(RATE_START as i64);
        Self { state: Mutex::new(state), taken_bytes: Default::default(), waited_ns: Default::default(), rate }
    }
}

impl Budget {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch of the log took `flush_ns`.
    pub(crate) fn note_flush(&self, now: Instant, flush_ns: u64, bytes: u64) {
        let mut state = self.state();
        let is_disturbed = state.last_taken.is_some_and(|taken| now.since(taken) < DISTURBED_FOR);
        let weight = if is_disturbed { DISTURBED_WEIGHT } else { USUAL_WEIGHT };
        state.usual_ns = if state.usual_ns == 0 { flush_ns } else { towards(state.usual_ns, flush_ns, weight) };
        state.recent_ns = towards(state.recent_ns, flush_ns, RECENT_WEIGHT);
        state.last_flush = now;
        state.log_bytes += bytes;
        if now.since(state.rate_changed) < RATE_INTERVAL {
            return;
        }
        let slow_ns = state.usual_ns + (state.usual_ns / SLOW_DIVISOR).max(SLOW_NS);
        let rate = if state.recent_ns > slow_ns {
            state.rate - state.rate / 4
        } else if state.is_short {
            state.rate + state.rate / 8
        } else {
            state.rate
        };
        (state.rate, state.rate_changed, state.is_short) = (rate.clamp(RATE_MIN, RATE_MAX), now, false);
        self.rate.set(i64::try_from(state.rate).unwrap_or(i64::MAX));
    }

    /// Bytes that the log has made durable since the start.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.state().log_bytes
    }

    pub(crate) fn is_log_idle(&self, now: Instant) -> bool {
        self.state().is_log_idle(now)
    }

    /// How much of the memory for changed pages is used.
    pub(crate) fn note_memory(&self, used_bytes: u64, bytes_max: u64) {
        self.state().memory_used = used_bytes.saturating_mul(1000) / bytes_max.max(1);
    }

    /// Takes `bytes` that were, or are about to be, read or written, and says how long to wait.
    pub(crate) fn take(&self, now: Instant, what: Use, bytes: u64) -> Duration {
        self.taken_bytes[what as usize].add(bytes);
        let wait = self.state().take(now, what, bytes);
        self.waited_ns[what as usize].add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        wait
    }

    /// The same for what can't wait.
    pub(crate) fn note(&self, now: Instant, what: Use, bytes: u64) {
        self.taken_bytes[what as usize].add(bytes);
        self.state().last_taken = Some(now);
    }

    /// By use, since the start.
    pub fn taken(&self) -> impl Iterator<Item = Taken> {
        Use::ALL.into_iter().map(|what| Taken {
            name: what.name(),
            bytes: self.taken_bytes[what as usize].get(),
            waited_ns: self.waited_ns[what as usize].get(),
        })
    }

    /// What all may take together, in bytes per second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        u64::try_from(self.rate.get()).unwrap_or(0)
    }
}

fn towards(average: u64, value: u64, weight: u64) -> u64 {
    // Rounded up: a small difference is not forgotten for ever.
    if value > average {
        average + (value - average).div_ceil(weight)
    } else {
        average - (average - value).div_ceil(weight)
    }
}

impl State {
    fn is_log_idle(&self, now: Instant) -> bool {
        now.since(self.last_flush) > LOG_IDLE_AFTER
    }

    fn take(&mut self, now: Instant, what: Use, bytes: u64) -> Duration {
        self.last_taken = Some(now);
        self.shares[what as usize].taken_at = Some(now);
        if self.is_log_idle(now) {
            self.shares[what as usize].paid_at = now;
            return Duration::ZERO;
        }
        let is_at_work = |share: &Share| share.taken_at.is_some_and(|taken| now.since(taken) < IDLE_AFTER);
        let at_work = Use::ALL.into_iter().filter(|other| is_at_work(&self.shares[*other as usize]));
        let rate = self.rate * what.weight() / at_work.map(Use::weight).sum::<u64>();
        let price_ns = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        let price = Duration::from_nanos(u64::try_from(price_ns).unwrap_or(u64::MAX));
        let price = self.hurried(what, price);
        let share = &mut self.shares[what as usize];
        let since = Instant(now.0.saturating_sub(u64::try_from(BURST.as_nanos()).expect("it is short")));
        share.paid_at = (share.paid_at.max(since) + price).min(now + WAIT_MAX);
        let wait = share.paid_at.since(now);
        if wait < WAIT_MIN {
            return Duration::ZERO;
        }
        self.is_short = true;
        wait
    }

    /// What is left of a price when memory runs out.
    fn hurried(&self, what: Use, price: Duration) -> Duration {
        if what != Use::Checkpoint {
            return price;
        }
        let (from, to) = (HURRY_EIGHTHS.0 * 125, HURRY_EIGHTHS.1 * 125);
        let left = to.saturating_sub(self.memory_used).min(to - from);
        price.mul_f64(left as f64 / (to - from) as f64)
    }
}

#[cfg(test)]
mod tests;
