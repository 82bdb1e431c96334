//! Counters, gauges and histograms that an executor owns and a scrape reads.
//!
//! Thread-per-core rule: each executor has its own set and is the only one that writes it; a scrape on any core reads
//! all sets and adds them up. Everything is relaxed: a scrape may see one number of an event and not yet the other,
//! never a wrong sum later.
//!
//! Invariant: counters and buckets never go back.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

/// Only goes up.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Starts at 0.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `count` more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Default, Debug)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Starts at 0.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Is `value` from now on.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Changes by `delta`.
    pub fn add(&self, delta: i64) {
        self.0.fetch_add(delta, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The upper bounds of a histogram's buckets, in the unit that is observed. One more bucket behind them takes the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bounds {
    /// `first`, `2 * first`, `4 * first`, ...: `count` bounds.
    Doubling {
        /// The first bound.
        first: u64,
        /// How many bounds.
        count: usize,
    },
    /// These, ascending.
    List(&'static [u64]),
}

impl Bounds {
    /// How many bounds there are.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::Doubling { count, .. } => count,
            Self::List(list) => list.len(),
        }
    }

    /// The bound of bucket `index`, which must be below [`Bounds::count`].
    #[must_use]
    pub fn bound(self, index: usize) -> u64 {
        assert!(index < self.count(), "bound {index} of {}", self.count());
        match self {
            Self::Doubling { first, .. } => first << index,
            Self::List(list) => list[index],
        }
    }

    /// The bucket that `value` belongs to: the first whose bound is not below it, else the one behind the last.
    #[must_use]
    pub fn bucket(self, value: u64) -> usize {
        match self {
            Self::Doubling { first, count } => {
                let quotient = value.div_ceil(first.max(1)).max(1);
                // The smallest n with 2^n >= quotient.
                let index = (u64::BITS - (quotient - 1).leading_zeros()) as usize;
                index.min(count)
            }
            Self::List(list) => list.partition_point(|&bound| bound < value),
        }
    }
}

/// 0.0001 s and 20 doublings, in nanoseconds: applies and ranges.
pub const APPLY_NS: Bounds = Bounds::Doubling { first: 100_000, count: 20 };
/// 0.001 s and 14 doublings, in nanoseconds: flushes, commits and requests.
pub const FLUSH_NS: Bounds = Bounds::Doubling { first: 1_000_000, count: 14 };
/// 16 µs and 14 doublings, in nanoseconds: a turn of a shard is short or something is wrong.
pub const TURN_NS: Bounds = Bounds::Doubling { first: 16_000, count: 14 };

/// 0.0001 s and 16 doublings, in nanoseconds: to a peer and back.
pub const ROUND_TRIP_NS: Bounds = Bounds::Doubling { first: 100_000, count: 16 };

/// 0.3125 ms and 14 doublings, in nanoseconds, 20 ms among them: heartbeats that are late.
pub const LATENESS_NS: Bounds = Bounds::Doubling { first: 312_500, count: 14 };

/// 0.1 s and 10 doublings, in nanoseconds: snapshots to other members.
pub const TRANSFER_NS: Bounds = Bounds::Doubling { first: 100_000_000, count: 10 };

/// 100 ms and 14 doublings, in milliseconds: sweeps.
pub const SWEEP_MS: Bounds = Bounds::Doubling { first: 100, count: 14 };
/// 1 s and 24 doublings, in seconds: TTLs of leases.
pub const TTL_SECONDS: Bounds = Bounds::Doubling { first: 1, count: 24 };

/// How observations spread over buckets.
#[derive(Debug)]
pub struct Histogram {
    bounds: Bounds,
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Empty, with these bounds.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let buckets = (0..=bounds.count()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum: AtomicU64::new(0) }
    }

    /// Counts one observation, in the unit of the bounds.
    pub fn observe(&self, value: u64) {
        self.buckets[self.bounds.bucket(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts one span of time; for histograms whose bounds are nanoseconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What was counted so far.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds,
            buckets: self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// The counts of one histogram, or of several added up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistogramSnapshot {
    /// The bounds of the buckets.
    pub bounds: Bounds,
    /// Observations per bucket, not cumulated; the last one takes what is above all bounds.
    pub buckets: Vec<u64>,
    /// The sum of all observations, in the unit of the bounds.
    pub sum: u64,
}

impl HistogramSnapshot {
    /// Nothing observed.
    #[must_use]
    pub fn empty(bounds: Bounds) -> Self {
        Self { bounds, buckets: vec![0; bounds.count() + 1], sum: 0 }
    }

    /// Adds what another executor counted. Both must have the same bounds.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.bounds, other.bounds, "only histograms of one kind can be added");
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// How many observations there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_that_is_not_below_it() {
        let bounds = Bounds::Doubling { first: 100, count: 4 };
        let expected =
            [(0, 0), (1, 0), (100, 0), (101, 1), (200, 1), (201, 2), (400, 2), (800, 3), (801, 4), (u64::MAX, 4)];
        for (value, bucket) in expected {
            assert_eq!(bounds.bucket(value), bucket, "{value}");
        }
        let list = Bounds::List(&[5, 10, 25]);
        for (value, bucket) in [(0, 0), (5, 0), (6, 1), (10, 1), (25, 2), (26, 3)] {
            assert_eq!(list.bucket(value), bucket, "{value}");
        }
    }

    #[test]
    fn both_kinds_of_bounds_agree_with_a_plain_search() {
        let mut prng = crate::Prng::new(3);
        for _ in 0..10_000 {
            let value = prng.next_u64() >> prng.below(64);
            let plain = (0..FLUSH_NS.count()).find(|&i| value <= FLUSH_NS.bound(i)).unwrap_or(FLUSH_NS.count());
            assert_eq!(FLUSH_NS.bucket(value), plain, "{value}");
        }
    }

    #[test]
    fn snapshots_of_executors_add_up() {
        let (a, b) = (Histogram::new(FLUSH_NS), Histogram::new(FLUSH_NS));
        a.observe_duration(Duration::from_millis(1));
        b.observe_duration(Duration::from_millis(3));
        b.observe_duration(Duration::from_secs(100));
        let mut sum = HistogramSnapshot::empty(FLUSH_NS);
        sum.merge(&a.snapshot());
        sum.merge(&b.snapshot());
        assert_eq!(sum.count(), 3);
        assert_eq!(sum.sum, 100_004_000_000);
        assert_eq!((sum.buckets[0], sum.buckets[2], sum.buckets[14]), (1, 1, 1));
    }

    #[test]
    fn counters_and_gauges_count() {
        let (counter, gauge) = (Counter::new(), Gauge::new());
        counter.inc();
        counter.add(4);
        gauge.set(3);
        gauge.add(-5);
        assert_eq!((counter.get(), gauge.get()), (5, -2));
    }
}
