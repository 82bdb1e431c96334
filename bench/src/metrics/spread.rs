//! What a histogram of Prometheus says of the times in it: no more than between which two bounds they lie.

use serde::{Deserialize, Serialize};

use super::Metrics;

/// Times that a server counted itself.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spread {
    /// How many.
    pub count: u64,
    /// Exact: histograms have the sum.
    pub mean_us: f64,
    /// Where the middle one lies.
    pub p50: Within,
    /// Where the 99th of a hundred lies; not with fewer than a hundred.
    pub p99: Option<Within>,
}

/// Between two bounds of a histogram.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Within {
    /// The lower bound, in µs.
    pub low_us: f64,
    /// The upper one; the last bucket has none.
    pub high_us: Option<f64>,
    /// If times were spread evenly between the bounds; the lower one where there is no upper one.
    pub estimate_us: f64,
}

/// Fewer have no 99th.
const P99_COUNT_MIN: u64 = 100;

impl Metrics {
    /// What a histogram without labels got since `before`; `None` if there is none, or nothing came.
    #[must_use]
    pub fn spread_since(&self, before: &Self, name: &str) -> Option<Spread> {
        let count = self.since(before, &format!("{name}_count"));
        let sum = self.since(before, &format!("{name}_sum"));
        let buckets = self.buckets_since(before, name);
        // A restart in between makes them less.
        if count < 1.0 || sum < 0.0 || buckets.iter().any(|(_, count)| *count < 0.0) {
            return None;
        }
        let p99 = (count >= P99_COUNT_MIN as f64).then(|| quantile(&buckets, 0.99)).flatten();
        Some(Spread { count: count as u64, mean_us: 1e6 * sum / count, p50: quantile(&buckets, 0.5)?, p99 })
    }
}

/// Where a quantile of buckets lies that have an upper bound in seconds and a count each.
#[must_use]
pub fn quantile(buckets: &[(f64, f64)], quantile: f64) -> Option<Within> {
    let wanted = quantile * buckets.iter().map(|(_, count)| count).sum::<f64>();
    let (mut below, mut low) = (0.0, 0.0);
    for (high, count) in buckets {
        if *count > 0.0 && below + count >= wanted {
            let estimate = if high.is_finite() { low + (high - low) * (wanted - below) / count } else { low };
            let high_us = Some(1e6 * high).filter(|high| high.is_finite());
            return Some(Within { low_us: 1e6 * low, high_us, estimate_us: 1e6 * estimate });
        }
        (below, low) = (below + count, *high);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(counts: [u64; 3], sum: f64) -> Metrics {
        let [first, second, all] = counts;
        Metrics(format!(
            "f_bucket{{le=\"0.001\"}} {first}\nf_bucket{{le=\"0.002\"}} {second}\nf_bucket{{le=\"+Inf\"}} {all}\nf_sum {sum}\nf_count {all}\n"
        ))
    }

    #[test]
    fn a_quantile_lies_between_the_bounds_of_its_bucket() {
        let before = scrape([7, 7, 7], 1.0);
        let spread = scrape([7, 207, 207], 1.3).spread_since(&before, "f").expect("200 came");
        assert_eq!(spread.count, 200);
        assert!((spread.mean_us - 1500.0).abs() < 1e-6);
        assert_eq!((spread.p50.low_us, spread.p50.high_us), (1000.0, Some(2000.0)));
        assert!((spread.p50.estimate_us - 1500.0).abs() < 1e-6);
        let slow = scrape([7, 7, 207], 9.0).spread_since(&before, "f").expect("200 came");
        assert_eq!(slow.p50, Within { low_us: 2000.0, high_us: None, estimate_us: 2000.0 });
    }

    #[test]
    fn what_did_not_happen_or_went_back_is_not_told() {
        let before = scrape([7, 7, 7], 1.0);
        assert_eq!(before.spread_since(&before, "f"), None);
        assert_eq!(before.spread_since(&before, "g"), None);
        assert_eq!(scrape([1, 1, 1], 0.1).spread_since(&before, "f"), None, "the server was started again");
        let few = scrape([57, 57, 57], 1.1).spread_since(&before, "f").expect("50 came");
        assert_eq!(few.p99, None);
    }
}
