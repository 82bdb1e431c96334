//! Latencies: recorded in nanoseconds with three significant digits, told only as far as the samples carry.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The longest latency that is told apart; longer ones count as this.
const LATENCY_NS_MAX: u64 = 120_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// A percentile with fewer samples beyond it is noise.
const SAMPLES_BEYOND_MIN: f64 = 10.0;

/// Latencies of one run.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        let empty = Histogram::new_with_max(LATENCY_NS_MAX, SIGNIFICANT_DIGITS);
        Self(empty.expect("the bounds are constants that make sense"))
    }

    /// One more.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX));
    }

    /// All of another's.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that a fraction `quantile` of the samples does not exceed, in µs; `None` if fewer than 10 samples lie
    /// beyond it.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> Option<f64> {
        let beyond = self.0.len() as f64 * (1.0 - quantile);
        // A hair less, or 0.999 of 10,000 samples would fail by a rounding error.
        (beyond >= SAMPLES_BEYOND_MIN - 1e-6).then(|| self.0.value_at_quantile(quantile) as f64 / 1000.0)
    }

    /// The mean, in µs; 0 of none.
    #[must_use]
    pub fn mean_us(&self) -> f64 {
        self.0.mean() / 1000.0
    }

    /// The longest one, in µs.
    #[must_use]
    pub fn max_us(&self) -> f64 {
        self.0.max() as f64 / 1000.0
    }

    /// Pairs of a bucket's upper end in ns and its count, empty buckets left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.0.iter_recorded().map(|step| json!([step.value_iterated_to(), step.count_at_value()])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_told_only_with_ten_samples_beyond_it() {
        let mut latencies = Latencies::new();
        for us in 1..=1000 {
            latencies.record(Duration::from_micros(us));
        }
        let p50 = latencies.quantile_us(0.5).expect("500 samples lie beyond");
        assert!((499.0..502.0).contains(&p50), "{p50}");
        assert!(latencies.quantile_us(0.99).is_some(), "exactly ten lie beyond");
        assert_eq!(latencies.quantile_us(0.999), None);
    }

    #[test]
    fn json_keeps_every_sample() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_micros(5));
        latencies.record(Duration::from_secs(1000));
        let json = latencies.to_json();
        let counts = json.as_array().expect("a list").iter().map(|pair| pair[1].as_u64().expect("a count"));
        assert_eq!(counts.sum::<u64>(), 2);
    }
}
