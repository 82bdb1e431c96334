//! What a simulation is set to: latencies, faults and their probabilities, sizes.

use std::time::Duration;

use plinth_base::Prng;

/// A probability in millionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Chance(u32);

impl Chance {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// Always.
    pub const ALWAYS: Self = Self(1_000_000);

    /// `n` times in a million; more than a million is always.
    #[must_use]
    pub const fn per_million(n: u32) -> Self {
        Self(n)
    }

    /// Once in `n`; never if `n` is 0.
    #[must_use]
    pub const fn one_in(n: u32) -> Self {
        match 1_000_000u32.checked_div(n) {
            Some(millionths) => Self(millionths),
            None => Self::NEVER,
        }
    }

    /// Draws. A chance that can't happen draws nothing, so that switching a fault off doesn't shift the others' numbers.
    pub(crate) fn happens(self, prng: &mut Prng) -> bool {
        self.0 > 0 && prng.chance(u64::from(self.0), 1_000_000)
    }
}

/// How long one kind of operation takes: `base`, up to `jitter` more, and now and then `slow` on top.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Latency {
    /// The least it takes.
    pub base: Duration,
    /// Uniform in `0..jitter` comes on top.
    pub jitter: Duration,
    /// How often an operation is a slow one.
    pub slow_chance: Chance,
    /// What a slow one takes on top.
    pub slow: Duration,
}

impl Latency {
    /// Always exactly `base`.
    #[must_use]
    pub const fn fixed(base: Duration) -> Self {
        Self { base, jitter: Duration::ZERO, slow_chance: Chance::NEVER, slow: Duration::ZERO }
    }

    const fn micros(base: u64, jitter: u64, slow: u64) -> Self {
        Self {
            base: Duration::from_micros(base),
            jitter: Duration::from_micros(jitter),
            slow_chance: Chance::one_in(200),
            slow: Duration::from_micros(slow),
        }
    }

    pub(crate) fn draw_ns(&self, prng: &mut Prng) -> u64 {
        let jitter_ns = as_ns(self.jitter);
        let jitter = if jitter_ns == 0 { 0 } else { prng.below(jitter_ns) };
        let slow = if self.slow_chance.happens(prng) { as_ns(self.slow) } else { 0 };
        as_ns(self.base) + jitter + slow
    }
}

/// Latencies of the simulated disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Latencies {
    /// Reads, and loads of pages.
    pub read: Latency,
    /// Writes, without making them durable.
    pub write: Latency,
    /// `sync`, `sync_dir`, and the second half of a durable write.
    pub sync: Latency,
    /// Everything else: open, rename, allocate, ...
    pub meta: Latency,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            read: Latency::micros(60, 80, 5_000),
            write: Latency::micros(20, 60, 5_000),
            sync: Latency::micros(100, 200, 20_000),
            meta: Latency::micros(5, 20, 1_000),
        }
    }
}

/// What goes wrong, and how often. Changed at run time with [`Sim::change_faults`](crate::Sim::change_faults).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// A read fails with EIO.
    pub read_error: Chance,
    /// A write fails with EIO; none, some or all of its sectors were written.
    pub write_error: Chance,
    /// A sync fails with EIO. As on Linux, no later sync makes durable what this one should have.
    pub sync_error: Chance,
    /// `allocate` finds the device full although it isn't.
    pub storage_full: Chance,
    /// A page that was in memory has gone when it is asked for.
    pub page_miss: Chance,
    /// Loading pages fails with EIO.
    pub page_load_error: Chance,
    /// Loading a page brings what was there before its last write; the checksum must tell.
    pub page_stale: Chance,
    /// A crash flips one bit of one file.
    pub crash_bit_flip: Chance,
    /// `sync` and `write_durable` return without making anything durable: a test's proof that it would notice.
    pub lie_about_flush: bool,
    /// Opening with direct I/O fails with `Unsupported`.
    pub direct_unsupported: bool,
}

/// Everything a simulation is set to; together with the seed it determines the run.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// What goes wrong from the start.
    pub faults: Faults,
    /// How long the disk takes.
    pub latencies: Latencies,
    /// Size of the simulated disk in bytes.
    pub capacity_bytes: u64,
    /// Virtual time that one poll of a task takes.
    pub poll_cost: Duration,
    /// Time since the Unix epoch at the start.
    pub unix_start: Duration,
    /// Polls that one call of the driver may take before it stops with [`Stopped::Livelock`](crate::Stopped::Livelock).
    pub polls_max: u64,
}

impl Default for SimOptions {
    /// Latencies with jitter, now and then a page that is missing, no errors.
    fn default() -> Self {
        Self {
            faults: Faults { page_miss: Chance::one_in(100), ..Faults::default() },
            latencies: Latencies::default(),
            capacity_bytes: 16 << 30,
            poll_cost: Duration::from_nanos(500),
            unix_start: Duration::from_secs(1_700_000_000),
            polls_max: 50_000_000,
        }
    }
}

/// Kinds of operations, for planned faults.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OpKind {
    /// `read_at`.
    Read,
    /// `write_at` and `write_durable`.
    Write,
    /// `sync`, and the second half of a durable write with [`SyncMethod::LinkedSync`](plinth_env::SyncMethod::LinkedSync).
    Sync,
    /// `load_pages`.
    Load,
    /// `allocate`.
    Allocate,
    /// Everything else.
    Meta,
}

/// A duration in nanoseconds; longer than 584 years is as long as that.
pub(crate) fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
